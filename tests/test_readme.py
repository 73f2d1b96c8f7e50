"""The README's example runs as it stands, on tables of the columns that it names."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

README = Path(__file__).parents[1] / "README.md"


def test_from_a_table_to_recommendations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the users like comedies, the others do not; what is recommended is new to the user."""
    rng = np.random.default_rng(1)
    user, movie = np.divmod(rng.permutation(40 * 40)[:1000], 40)
    liked = (user % 2 == 0) == (movie < 20)
    rating = np.where(liked ^ (rng.random(1000) < 0.1), rng.integers(4, 6, 1000), rng.integers(1, 4, 1000))
    names = np.where(user == 0, "some user", [f"u{u}" for u in user])
    frame = {"user_id": names, "item_id": [f"m{m}" for m in movie], "rating": rating, "timestamp": np.arange(1000)}
    pl.DataFrame(frame).write_csv(tmp_path / "ratings.csv")
    titles = [f"{'A merry comedy' if m < 20 else 'A dark drama'}, part {m}" for m in range(40)]
    pl.DataFrame({"item_id": [f"m{m}" for m in range(40)], "title": titles}).write_csv(tmp_path / "movies.csv")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    seen = {titles[m] for u, m in zip(user.tolist(), movie.tolist(), strict=True) if u == 0}
    assert len(lines) == 10
    assert not any(line.rpartition(" ")[0] in seen for line in lines)
    assert sum("comedy" in line for line in lines) >= 7


def test_links_lead_somewhere() -> None:
    """Every file that the README and the documentation link to is there."""
    root = README.parent
    for page in (README, root / "CONTRIBUTING.md", *(root / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

"""`corella init`: what files mean, and settings that prepare them."""

import json
from pathlib import Path

import polars as pl
import pytest

from corella.config.loading import load_config
from corella.data.guessing.settings import write_settings
from corella.data.guessing.tables import guess_tables
from corella.data.prepare import prepare
from corella.errors import UserError

_RATINGS = [(f"{100 + n % 12}", f"{n % 9}", n % 5 + 1, 1_500_000_000 + n) for n in range(100)]
_MOVIES = [(f"{n}", f"Film, {n} (19{80 + n})", ["Drama", "War"] if n % 2 else ["Comedy"]) for n in range(9)]


def _prepared(paths: list[Path], out: Path) -> dict[str, object]:
    """Settings are guessed and written, and a dataset is prepared by them: what it has."""
    text, told = write_settings(paths)
    assert told
    (out.parent / "corella.yaml").write_text(text, encoding="utf-8")
    config = load_config(out.parent / "corella.yaml", overrides=["data.text.encoder=none", "data.duplicates=keep"])
    dataset = prepare(config.data, 1, out)
    return {
        "rows": dataset.seen.log.height, "users": dataset.users.height, "items": dataset.items.height,
        "label": dataset.config.label, "text": dataset.items.sort("item_id")["text"][0], "times": dataset.in_time_order,
    }  # fmt: skip


def test_two_csv_files(tmp_path: Path) -> None:
    pl.DataFrame(_RATINGS, schema=["userId", "movieId", "rating", "timestamp"], orient="row").write_csv(
        tmp_path / "ratings.csv"
    )
    movies = [(i, t, "|".join(g)) for i, t, g in _MOVIES]
    pl.DataFrame(movies, schema=["movieId", "title", "genres"], orient="row").write_csv(tmp_path / "movies.csv")
    for paths in (
        [tmp_path / "ratings.csv", tmp_path / "movies.csv"],
        [tmp_path / "movies.csv", tmp_path / "ratings.csv"],
    ):
        assert _prepared(paths, tmp_path / "out") == {
            "rows": 100, "users": 12, "items": 9, "label": "rating >= 4", "text": "Film, 0 (1980), Comedy",
            "times": True,
        }  # fmt: skip


def test_clicks_alone_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text("".join(f"{u}\t{i}\t{t}\n" for u, i, _, t in _RATINGS))
    found = _prepared([tmp_path / "log.tsv"], tmp_path / "out")
    assert (found["rows"], found["users"], found["items"], found["label"]) == (100, 12, 9, "clicks")


def test_json_lines_with_words_for_labels(tmp_path: Path) -> None:
    rows = [{"customer": u, "asin": i, "clicked": r > 3, "when": f"2020-01-{n % 28 + 1:02d}"}
            for n, (u, i, r, _) in enumerate(_RATINGS)]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = [{"asin": i, "name": t, "description": f"About {t}", "tags": g} for i, t, g in _MOVIES]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    found = _prepared([tmp_path], tmp_path / "out")
    assert (found["rows"], found["label"], found["text"]) == (100, "label", "Film, 0 (1980), Comedy")


_GENRES = 19


@pytest.mark.parametrize("form", ["u.data", "ratings.dat", "ratings.csv"])
def test_folders_of_grouplens(tmp_path: Path, form: str) -> None:
    """By their names: ml-100k, ml-1m and ml-10m, and the later ones."""
    folder = tmp_path / "ml"
    folder.mkdir()
    if form == "u.data":
        (folder / "u.data").write_text("".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in _RATINGS))
        flags = "|".join("1" if n == 5 else "0" for n in range(_GENRES))
        rows = "".join(f"{i}|Caf\u00e9 {t}|01-Jan-1995||http://x|{flags}\n" for i, t, _ in _MOVIES)
        (folder / "u.item").write_bytes(rows.encode("latin-1"))
        first = "Caf\u00e9 Film, 0, Comedy"
    elif form == "ratings.dat":
        (folder / "ratings.dat").write_text("".join(f"{u}::{i}::{r}::{t}\n" for u, i, r, t in _RATINGS))
        (folder / "movies.dat").write_text("".join(f"{i}::{t}::{'|'.join(g)}\n" for i, t, g in _MOVIES))
        first = "Film, 0, Comedy"
    else:
        text = "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in _RATINGS)
        (folder / "ratings.csv").write_text(text)
        rows = "".join(f'{i},"{t}",{"|".join(g) if i != "0" else "(no genres listed)"}\n' for i, t, g in _MOVIES)
        (folder / "movies.csv").write_text("movieId,title,genres\n" + rows)
        first = "Film, 0"
    found = _prepared([folder], tmp_path / "out")
    assert (found["rows"], found["users"], found["items"], found["text"]) == (100, 12, 9, first)
    (folder / {"u.data": "u.item", "ratings.dat": "movies.dat", "ratings.csv": "movies.csv"}[form]).unlink()
    config = load_config(settings={"data": {"source": "movielens", "path": str(folder)}})
    with pytest.raises(UserError, match=f"has {form} but no "):
        prepare(config.data, 1, tmp_path / "other")


def test_atomic_files(tmp_path: Path) -> None:
    rows = "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in _RATINGS)
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows)
    rows = "".join(f"{i}\t{t}\t{' '.join(g)}\n" for i, t, g in _MOVIES)
    (tmp_path / "x.item").write_text("item_id:token\tmovie_title:token_seq\tclass:token_seq\n" + rows)
    found = _prepared([tmp_path], tmp_path / "out")
    assert (found["rows"], found["text"]) == (100, "Film, 0 (1980), Comedy")


def test_files_without_users_beside_items(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId,title\n1,Heat\n2,Alien\n")
    with pytest.raises(
        UserError, match=r"no file has a column of users beside one of items \(.*movies\.csv: movieId, title"
    ):
        guess_tables([tmp_path / "movies.csv"])
    with pytest.raises(UserError, match="does not exist"):
        guess_tables([tmp_path / "none.csv"])

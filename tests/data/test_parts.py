"""A log prepared in parts is the dataset that memory makes, to the last bit; and a killed preparation goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from corella.config import DataConfig
from corella.data.dataset import Dataset
from corella.data.parts import prepare as parts
from corella.data.parts.cut import Cut, cut
from corella.data.prepare import prepare, prepare_in_parts
from corella.data.store import load_prepared
from corella.errors import UserError
from corella.tasks.running import Workers

ITEMS = pl.DataFrame(
    {
        "item_id": list("abcdefgh"), "title": [f"thing {n}" for n in "abcdefgh"], "brand": ["x", "y", None, "x"] * 2,
        "genres": [["A"], ["A", "B"], [], ["B"], None, ["C"], ["A", "C"], ["B"]],
    }
)  # fmt: skip


@contextmanager
def cut_into(rows: int, parts_: int, crowds: int, slices: int, pairs: int) -> Iterator[None]:
    """Tiny parts, whatever memory would allow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "cut", lambda *given: Cut(rows, parts_, crowds, slices, pairs))
        yield


def random_rows(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in rng.integers(0, 7, rows)],
            "item_id": rng.choice(list("abcdefgh?"), rows),  # one has no row in the table of items
            "rating": np.where(rng.random(rows) < 0.05, np.nan, rng.integers(1, 11, rows) / 2),
            "timestamp": 1_600_000_000 + rng.integers(0, rows, rows),  # ties
        }
    ).with_columns(label=pl.Series(rng.integers(0, 2, rows)))


def written(folder: Path, log: pl.DataFrame, files: int, **given: Any) -> DataConfig:
    """Settings of a log in several files, with all kinds of count groups."""
    (folder / "in").mkdir()
    for n, part in enumerate(np.array_split(np.arange(log.height), files)):
        log[part].write_parquet(folder / "in" / f"{n}.parquet")
    ITEMS.write_parquet(folder / "items.parquet")
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(6)], "age": ["old", "young", None] * 2})
    users.write_parquet(folder / "users.parquet")
    groups = [["user"], ["item"], ["user", "genres"], ["genres"], ["age", "brand"], ["user", "brand"], ["age"]]
    counts = {"groups": groups, "smoothing": 2.5, "neighbours": 3, **given.pop("counts", {})}
    return DataConfig.model_validate(
        {
            "source": "tables", "interactions": {"path": folder / "in"}, "items": {"path": folder / "items.parquet"},
            "users": {"path": folder / "users.parquet"}, "label": "label", "list_fields": ["genres"],
            "user_fields": ["age"], "text": {"encoder": "none"}, "counts": counts, **given,
        }
    )  # fmt: skip


def assert_same(found: Dataset, wanted: Dataset) -> None:
    for name in ("log", "users", "items"):
        assert_frame_equal(getattr(found, name), getattr(wanted, name), check_exact=True)
    np.testing.assert_array_equal(found.counts, wanted.counts)
    np.testing.assert_array_equal(found.popularity, wanted.popularity)
    assert (found.text is None) == (wanted.text is None)
    if found.text is not None and found.vectors is not None:
        np.testing.assert_array_equal(found.text, wanted.text)
        np.testing.assert_array_equal(found.vectors, wanted.vectors)
    ours, theirs = found.preparation, wanted.preparation
    assert (ours.facts, ours.splits, ours.extremes) == (theirs.facts, theirs.splits, theirs.extremes)
    assert {(d.reason, d.rows) for d in ours.dropped} == {(d.reason, d.rows) for d in theirs.dropped}


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    seed=st.integers(0, 10**6),
    files=st.integers(1, 3),
    sizes=st.tuples(st.integers(25, 60), *(st.integers(1, 4) for _ in range(4))),
    duplicates=st.sampled_from(["first", "last", "keep"]),
    min_history=st.integers(0, 2),
    order=st.sampled_from([["timestamp"], []]),
    dates=st.booleans(),
    neighbours=st.integers(0, 4),
    ratings=st.booleans(),
    texts=st.booleans(),
)
def test_the_same_as_in_memory(
    seed: int, files: int, sizes: tuple[int, int, int, int, int], duplicates: str, min_history: int, order: list[str],
    dates: bool, neighbours: int, ratings: bool, texts: bool,
) -> None:  # fmt: skip
    rows = random_rows(np.random.default_rng(seed), 120)
    split: dict[str, Any] = {"fractions": [0.6, 0.2, 0.2], "min_history": min_history}
    if dates and order:
        split = {"dates": ["2020-09-13T12:27:40", "2020-09-13T12:28:10"], "min_history": min_history}
    with TemporaryDirectory() as name, cut_into(*sizes):
        folder = Path(name)
        config = written(
            folder, rows, files, duplicates=duplicates, split=split, order=order,
            counts={"neighbours": neighbours, "ratings": ratings},
            text={"encoder": "tfidf", "width": 3, "history": 4, "neighbours": 3} if texts else {"encoder": "none"},
        )  # fmt: skip
        in_parts = config.model_copy(update={"memory": 1.0})
        try:
            prepare(config, 1, folder / "memory")
        except UserError:  # a part of the split has one class only
            with pytest.raises(UserError, match="rows have label"):
                prepare_in_parts(in_parts, 1, folder / "parts")
            return
        prepare_in_parts(in_parts, 1, folder / "parts")
        assert_same(load_prepared(folder / "parts"), load_prepared(folder / "memory"))
        assert not list(folder.glob(".parts*"))


def test_processes_and_what_a_kill_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes make the same; and after a fault in any stage, files made before it are not made again."""
    texts = {"encoder": "tfidf", "width": 3, "history": 4, "neighbours": 3}
    config = written(tmp_path, random_rows(np.random.default_rng(5), 200), 2, text=texts)
    in_parts = config.model_copy(update={"memory": 1.0})
    prepare(config, 1, tmp_path / "memory")
    with cut_into(60, 3, 2, 2, 3):
        prepare_in_parts(in_parts, 1, tmp_path / "two", Workers(2))
        for stage in ("by_user", "in_order", "totals", "all_said", "own_said", "pair_up", "gather"):
            with monkeypatch.context() as patch:
                patch.setattr(parts, stage, _fault)
                with pytest.raises(OSError, match="killed"):
                    prepare_in_parts(in_parts, 1, tmp_path / "resumed")
        with monkeypatch.context() as patch:
            patch.setattr(parts.EverybodysTexts, "write", _second_fault(parts.EverybodysTexts.write))
            with pytest.raises(OSError, match="killed"):
                prepare_in_parts(in_parts, 1, tmp_path / "resumed")
        with monkeypatch.context() as patch:
            patch.setattr(parts, "join", _fault)
            with pytest.raises(OSError, match="killed"):
                prepare_in_parts(in_parts, 1, tmp_path / "resumed")
        with monkeypatch.context() as patch:
            for stage in ("items_table", "read_rows", "users_table", "by_user", "in_order", "gather"):
                patch.setattr(parts, stage, _fault)
            prepare_in_parts(in_parts, 1, tmp_path / "resumed")
    for name in ("two", "resumed"):
        assert_same(load_prepared(tmp_path / name), load_prepared(tmp_path / "memory"))


def _second_fault(write: Any) -> Any:
    """The second part is never written."""

    def written_once(self: Any, task: Any, target: Path) -> dict[str, Any]:
        if task.start:
            raise OSError("killed")
        return dict(write(self, task, target))

    return written_once


def _fault(task: object, target: Path) -> dict[str, Any]:
    raise OSError("killed")


def test_other_settings_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path, random_rows(np.random.default_rng(6), 80), 1)
    with cut_into(40, 2, 2, 1, 1):
        with monkeypatch.context() as patch:
            patch.setattr(parts, "join", _fault)
            with pytest.raises(OSError, match="killed"):
                prepare_in_parts(config.model_copy(update={"memory": 1.0}), 1, tmp_path / "out")
        other = config.model_copy(update={"duplicates": "keep"})
        prepare_in_parts(other.model_copy(update={"memory": 1.0}), 1, tmp_path / "out")
    prepare(other, 1, tmp_path / "memory")
    assert_same(load_prepared(tmp_path / "out"), load_prepared(tmp_path / "memory"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"split": {"by": "user"}}, "only `by: time`"),
        ({"strict_time": True}, "data.strict_time"),
        ({"duplicates": "error"}, r"1.parquet, row 1: this user and this item come more than once"),
        ({"split": {"dates": ["2030-01-01", "2031-01-01"]}}, "no valid rows"),
        ({"memory": 0.1}, "0.1 GiB for 1 processes is too little"),
    ],
)
def test_what_is_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    log = random_rows(np.random.default_rng(7), 60).filter(pl.col("item_id") != "?").unique(["user_id", "item_id"])
    log = pl.concat([log, log[:1]])
    folder = tmp_path / "in"
    config = written(tmp_path, log, 1, **{"memory": 1.0, **given})
    log[:-1].write_parquet(folder / "0.parquet")
    log[-1:].write_parquet(folder / "1.parquet")
    with pytest.raises(UserError, match=said):
        prepare_in_parts(config, 1, tmp_path / "out")


def test_parts_fit_the_memory() -> None:
    """Twice the memory, half the parts; twice the rows, twice the parts."""
    config = DataConfig.model_validate(
        {"source": "tables", "interactions": {"path": "in"}, "memory": 2.35, "counts": {"neighbours": 0}}
    )
    small = cut(10**8, config, 1)
    assert small.rows * small.parts >= 10**8 and small.crowds > small.parts and small.slices == small.pairs == 1
    double = cut(2 * 10**8, config, 1)
    assert double.rows == small.rows and double.parts in (2 * small.parts - 1, 2 * small.parts)
    assert cut(10**8, config.model_copy(update={"memory": 4.35}), 1).rows == pytest.approx(2 * small.rows, rel=1e-3)
    assert cut(10**8, config.model_copy(update={"memory": 4.7}), 2).rows == pytest.approx(small.rows, rel=1e-3)

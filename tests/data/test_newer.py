"""A day more: what is added to a log prepared in parts is what preparing everything again gives."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from test_parts import ITEMS, cut_into, random_rows, written

from corella.config import DataConfig
from corella.data.dataset import Dataset
from corella.data.prepare import prepare_in_parts
from corella.data.store import load_prepared
from corella.errors import UserError

BEGIN = 1_600_000_000
DATES = {"dates": ["2020-09-13T12:27:40", "2020-09-13T12:28:10"]}
"""60 and 90 seconds behind the first row that may be."""


def with_a_day(folder: Path, rows: pl.DataFrame, until: int, **given: Any) -> tuple[DataConfig, Path, Path]:
    """Settings of a log whose rows from second `until` on came later; its dataset with the day added, and one of all
    rows."""
    early, late = rows.filter(pl.col("timestamp") < BEGIN + until), rows.filter(pl.col("timestamp") >= BEGIN + until)
    config = written(folder, early, 2, memory=1.0, **given)
    prepare_in_parts(config, 1, folder / "added")
    late.write_parquet(folder / "in" / "9.parquet")
    prepare_in_parts(config, 1, folder / "added")
    prepare_in_parts(config, 1, folder / "whole")
    return config, folder / "added", folder / "whole"


def assert_same_rows(found: Dataset, wanted: Dataset) -> None:
    """The same but for the numbers of users and items, which are those of the tables."""
    codes = ["user", "item"]
    assert_frame_equal(found.log.drop(codes), wanted.log.drop(codes), check_exact=True)
    for name, key in (("users", "user_id"), ("items", "item_id")):
        table = getattr(found, name)
        assert_frame_equal(table.sort(key), getattr(wanted, name).sort(key), check_exact=True)
        assert table[key].gather(found.log[name[:-1]]).to_list() == found.log[key].to_list()
    np.testing.assert_array_equal(found.counts, wanted.counts)
    np.testing.assert_array_equal(found.popularity, wanted.popularity)
    ours, theirs = found.preparation, wanted.preparation
    assert (ours.facts, ours.splits, ours.extremes) == (theirs.facts, theirs.splits, theirs.extremes)
    assert ours.fingerprint == theirs.fingerprint


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    seed=st.integers(0, 10**6),
    until=st.integers(65, 118),
    duplicates=st.sampled_from(["first", "keep"]),
    min_history=st.integers(0, 2),
    neighbours=st.integers(0, 4),
    described=st.booleans(),
)
def test_the_same_as_everything_again(
    seed: int, until: int, duplicates: str, min_history: int, neighbours: int, described: bool
) -> None:
    rows = random_rows(np.random.default_rng(seed), 120)
    groups = [["user"], ["item"], ["user", "genres"], ["user", "item"]]
    given_counts = {"neighbours": neighbours, "groups": groups}
    tables: dict[str, Any] = {} if described else {"users": None, "items": None, "user_fields": [], "list_fields": []}
    if not described:
        given_counts["groups"] = [["user"], ["item"]]
        tables["item_text"] = "{title}"
    with TemporaryDirectory() as name, cut_into(40, 3, 2, 2, 3):
        try:
            _, added, whole = with_a_day(
                Path(name), rows, until, duplicates=duplicates, split={**DATES, "min_history": min_history},
                counts=given_counts, **tables,
            )  # fmt: skip
        except UserError as error:  # a part of the split has one class only, or none
            assert "split by time" in str(error)
            return
        assert len(list((added / "log").iterdir())) == 4  # three parts, and the day
        assert_same_rows(load_prepared(added), load_prepared(whole))


@pytest.mark.parametrize(
    "what",
    [
        "an older row",
        "a changed file",
        "other settings",
        "a kill",
        "a new item where brands are counted",
        "a lost item",
    ],
)
def test_what_changes_the_past_is_prepared_again(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(np.random.default_rng(8), 300).with_columns(timestamp=BEGIN + pl.int_range(pl.len()) * 0.4)
    rows = rows if what == "a lost item" else rows.filter(pl.col("item_id") != "?")
    early, late = rows.filter(pl.col("timestamp") < BEGIN + 110), rows.filter(pl.col("timestamp") >= BEGIN + 110)
    groups = [["user"], ["item"], *([["brand"]] if "brands" in what else [])]
    config = written(
        tmp_path, early, 2, memory=1.0, split=DATES, duplicates="keep", counts={"groups": groups, "neighbours": 2}
    )
    with cut_into(60, 2, 2, 1, 2):
        prepare_in_parts(config, 1, tmp_path / "out")
        late.write_parquet(tmp_path / "in" / "9.parquet")
        if what == "an older row":
            pl.concat([late, early[:1]]).write_parquet(tmp_path / "in" / "9.parquet")
        elif what == "a changed file":
            early[1:120].write_parquet(tmp_path / "in" / "0.parquet")
        elif what == "other settings":
            config = config.model_copy(update={"label": "rating >= 3"})
        elif what in ("a new item where brands are counted", "a lost item"):
            new = ITEMS[:1].with_columns(item_id=pl.lit("?"), brand=pl.lit("a new one"))
            pl.concat([ITEMS, new]).write_parquet(tmp_path / "items.parquet")
        elif what == "a kill":
            with monkeypatch.context() as patch:
                patch.setattr("corella.data.prepare.write_manifest", _fault)
                with pytest.raises(OSError, match="killed"):
                    prepare_in_parts(config, 1, tmp_path / "out")
        prepare_in_parts(config, 1, tmp_path / "out")
        prepare_in_parts(config, 1, tmp_path / "whole")
    assert_same_rows(load_prepared(tmp_path / "out"), load_prepared(tmp_path / "whole"))


def _fault(*given: object) -> None:
    raise OSError("killed")

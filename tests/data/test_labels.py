"""Labels, clicks and ratings as people write them."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from corella.columns import RawTables
from corella.config import DataConfig
from corella.data.clean import clean
from corella.data.dataset import Dataset
from corella.data.ids import id_text, id_warnings
from corella.data.negatives import with_negatives
from corella.data.prepare import prepare, read_raw
from corella.errors import UserError

Settings = Callable[..., DataConfig]
Raw = Callable[..., RawTables]


@pytest.mark.parametrize(
    ("written", "wanted", "warned"),
    [
        (["1", "0", "1", "0"], [1, 0, 1, 0], ""),
        (["True", "false", "TRUE", "F"], [1, 0, 1, 0], ""),
        ([True, False, True, False], [1, 0, 1, 0], ""),
        (["yes", "No", "y", "n"], [1, 0, 1, 0], ""),
        (["-1", "1", "1", "-1"], [0, 1, 1, 0], "-1 is read as 0"),
        ([-1, 1, 1, -1], [0, 1, 1, 0], "-1 is read as 0"),
        (["1", "", "1", None], [1, 0, 1, 0], "2 blanks are read as 0"),
        ([1, None, 1, None], [1, 0, 1, 0], "2 blanks are read as 0"),
    ],
)
def test_labels(settings: Settings, raw_tables: Raw, written: list[Any], wanted: list[int], warned: str) -> None:
    log = pl.DataFrame({"user_id": list("uuvv"), "item_id": list("abab"), "label": written})
    cleaned, _, _, ledger = clean(raw_tables(log), settings(order=[]))
    assert cleaned["label"].to_list() == wanted
    assert any(warned in said for said in ledger.warnings) if warned else ledger.warnings == []


@pytest.mark.parametrize("written", [["1", "2", "2", "1"], [-1, 0, 2, -1]])
def test_labels_that_need_a_rule_are_refused(settings: Settings, raw_tables: Raw, written: list[Any]) -> None:
    log = pl.DataFrame({"user_id": list("uuvv"), "item_id": list("abab"), "label": written})
    with pytest.raises(UserError, match=r"log\.csv, row \d: the labels are .*, not 0 and 1; .* `data\.label: label > "):
        clean(raw_tables(log), settings(order=[]))
    cleaned = clean(raw_tables(log), settings(order=[], label="label > 1"))[0]
    assert cleaned["label"].to_list() == [int(float(value) > 1) for value in written]


def test_a_rating_far_beyond_the_scale_is_named(settings: Settings, raw_tables: Raw) -> None:
    ratings = [1, 2, 3, 4, 5] * 8
    log = pl.DataFrame({"user_id": ["u"] * 40, "item_id": [f"i{n}" for n in range(40)], "rating": ratings})
    wrong = pl.concat([log, pl.DataFrame({"user_id": ["u"], "item_id": ["x"], "rating": [999]})])
    cleaned, _, _, ledger = clean(raw_tables(wrong), settings(order=[], label="rating >= 4"))
    assert cleaned["rating"].max() == 5
    assert ledger.dropped[0].reason == "rating far beyond the scale of the others, 1 to 5"
    plays = log.with_columns(rating=pl.int_range(40) ** 3)  # counts have no scale
    assert clean(raw_tables(plays), settings(order=[], label="rating >= 4"))[0].height == 40


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (["1001.0", "1002", " 1003 "], ["1001", "1002", "1003"]),
        ([1001.0, None, 1002.5], ["1001", None, "1002.5"]),
        ([1001, 1002], ["1001", "1002"]),
        (["1.0", "1.0.1"], ["1.0", "1.0.1"]),
        (["007", "7.0"], ["007", "7"]),
        ([float("nan"), 3.0], [None, "3"]),
    ],
)
def test_ids_are_text_by_one_rule(ids: list[Any], wanted: list[str | None]) -> None:
    assert id_text(pl.Series("user_id", ids, strict=False)).to_list() == wanted


def test_ids_that_may_be_wrong_are_told() -> None:
    assert "neighbouring ids are the same number" in id_warnings(pl.Series("i", [2.0**60]), "log")[0]
    assert "e.g. 'a '" in id_warnings(pl.Series("i", ["a ", "b"]), "log")[0]
    assert "'1.0' beside 'b'" in id_warnings(pl.Series("i", ["1.0", "b"]), "log")[0]


def _clicks(rows: int = 300) -> pl.DataFrame:
    """Users 0 to 19 click on the items 0 to 29 in turn, some more often than others."""
    return pl.DataFrame(
        {
            "user_id": [f"u{(7 * n) % 20}" for n in range(rows)], "item_id": [f"i{(n * n) % 30}" for n in range(rows)],
            "timestamp": [1_600_000_000 + 60 * n for n in range(rows)],
        }
    )  # fmt: skip


def test_negatives_were_there_and_had_not_been_clicked() -> None:
    log = _clicks().with_columns(label=pl.lit(1, pl.Int8), split=pl.lit("train"))
    found = with_negatives(log, 2, seed=1)
    assert found.filter(~pl.col("drawn")).drop("drawn").equals(log)
    first, clicked = dict[str, int](), set[tuple[str, str]]()
    number = 0
    for row in found.iter_rows(named=True):
        if row["drawn"]:
            number += 1
            assert row["label"] == 0 and first[row["item_id"]] <= row["timestamp"]
            assert (row["user_id"], row["item_id"]) not in clicked
        else:
            first.setdefault(row["item_id"], row["timestamp"])
            clicked.add((row["user_id"], row["item_id"]))
    assert 0.8 * 2 * log.height < number <= 2 * log.height
    assert found.equals(with_negatives(log, 2, seed=1)) and not found.equals(with_negatives(log, 2, seed=2))


def test_a_negative_sees_what_its_click_sees(settings: Settings, tmp_path: Any) -> None:
    """Whatever stands between them: no feature but the item's own can tell them apart."""
    _clicks().write_csv(tmp_path / "log.csv")
    config = settings(
        interactions={"path": str(tmp_path / "log.csv")}, label="clicks", duplicates="keep", text={"encoder": "none"}
    )
    dataset: Dataset = prepare(config, 1, tmp_path / "out")
    drawn = dataset.log["drawn"].to_numpy()
    here = drawn.nonzero()[0]
    click = here + 1  # with one negative each, its click stands right behind it
    assert not drawn[click].any()
    samples, own = dataset.samples(here), [dataset.count_names.index(n) for n in ("user_answers", "user_log_seconds")]
    clicks = dataset.samples(click)
    assert (samples.history_end == clicks.history_end).all()
    assert (samples.counts[:, own] == clicks.counts[:, own]).all()
    assert dataset.seen.log.height == 300 and dataset.config.counts.clicks
    assert [part.positive for part in dataset.preparation.splits] == pytest.approx([0.5, 0.5, 0.5], abs=0.03)
    assert any("for every click 1 of the items" in said for said in dataset.preparation.warnings)


def test_a_log_with_more_than_clicks_is_not_taken_for_clicks(settings: Settings, raw_tables: Raw) -> None:
    log = _clicks(40).with_columns(stars=pl.lit(5))
    with pytest.raises(UserError, match=r"no column 'rating'.*or write `data\.label: clicks`"):
        clean(raw_tables(log), settings(label="rating >= 4"))
    cleaned = clean(raw_tables(log), settings(label="clicks"))[0]
    assert cleaned["label"].unique().to_list() == [1]


def test_a_session_a_row_is_taken_apart(settings: Settings, raw_tables: Raw) -> None:
    log = pl.DataFrame({
        "user_id": ["u", "v"], "item_id": [["a", "b"], ["a"]], "label": [[1, 0], [0]], "timestamp": [[1, 2], [3]],
    })  # fmt: skip
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"]})
    cleaned, _, _, ledger = clean(raw_tables(log, items), settings())
    assert cleaned.select("user_id", "item_id", "label", "timestamp").rows() == [
        ("u", "a", 1, 1), ("u", "b", 0, 2), ("v", "a", 0, 3),
    ]  # fmt: skip
    assert "2 rows are read as 3 interactions" in ledger.warnings[0]
    uneven = log.with_columns(timestamp=pl.Series([[1], [3]]))
    with pytest.raises(UserError, match=r"log\.csv, row 2: 2 entries in 'item_id', 1 in 'timestamp'"):
        clean(raw_tables(uneven, items), settings())


def test_a_dropped_row_of_several_files_is_named_with_its_file(settings: Settings, tmp_path: Any) -> None:
    (tmp_path / "log-1.csv").write_text("user_id,item_id,label\nu,a,1\nu,b,0\n")
    (tmp_path / "log-2.csv").write_text("user_id,item_id,label\nv,a,1\nv,b,maybe\n")
    (tmp_path / "items.csv").write_text("item_id,title\na,A\nb,B\n")
    config = settings(
        interactions={"path": str(tmp_path / "log-*.csv")}, items={"path": str(tmp_path / "items.csv")}, order=[]
    )
    _, _, _, ledger = clean(read_raw(config), config)
    assert ledger.dropped[0].first == "log-2.csv, row 3, column label: 'maybe'"

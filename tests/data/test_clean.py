"""What is dropped is counted and named; what makes a dataset useless is an error that says what to do."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest

from corella.columns import RawTables, long_texts
from corella.config import DataConfig
from corella.data.clean import clean
from corella.data.dataset import Dataset
from corella.data.ledger import Ledger
from corella.data.preparation import Dropped
from corella.data.split import tied_share
from corella.data.times import epoch_seconds, exact_seconds
from corella.errors import UserError

Clean = Callable[..., tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, Ledger]]


@pytest.fixture
def run(settings: Callable[..., DataConfig], raw_tables: Callable[..., RawTables]) -> Clean:
    def make(
        log: pl.DataFrame, items: pl.DataFrame | None = None, users: pl.DataFrame | None = None, **given: Any
    ) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, Ledger]:
        return clean(raw_tables(log, items, users), settings(**{"label": "rating >= 4", **given}))

    return make


@pytest.fixture
def log() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": ["u", "u", "v", "v"],
            "item_id": ["a", "b", "a", "b"],
            "rating": ["5", "4", "3", "1"],
            "timestamp": ["40", "30", "20", "10"],
        }
    )


@pytest.mark.parametrize(
    ("rule", "labels"),
    [
        ("rating >= 4", [1, 1, 0, 0]), ("rating > 4", [1, 0, 0, 0]), ("rating <= 3", [0, 0, 1, 1]),
        ("rating < 3", [0, 0, 0, 1]), ("rating == 3.0", [0, 0, 1, 0]),
    ],
)  # fmt: skip
def test_label_rules(run: Clean, log: pl.DataFrame, rule: str, labels: list[int]) -> None:
    cleaned, _, _, ledger = run(log, label=rule)
    assert cleaned["label"].to_list() == labels
    assert cleaned.schema["rating"] == pl.Float64
    assert cleaned.schema["timestamp"] == pl.Int64
    assert ledger.facts == {"interactions read": 4}
    assert ledger.dropped == []


def test_a_label_column_is_not_passed_over_in_silence(run: Clean, log: pl.DataFrame) -> None:
    labelled = log.with_columns(label=pl.Series([1, 0, 0, 1]))
    cleaned, _, _, ledger = run(labelled, label="rating >= 4")
    assert cleaned["label"].to_list() == run(log, label="rating >= 4")[0]["label"].to_list()
    (warning,) = [w for w in ledger.warnings if "label" in w]
    assert "'label' is not read, since data.label is 'rating >= 4'" in warning
    with pytest.raises(UserError, match=r"set data\.label: label to take the answers from the column 'label'"):
        run(labelled.drop("rating"), label="rating >= 4")


def test_label_column(run: Clean, log: pl.DataFrame) -> None:
    labelled = log.with_columns(label=pl.Series(["1", "0", "2", "1"]))
    cleaned, _, _, ledger = run(labelled, label="label")
    assert cleaned["label"].to_list() == [1, 0, 1]
    assert cleaned["rating"].to_list() == [5.0, 4.0, 1.0]  # numbers here too
    assert ledger.dropped == [Dropped("label is neither 0 nor 1", 1, "log.csv, row 4, column label: 2.0")]


def test_missing_columns_are_named(run: Clean, log: pl.DataFrame) -> None:
    items = pl.DataFrame({"item_id": ["a", "b"], "name": ["A", "B"]})
    cases: list[tuple[pl.DataFrame, dict[str, Any], str]] = [
        (log.rename({"user_id": "userid"}), {}, r"log\.csv: no column 'user_id'; did you mean 'userid'\?"),
        (log.rename({"rating": "ratings"}), {}, r"no column 'rating'; did you mean 'ratings'\?"),
        (log.rename({"timestamp": "times"}), {}, "no column 'timestamp'"),
        (log, {"items": items}, r"items\.csv: no column 'title'; valid names: item_id, name"),
        (log, {"split": {"by": "column"}}, "no column 'split'"),
        (log, {"user_fields": ["gender"]}, "no column 'gender'"),
        (log, {"item_fields": ["titel"]}, r"items\.csv: no column 'titel'; did you mean 'title'\?"),
    ]
    for frame, given, message in cases:
        with pytest.raises(UserError, match=message):
            run(frame, **given)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("rating", "five", "not a number"), ("rating", "nan", "not a number"),
        ("rating", "inf", "not a number"),
        ("timestamp", "monday", "not a time"), ("user_id", "", "empty id"), ("item_id", None, "empty id"),
    ],
)  # fmt: skip
def test_bad_rows_are_dropped_counted_and_named(
    run: Clean, log: pl.DataFrame, column: str, value: str | None, reason: str
) -> None:
    row = pl.int_range(pl.len()) == 2
    cleaned, _, _, ledger = run(log.with_columns(pl.when(row).then(pl.lit(value)).otherwise(column).alias(column)))
    assert cleaned.height == 3
    assert ledger.dropped == [Dropped(reason, 1, f"log.csv, row 4, column {column}: {value!r}")]


def test_when_nothing_is_left_the_reasons_are_given(run: Clean, log: pl.DataFrame) -> None:
    with pytest.raises(
        UserError, match=r"no row is left; 4 rows dropped: not a number \(log\.csv, row 2, column rating: 'x'"
    ):
        run(log.with_columns(rating=pl.lit("x")))


def test_unknown_item_and_empty_text(run: Clean, log: pl.DataFrame) -> None:
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", " "]})
    more = pl.concat([log, log.with_columns(item_id=pl.lit("z"))])
    cleaned, _, kept, ledger = run(more, items)
    assert kept["item_id"].to_list() == ["a"]
    assert cleaned["item_id"].to_list() == ["a", "a"]
    assert ledger.dropped[0].first == "items.csv, row 3, column title: ' '"
    assert ledger.dropped[1] == Dropped(
        "item without a row or a text in the item table, where ids are like 'a'",
        6,
        "log.csv, row 3, column item_id: 'b'",
    )


def test_no_item_table(
    settings: Callable[..., DataConfig], raw_tables: Callable[..., RawTables], log: pl.DataFrame
) -> None:
    """Items are known by their ids alone then, and that is told."""
    raw = raw_tables(log)
    _, _, items, ledger = clean(RawTables(raw.interactions, None, None, raw.names), settings(label="rating >= 4"))
    assert items.select("item_id", "title", "text").rows() == [("a", "a", "a"), ("b", "b", "b")]
    assert any("no item table (data.items): an item's text is its id" in said for said in ledger.warnings)


def test_texts_join_lists_and_fill_what_is_missing(run: Clean, log: pl.DataFrame) -> None:
    items = pl.DataFrame(
        {"item_id": ["a", "b"], "title": ["A\n film", "B"], "genres": [["X", "Y"], []], "year": [1990, None]}
    )
    _, _, kept, _ = run(log, items, list_fields=["genres"], item_text="{title} ({year}), {genres}")
    assert kept["text"].to_list() == ["A film (1990), X Y", "B (unknown)"]


def test_repeated_and_empty_rows_of_the_item_table(run: Clean, log: pl.DataFrame) -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "a", None], "title": ["A", "B", "A again", "nobody"]})
    _, _, kept, ledger = run(log, items)
    assert kept.select("item_id", "title").rows() == [("a", "A"), ("b", "B")]
    assert [d.reason for d in ledger.dropped] == [
        "empty id",
        "item_id comes more than once; the first is kept",
    ]


def test_users_without_a_row_are_kept_and_warned_of(run: Clean, log: pl.DataFrame) -> None:
    users = pl.DataFrame({"user_id": ["u", "w"], "city": ["Rome", "Oslo"]})
    cleaned, kept, _, ledger = run(log, None, users, user_fields=["city"])
    assert cleaned.height == 4
    assert kept.select("user_id", "city").rows() == [("u", "Rome"), ("v", None)]
    assert (
        "1 users of the interactions have no row in users.csv, e.g. 'v' (ids there are like 'u', 'w')"
        in ledger.warnings[-1]
    )


@pytest.mark.parametrize(
    ("keep", "times"), [("first", [10, 20, 35]), ("last", [20, 30, 35]), ("keep", [10, 20, 30, 35])]
)
def test_duplicates_are_first_and_last_in_order_of_time(run: Clean, keep: str, times: list[int]) -> None:
    log = pl.DataFrame(
        {
            "user_id": ["u", "u", "u", "v"],
            "item_id": ["a", "b", "a", "a"],
            "rating": [5, 1, 1, 4],
            "timestamp": [30, 20, 10, 35],
        }
    )
    cleaned, _, _, ledger = run(log, duplicates=keep)
    assert sorted(cleaned["timestamp"]) == times
    assert len(ledger.dropped) == (keep != "keep")


def test_duplicates_as_an_error(run: Clean, log: pl.DataFrame) -> None:
    assert run(log, duplicates="error")[0].height == 4
    with pytest.raises(UserError, match=r"log\.csv, row \d: user 'v' and item 'b' come more than once; set data\.dupl"):
        run(pl.concat([log, log.tail(1)]), duplicates="error")


def test_one_class_only(run: Clean, log: pl.DataFrame) -> None:
    with pytest.raises(UserError, match="with the label rule 'rating >= 1' every row has label 1"):
        run(log, label="rating >= 1")


def test_datetimes_become_seconds(run: Clean, log: pl.DataFrame) -> None:
    times = pl.from_epoch(pl.col("timestamp").cast(pl.Int64))
    cleaned, _, _, _ = run(log.with_columns(times))
    assert cleaned["timestamp"].to_list() == [40, 30, 20, 10]


def test_bad_split_value_is_dropped(run: Clean, log: pl.DataFrame) -> None:
    log = log.with_columns(split=pl.Series(["train", "val", "Test", "exam"]))
    cleaned, _, _, ledger = run(log, split={"by": "column"})
    assert cleaned["split"].to_list() == ["train", "valid", "test"]
    assert ledger.dropped[0].first == "log.csv, row 5, column split: 'exam'"
    assert "log.csv: column split: 'val' as valid, 'Test' as test" in ledger.warnings


def test_a_list_field_must_be_a_list(run: Clean, log: pl.DataFrame) -> None:
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "genres": ["X|Y", "Z"]})
    with pytest.raises(UserError, match=r"column 'genres' is not a list; name its separator in data\.items\.lists"):
        run(log, items, list_fields=["genres"])


def test_lists_need_not_be_fields_nor_text(run: Clean, log: pl.DataFrame) -> None:
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "codes": [[1, 2], []]})
    _, _, kept, _ = run(log, items, item_text="{title} {codes}")
    assert kept["text"].to_list() == ["A 1 2", "B"]


def test_broken_template(run: Clean, log: pl.DataFrame) -> None:
    with pytest.raises(UserError, match=r"text template '\{title': .*write names of columns in braces"):
        run(log, item_text="{title")


def test_core_goes_on_until_nothing_more_falls(run: Clean) -> None:
    """Item c has one row; without it user v has one, so v falls too, and with v item b."""
    pairs = ["ua", "ub", "wa", "wb", "wd", "ud", "vb", "vc", "xa", "xd"]
    columns = {"user_id": [p[0] for p in pairs], "item_id": [p[1] for p in pairs]}
    log = pl.DataFrame({**columns, "rating": [5, 4] * 5, "timestamp": range(10)})
    cleaned, users, items, ledger = run(log, core=2, label="rating >= 5")
    assert sorted(zip(cleaned["user_id"], cleaned["item_id"], strict=True)) == sorted(
        (p[0], p[1]) for p in pairs if p not in ("vb", "vc")
    )
    assert users["user_id"].to_list() == ["u", "w", "x"]
    assert items["item_id"].to_list() == ["a", "b", "d"]
    assert [d.rows for d in ledger.dropped] == [2]


def test_only_likes(run: Clean, log: pl.DataFrame) -> None:
    cleaned, _, _, ledger = run(log, only_likes=True)
    assert cleaned["label"].to_list() == [1, 1]
    assert ledger.dropped[0].rows == 2


def test_times_of_every_kind() -> None:
    """The same moment, 2020-01-01 10:00:00.25 UTC, and what is none."""
    moment, exact = 1577872800, 1577872800.25
    texts = [
        "2020-01-01 10:00:00.25", "2020-01-01T10:00:00.25Z", "2020-01-01 10:00:00.25 UTC",
        "2020-01-01T11:00:00.25+01:00",
        "2020-01-01 05:00:00.25-0500", "2020-01-01 12:00:00.25+02", "1577872800.25", "1577872800250",
    ]  # fmt: skip
    at = datetime(2020, 1, 1, 10, 0, 0, 250_000)
    kinds = [
        pl.Series(texts), pl.Series(texts, dtype=pl.Categorical), pl.Series([exact]), pl.Series([1577872800250]),
        pl.Series([1577872800250_000]), pl.Series([1577872800250_000_000]), pl.Series([at]),
        pl.Series([at.replace(tzinfo=UTC)]), pl.Series([at], dtype=pl.Datetime("ms")),
    ]  # fmt: skip
    for times in kinds:
        assert exact_seconds(times).to_list() == pytest.approx([exact] * len(times), abs=1e-5)
        assert epoch_seconds(times).to_list() == [moment] * len(times)
    assert epoch_seconds(pl.Series(["2020-01-01", "2020-01-01 10:00"])).to_list() == [moment - 36_000, moment]
    short = pl.Series(["2020-1-1", "2020-1-11", "2020-1-1 10:00", "2020-01-01 9:00:00", "2020-1-1T10:00:00-00"])
    assert epoch_seconds(short).to_list() == [moment - 36_000, moment + 828_000, moment, moment - 3600, moment]
    assert epoch_seconds(pl.Series([-0.5, float("nan"), None])).to_list() == [-1, None, None]
    nothing = [pl.Series(["monday", "", "nan"]), pl.Series([time(3)]), pl.Series([timedelta(3)]), pl.Series([[1]])]
    assert all(epoch_seconds(times).null_count() == len(times) for times in nothing)


def test_fractions_of_a_second_order_the_log(build: Callable[..., Dataset]) -> None:
    log = pl.DataFrame({"user_id": ["u"] * 40, "item_id": [f"i{n:02}" for n in range(40)], "label": [0, 1] * 20})
    log = log.with_columns(timestamp=10 - pl.int_range(40) / 100)
    dataset = build(log)
    assert dataset.log["item_id"].to_list() == [f"i{n:02}" for n in range(39, -1, -1)]
    assert set(dataset.log["timestamp"]) == {9, 10}


def test_a_blank_place_in_the_order_is_dropped_and_the_others_stay_numbers(run: Clean, log: pl.DataFrame) -> None:
    placed = log.with_columns(place=pl.Series(["10", "9", "", "100"]))
    cleaned, _, _, ledger = run(placed, order=["place"])
    assert cleaned["place"].to_list() == [10.0, 9.0, 100.0]
    assert [d.reason for d in ledger.dropped] == ["no place"]
    worded, _, _, ledger = run(log.with_columns(place=pl.Series(["a", None, "c", "b"])), order=["place"])
    assert worded["place"].to_list() == ["a", "c", "b"]
    assert [d.reason for d in ledger.dropped] == ["no place in the order"]


def test_categories_are_read_as_what_they_say(run: Clean, log: pl.DataFrame) -> None:
    plain = run(log)[0]
    assert run(log.with_columns(pl.all().cast(pl.Categorical)))[0].equals(plain)


def test_lists_where_one_value_is_needed_are_named(run: Clean, log: pl.DataFrame) -> None:
    users = pl.DataFrame({"user_id": ["u", "v"], "tags": [["x"], ["y"]]})
    for given in ({"user_fields": ["tags"]}, {"user_text": "{tags}"}, {"counts": {"groups": [["tags"]]}}):
        with pytest.raises(UserError, match="column 'tags' holds lists"):
            run(log, users=users, **given)
    nested = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "other": [[["x"]], [["y"]]]})
    assert run(log, items=nested)[0].height == 4  # what is not used stops nothing


def test_the_order_may_begin_with_the_user(build: Callable[..., Dataset], log: pl.DataFrame) -> None:
    many = pl.DataFrame({"user_id": ["v"] * 20 + ["u"] * 20, "item_id": [f"i{n}" for n in range(40)]})
    many = many.with_columns(label=pl.Series([0, 1] * 20), timestamp=40 - pl.int_range(40))
    dataset = build(many, order=["user_id", "timestamp"])
    assert dataset.log["item_id"].to_list() == [f"i{n}" for n in range(39, -1, -1)]
    assert tied_share(many, DataConfig(order=["user_id", "timestamp"])) == 0


def test_missing_ratings_are_called_so(run: Clean, log: pl.DataFrame) -> None:
    rated = log.with_columns(rating=pl.Series(["5", "", "one", "2"]))
    cleaned, _, _, ledger = run(rated, label="rating >= 4")
    assert [d.reason for d in ledger.dropped] == ["no rating", "not a number"]
    assert cleaned["label"].to_list() == [1, 0]
    cleaned, _, _, ledger = run(rated.with_columns(rating=pl.Series([5.0, None, None, 2.0])), label="rating >= 4")
    assert [(d.reason, d.rows) for d in ledger.dropped] == [("no rating", 2)]


def test_texts_that_lack_something_are_warned_of(run: Clean, log: pl.DataFrame) -> None:
    items = pl.DataFrame(
        {"item_id": ["a", "b"], "title": ["A", "B"], "year": ["1994", None], "tags": [["x"], []], "by": ["", "me"]}
    )
    _, _, cleaned, ledger = run(log, items=items, item_text="{title} {year} {tags} {by}")
    assert cleaned["text"].to_list() == ["A 1994 x", "B unknown me"]
    assert [w.split(": ", 1)[1] for w in ledger.warnings if "1970" not in w] == [
        "50% of the items have no 'year': their text says 'unknown' there",
        "50% of the items have no 'tags': their text lacks it",
        "50% of the items have no 'by': their text lacks it",
    ]


def test_a_description_stands_behind_the_text(run: Clean) -> None:
    """What is missing of it is left out."""
    log = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 2], "rating": [5, 1]})
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "description": ["Long  words.", None]})
    _, _, found, _ = run(log, items, item_description="{description}")
    assert long_texts(found) == ["A. Long words.", "B"]
    assert found["text"].to_list() == ["A", "B"]

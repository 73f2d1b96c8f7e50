"""Every way to split, checked against known answers."""

from collections.abc import Callable

import polars as pl
import pytest

from corella.config import DataConfig, SplitConfig
from corella.data.dataset import Dataset
from corella.data.split import order_log, split_log
from corella.errors import UserError


def log_of(users: str, times: list[int] | None = None) -> pl.DataFrame:
    """One row for each letter; labels alternate."""
    rows = len(users)
    log = pl.DataFrame(
        {"user_id": list(users), "item_id": [f"i{r}" for r in range(rows)], "label": [0, 1] * (rows // 2)}
    )
    return log.with_columns(timestamp=pl.Series(times or range(rows)))


def parts(log: pl.DataFrame, seed: int = 1, **given: object) -> str:
    """The first letters of the split of every row: h, t(rain), v, e (test)."""
    letters = {"history": "h", "train": "t", "valid": "v", "test": "e"}
    split = split_log(log, SplitConfig.model_validate(given), seed)["split"]
    return "".join(letters[part] for part in split)


def test_time_by_fractions() -> None:
    assert parts(log_of("ab" * 10), by="time", fractions=(0.6, 0.2, 0.2)) == "t" * 12 + "v" * 4 + "e" * 4


def test_each_part_is_rounded_down_and_test_takes_the_rest() -> None:
    split = parts(log_of("a" * 28), by="time", fractions=(0.8, 0.1, 0.1))
    assert [split.count(part) for part in "tve"] == [22, 2, 4]
    split = parts(log_of("a" * 100), by="time", fractions=(0.29, 0.41, 0.3))  # 100 * .29 is just below 29 in floats
    assert [split.count(part) for part in "tve"] == [29, 41, 30]


def test_time_by_dates() -> None:
    day = 86_400
    log = log_of("ab" * 4, [0, day - 1, day, day + 1, 2 * day - 1, 2 * day, 2 * day, 3 * day])
    assert parts(log, by="time", dates=("1970-01-02", "1970-01-03")) == "ttvvveee"
    with pytest.raises(ValueError, match="'yesterday' is not an ISO date"):
        parts(log, by="time", dates=("yesterday", "1970-01-03"))
    with pytest.raises(UserError, match="needs a column 'timestamp'"):
        parts(log.drop("timestamp"), by="time", dates=("1970-01-02", "1970-01-03"))


def test_min_history_comes_before_the_fractions() -> None:
    assert (
        parts(log_of("aabb" + "ab" * 5), by="time", fractions=(0.6, 0.2, 0.2), min_history=2) == "hhhh" + "ttttttvvee"
    )


def test_min_history_in_leave_last_out() -> None:
    assert parts(log_of("abababab" + "cc"), by="leave-last-out", min_history=1) == "hhttvvee" + "he"


def test_history_rows_become_training_rows_before_one() -> None:
    letters = {"h": "history", "t": "train", "v": "valid", "e": "test"}

    def split(users: str, given: str, least: int) -> str:
        log = log_of(users).with_columns(split=pl.Series([letters[c] for c in given]))
        return parts(log, by="column", learn_history=True, min_history=least)

    users = "aaaa" + "bbbb" + "cccc" + "dd" + "aaaa"
    given = "hhht" + "hhvv" + "hhhe" + "hh" + "ehhh"
    assert split(users, given, 0) == "tttt" + "hhvv" + "hhhe" + "hh" + "ehhh"
    assert split(users, given, 2) == "hhtt" + "hhvv" + "hhhe" + "hh" + "ehhh"
    with pytest.raises(ValueError, match="learn_history belongs to `by: column`"):
        SplitConfig(by="user", learn_history=True)


def test_leave_last_out() -> None:
    log = log_of("aaabbb" + "ababc" + "c").with_columns(label=pl.Series([0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1]))
    assert parts(log, by="leave-last-out") == "tttttt" + "vvee" + "ve"
    log = log_of("c" + "ababab" + "a").with_columns(label=pl.Series([1, 0, 1, 0, 0, 1, 0, 0]))
    assert parts(log, by="leave-last-out") == "e" + "tttvvee"  # a user's only row is a test row without history


def test_user_keeps_users_whole_and_follows_the_seed() -> None:
    log = log_of("abcdefghij" * 4).with_columns(label=pl.int_range(pl.len()) // 10 % 2)
    split = parts(log, by="user", fractions=(0.6, 0.2, 0.2))
    of_user = [set(split[u::10]) for u in range(10)]
    assert all(len(found) == 1 for found in of_user)
    assert [sum(found == {part} for found in of_user) for part in "tve"] == [6, 2, 2]
    assert parts(log, by="user", fractions=(0.6, 0.2, 0.2)) == split
    assert any(parts(log, seed=s, by="user", fractions=(0.6, 0.2, 0.2)) != split for s in (2, 3, 4))


def test_column_is_taken_as_it_is(build: Callable[..., Dataset]) -> None:
    split = ["history", "train", "test", "valid", "train", "test", "valid", "history"]
    log = log_of("abababab").with_columns(split=pl.Series(split), label=pl.Series([0, 0, 0, 0, 1, 1, 1, 1]))
    dataset = build(log, split={"by": "column"})
    assert dataset.log["split"].to_list() == split


def test_empty_and_one_class_parts_are_named() -> None:
    with pytest.raises(UserError, match="split by time: no valid rows; change data"):
        parts(log_of("ab" * 4), by="time", dates=("1970-01-01T00:00:03.2", "1970-01-01T00:00:03.5"))
    one_class = log_of("ab" * 10).with_columns(label=(pl.int_range(pl.len()) < 16).cast(pl.Int8) * pl.col("label"))
    with pytest.raises(UserError, match="all 4 test rows have label 0"):
        parts(one_class, by="time", fractions=(0.6, 0.2, 0.2))


def test_ties_keep_the_file_order(settings: Callable[..., DataConfig]) -> None:
    log = log_of("ab" * 10, [3, 1] * 10)
    ordered = order_log(log, settings())
    assert ordered["item_id"].to_list() == [f"i{r}" for r in [*range(1, 20, 2), *range(0, 20, 2)]]
    assert order_log(log, settings(order=[])).equals(log)
    assert order_log(log, settings(max_rows=3))["item_id"].to_list() == ["i1", "i3", "i5"]


def test_an_order_column_of_text_that_is_all_numbers_is_numeric(build: Callable[..., Dataset]) -> None:
    log = log_of("ab" * 10).with_columns(place=(20 - pl.int_range(pl.len())).cast(pl.String))
    dataset = build(log, order=["place"])
    assert dataset.log["item_id"].to_list() == [f"i{r}" for r in range(19, -1, -1)]


def test_each_user_at_random_with_at_least_one_of_each() -> None:
    """[code] of CLLM4Rec: validation and test are max(1, floor(0.1 n)) rows of every user."""
    users = "a" * 30 + "b" * 12 + "c" * 5
    split = parts(log_of(users[:46] + "cc"), by="each-user", fractions=(0.8, 0.1, 0.1))
    counts = {
        u: [sum(p == x for p, o in zip(split, users[:46] + "cc", strict=True) if o == u) for x in "tve"] for u in "abc"
    }
    assert counts == {"a": [24, 3, 3], "b": [10, 1, 1], "c": [4, 1, 1]}
    assert split != parts(log_of(users[:46] + "cc"), seed=2, by="each-user", fractions=(0.8, 0.1, 0.1))
    assert split[:30] != "t" * 24 + "v" * 3 + "e" * 3

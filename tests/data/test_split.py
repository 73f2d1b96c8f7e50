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


def parts(log: pl.DataFrame, seed: int = 1, items: pl.DataFrame | None = None, **given: object) -> str:
    """The first letters of the split of every row, as `log` has them: h, t(rain), v, e (test)."""
    letters = {"history": "h", "train": "t", "valid": "v", "test": "e"}
    config = SplitConfig.model_validate(given)
    split = split_log(log.with_row_index("place"), config, seed, items=items).sort("place")["split"]
    return "".join(letters[part] for part in split)


def item_log(items: str) -> pl.DataFrame:
    """One row for each letter, an item, of users without end; the labels of an item's rows alternate."""
    log = pl.DataFrame({"user_id": [f"u{n}" for n in range(len(items))], "item_id": list(items)})
    return log.with_columns(
        timestamp=pl.int_range(pl.len()), label=(pl.int_range(pl.len()).over("item_id") % 2).cast(pl.Int8)
    )


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
    with pytest.raises(
        UserError, match=r"split by time: no valid rows: train 4, valid 0, test 4 rows; the log goes from .*change data"
    ):
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


def test_time_within_groups() -> None:
    items = pl.DataFrame({"item_id": [f"i{r}" for r in range(30)], "topic": ["x"] * 20 + ["y"] * 10})
    log = log_of("ab" * 15)
    split = parts(log, items=items, by="time", within="topic", fractions=(0.6, 0.2, 0.2))
    assert split == "t" * 12 + "v" * 4 + "e" * 4 + "t" * 6 + "vvee"
    ordered = split_log(log, SplitConfig(by="time", within="topic", fractions=(0.6, 0.2, 0.2)), 1, items=items)
    assert ordered["split"].to_list() == ["train"] * 18 + ["valid"] * 6 + ["test"] * 6
    assert ordered["timestamp"].to_list() == [
        *range(12),
        *range(20, 26),
        *range(12, 16),
        26,
        27,
        *range(16, 20),
        28,
        29,
    ]


def test_history_within_groups_stays_in_the_part_it_comes_in() -> None:
    items = pl.DataFrame({"item_id": [f"i{r}" for r in range(22)], "topic": ["x"] * 22})
    log = log_of("ab" * 9 + "c" * 2 + "ab")  # c comes with the test rows
    given = {"by": "time", "within": "topic", "fractions": (0.5, 0.25, 0.25), "min_history": 1}
    assert parts(log, items=items, **given) == "hh" + "t" * 9 + "v" * 4 + "eee" + "h" + "eee"
    ordered = split_log(log, SplitConfig.model_validate(given), 1, items=items)
    assert ordered["timestamp"].to_list() == list(range(22))


def test_new_items_deals_items_to_folds() -> None:
    log = item_log("abcdefghij" * 4)
    found = [parts(log, by="new-items", fold=fold) for fold in range(5)]
    for split in found:
        assert split == split[:10] * 4  # an item's rows lie in one part
        assert [split[:10].count(part) for part in "tve"] == [6, 2, 2]
    tested = ["".join(i for i, part in zip("abcdefghij", split, strict=False) if part == "e") for split in found]
    assert sorted("".join(tested)) == list("abcdefghij")  # every item is test in one fold
    validated = ["".join(i for i, part in zip("abcdefghij", split, strict=False) if part == "v") for split in found]
    assert validated == tested[1:] + tested[:1]
    assert parts(log, by="new-items") == found[0]
    assert any(parts(log, seed=seed, by="new-items") != found[0] for seed in (2, 3, 4))
    assert parts(log.reverse(), by="new-items")[::-1] == found[0]  # the order of the log changes nothing
    assert parts(log, by="new-items", folds=10, fold=9)[:10].count("e") == 1


def test_new_items_deals_each_group_evenly() -> None:
    log = item_log("abcdefghij" * 4)
    items = pl.DataFrame({"item_id": list("abcdefghij"), "topic": ["x", None] * 5})
    for fold in range(5):
        split = parts(log, items=items, by="new-items", fold=fold, within="topic")
        assert [split[0:10:2].count(part) for part in "tve"] == [3, 1, 1]
        assert [split[1:10:2].count(part) for part in "tve"] == [3, 1, 1]


def test_newest_items_by_first_appearance() -> None:
    order = "badcbadc" + "ffeeaf" + "jjihgghi"
    split = parts(item_log(order), by="new-items", newest=True, fractions=(0.5, 0.2, 0.3))
    # Ten items; in order of appearance b a d c f e j i h g.
    assert split == "".join({**dict.fromkeys("badcf", "t"), **dict.fromkeys("ej", "v")}.get(i, "e") for i in order)


@pytest.mark.parametrize(
    "made",
    [
        pl.Series([5, 4, 3, 2, 1, None]),
        pl.Series(["2020-05-01", "2020-04-01", "2020-03-01", "2020-02-01", "2020-01-01", "long ago"]),
        pl.Series([5, 4, 3, 2, 1, None]).cast(pl.Datetime("ms")),
    ],
)
def test_newest_items_by_creation(made: pl.Series) -> None:
    items = pl.DataFrame({"item_id": list("fedcba"), "made": made})
    log = item_log("fedcbafedcba")
    given = {"by": "new-items", "newest": True, "created": "made", "fractions": (0.5, 0.17, 0.33)}
    assert parts(log, items=items, **given) == "eevttt" * 2  # a is of an unknown age: the oldest


def test_newest_items_within_groups() -> None:
    items = pl.DataFrame({"item_id": list("abcdefgh"), "topic": list("xxxxyyyy"), "made": [1, 2, 3, 4, 14, 13, 12, 12]})
    log = item_log("ghfedcba" * 2)
    given = {"by": "new-items", "newest": True, "fractions": (0.5, 0.25, 0.25), "within": "topic", "created": "made"}
    assert parts(log, items=items, **given) == "ttveevtt" * 2  # g came before h, both made at 12
    split = split_log(log, SplitConfig.model_validate(given), 1, items=items)
    assert split["item_id"].str.join("").item() == "ghbaghba" + "fcfc" + "eded"


def test_columns_that_a_split_names_must_be_there() -> None:
    log = item_log("abcdefghij" * 4)
    items = pl.DataFrame({"item_id": list("abcdefghij"), "topic": [["x"]] * 10, "made": [None] * 10})
    with pytest.raises(UserError, match=r"data\.split\.within: the items have no column 'topics'; .*topic"):
        parts(log, items=items, by="new-items", within="topics")
    with pytest.raises(UserError, match=r"data\.split\.within: the items have no column 'topic'"):
        parts(log, by="time", within="topic")
    with pytest.raises(UserError, match="the items' column 'topic' is a list"):
        parts(log, items=items, by="time", within="topic")
    with pytest.raises(UserError, match=r"data\.split\.created: no item has a time in the column 'made'"):
        parts(log, items=items, by="new-items", newest=True, created="made")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"by": "user", "within": "topic"}, "within belongs to"),
        ({"dates": ("1970-01-02", "1970-01-03"), "within": "topic"}, "within belongs to"),
        ({"newest": True}, "newest belongs to `by: new-items`"),
        ({"by": "new-items", "created": "made"}, "created belongs to `newest: true`"),
        ({"fold": 1}, "folds and fold belong to `by: new-items`"),
        ({"by": "new-items", "newest": True, "folds": 4}, "folds and fold belong to"),
        ({"by": "new-items", "fold": 5}, "there are 5 folds, from 0 to 4: no fold 5"),
        ({"by": "new-items", "folds": 2}, "greater than or equal to 3"),
        ({"by": "new-items", "fractions": (0.7, 0.1, 0.2)}, "fractions belong to `newest: true`"),
        ({"by": "new-items", "min_history": 1}, "min_history means nothing for new items"),
    ],
)
def test_settings_that_do_not_belong_together(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SplitConfig.model_validate(given)


def test_strict_time_needs_the_order_of_time(settings: Callable[..., DataConfig]) -> None:
    for split in ({"by": "new-items"}, {"by": "time", "within": "topic"}):
        with pytest.raises(ValueError, match="strict_time needs a log in the order of time"):
            settings(split=split, strict_time=True)

"""Planted leaks: no answer reaches a row at or before it, no test answer training or validation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from corella.data.dataset import Dataset

SPLITS: dict[str, dict[str, Any]] = {
    "time": {"by": "time", "min_history": 2},
    "user": {"by": "user", "fractions": [0.5, 0.25, 0.25]},
    "leave-last-out": {"by": "leave-last-out"},
    "column": {"by": "column"},
    "history learnt": {"by": "column", "learn_history": True, "min_history": 1},
    "time within": {"by": "time", "within": "shelf", "min_history": 1},
    "new items": {"by": "new-items", "fold": 2},
    "newest items": {"by": "new-items", "newest": True, "within": "shelf", "fractions": [0.5, 0.25, 0.25]},
}
IN_PARTS = [name for name, split in SPLITS.items() if split["by"] == "new-items" or "within" in split]
COUNTS = [["user"], ["item"], ["genres"], ["user", "genres"]]
Make = Callable[[npt.NDArray[np.int64]], Dataset]


def seen(dataset: Dataset, rows: npt.NDArray[np.int64]) -> list[Any]:
    """All that a model is given about these rows, their own answers apart."""
    samples = dataset.samples(rows)
    starts = dataset.events.start[samples.user]
    histories = [
        list(zip(dataset.events.item[a:b], dataset.events.label[a:b], strict=True))
        for a, b in zip(starts, samples.history_end, strict=True)
    ]
    counts = np.round(samples.counts.astype(np.float64), 6) + 0.0  # sums of other rows leave their last bits in these
    text = np.round(samples.text.astype(np.float64), 5) + 0.0
    return [counts.tolist(), text.tolist(), samples.popularity.tolist(), histories, samples.user.tolist()]


def maker(
    build: Callable[..., Dataset], log: pl.DataFrame, items: pl.DataFrame, split: str, **counts: Any
) -> tuple[Make, Dataset]:
    """A function that prepares the log with other labels (given in the prepared order), and the original."""
    items = items.with_columns(shelf=pl.col("item_id") % 2)
    rng = np.random.default_rng(3)
    log = log.sort("timestamp", maintain_order=True)
    parts = rng.choice(["history", "train", "valid", "test"], log.height)
    log = log.with_columns(split=pl.Series(parts.astype(str)))
    stars = rng.integers(1, 4, log.height)  # from 1 to 5 with two more for a like

    def prepare(labels: npt.NDArray[np.int64]) -> Dataset:
        return build(
            log.with_columns(label=pl.Series(labels), rating=pl.Series(stars + 2 * labels)),
            items,
            encoded=True,
            list_fields=["genres"],
            split=SPLITS[split],
            counts={"groups": COUNTS, **counts},
        )

    original = prepare(log["label"].to_numpy())
    pairs = log.select(pl.col("user_id", "item_id").cast(pl.String)).with_row_index("place")
    place = original.log.join(pairs, on=["user_id", "item_id"], maintain_order="left")["place"].to_numpy()

    def make(labels: npt.NDArray[np.int64]) -> Dataset:
        given = np.empty_like(labels)
        given[place] = labels
        return prepare(given)

    return make, original


@pytest.mark.parametrize("frozen", [None, False, True])
@pytest.mark.parametrize("split", SPLITS)
def test_an_answer_reaches_no_row_at_or_before_it(
    build: Callable[..., Dataset],
    random_log: pl.DataFrame,
    genre_items: pl.DataFrame,
    split: str,
    frozen: bool | None,
) -> None:
    make, before = maker(build, random_log, genre_items, split, frozen=frozen)
    reached = 0
    for row in range(0, before.log.height, 13):
        labels = before.label.copy()
        labels[row] = 1 - labels[row]
        after = make(labels)
        earlier, later = np.arange(row + 1), np.arange(row + 1, before.log.height)
        assert seen(after, earlier) == seen(before, earlier)
        assert after.log["split"].equals(before.log["split"])
        reached += seen(after, later) != seen(before, later)
    assert reached > 5  # the test can see a leak: answers do reach later rows


@pytest.mark.parametrize("split", ["time", "user", "leave-last-out", *IN_PARTS])
def test_test_answers_reach_no_training_or_validation_row(
    build: Callable[..., Dataset], random_log: pl.DataFrame, genre_items: pl.DataFrame, split: str
) -> None:
    make, before = maker(build, random_log, genre_items, split)
    labels = before.label.copy()
    labels[before.rows("test")] = 1 - labels[before.rows("test")]
    after = make(labels)
    for part in ("train", "valid"):
        assert seen(after, before.rows(part)) == seen(before, before.rows(part))


def test_test_answers_reach_no_other_user_where_splits_are_mixed(
    build: Callable[..., Dataset], random_log: pl.DataFrame, genre_items: pl.DataFrame
) -> None:
    """Test rows may stand before training rows of their user there, and are history to these; but to nobody else's."""
    make, before = maker(build, random_log, genre_items, "column")
    users = 0
    for user in range(12):
        mine = before.user == user
        test = mine & (before.log["split"] == "test").to_numpy()
        labels = np.where(test, 1 - before.label, before.label)
        others = np.flatnonzero(~mine)
        assert seen(make(labels), others) == seen(before, others)
        users += test.any()
    assert users > 5


@pytest.mark.parametrize("split", ["user", "leave-last-out"])
def test_without_freezing_a_test_answer_would_leak(
    build: Callable[..., Dataset], random_log: pl.DataFrame, genre_items: pl.DataFrame, split: str
) -> None:
    """The reason why counts are frozen by default in these splits."""
    make, before = maker(build, random_log, genre_items, split, frozen=False)
    labels = before.label.copy()
    labels[before.rows("test")] = 1 - labels[before.rows("test")]
    assert seen(make(labels), before.rows("train")) != seen(before, before.rows("train"))


def test_frozen_counts_see_only_training_users(
    build: Callable[..., Dataset], random_log: pl.DataFrame, genre_items: pl.DataFrame
) -> None:
    """Histories of users without a training row are no statistics: their answers stay with their user."""
    log = random_log.sort("timestamp", maintain_order=True)
    tested = pl.col("user_id") >= 8
    last = pl.int_range(pl.len()).over("user_id") == pl.len().over("user_id") - 1
    part = pl.when(tested).then(pl.lit("test")).when(pl.col("user_id") >= 5).then(pl.lit("valid"))
    log = log.with_columns(split=pl.when(last).then(part.otherwise(pl.lit("train"))).otherwise(pl.lit("history")))
    log = log.with_columns(label=pl.when(last).then(pl.col("user_id") % 2).otherwise("label"))

    def make(frame: pl.DataFrame) -> Dataset:
        return build(frame, genre_items, encoded=True, list_fields=["genres"], split={"by": "column"},
                     counts={"groups": COUNTS, "frozen": True})  # fmt: skip

    before = make(log)
    after = make(log.with_columns(label=pl.when(tested & ~last).then(1 - pl.col("label")).otherwise("label")))
    others = np.flatnonzero((before.log["user_id"].cast(pl.Int64) < 8).to_numpy())
    np.testing.assert_array_equal(after.popularity, before.popularity)
    assert seen(after, others) == seen(before, others)
    assert seen(after, before.rows("test")) != seen(before, before.rows("test"))


def test_tables_of_users_and_items_know_no_answers(
    build: Callable[..., Dataset], random_log: pl.DataFrame, genre_items: pl.DataFrame
) -> None:
    make, before = maker(build, random_log, genre_items, "time")
    after = make(1 - before.label)
    assert after.users.equals(before.users)
    assert after.items.equals(before.items)
    np.testing.assert_array_equal(after.user, before.user)
    np.testing.assert_array_equal(after.item, before.item)


@pytest.mark.parametrize("frozen", [None, True])
@pytest.mark.parametrize("split", ["new items", "newest items"])
def test_hidden_answers_to_new_items_reach_no_row(
    build: Callable[..., Dataset],
    random_log: pl.DataFrame,
    genre_items: pl.DataFrame,
    split: str,
    frozen: bool | None,
) -> None:
    """Not even their own users' other rows, nor a query."""
    make, before = maker(build, random_log, genre_items, split, frozen=frozen)
    train, rows = (before.log["split"] == "train").to_numpy(), np.arange(before.log.height)
    after = make(np.where(train, before.label, 1 - before.label))
    assert not np.array_equal(after.label, before.label)
    assert seen(after, rows) == seen(before, rows)
    asked = before.log.select("user_id", "item_id")
    for name in ("counts", "popularity", "history_end"):
        np.testing.assert_array_equal(getattr(after.query(asked), name), getattr(before.query(asked), name))
    samples = before.samples(rows)
    for user, end in zip(samples.user, samples.history_end, strict=True):
        assert train[before.events.row[before.events.start[user] : end]].all()
    answers = before.counts[:, [before.count_names.index(n) for n in ("user_answers", "item_answers")]][~train]
    known = np.bincount(before.user[train], minlength=12)[before.user[~train]]
    np.testing.assert_allclose(answers, np.stack([np.log1p(known), np.zeros(len(known))], axis=1), rtol=1e-6)
    assert (samples.history_end - before.events.start[samples.user])[~train].tolist() == known.tolist()


@pytest.mark.parametrize("split", ["new items", "newest items"])
def test_answers_to_new_items_count_as_they_come_where_asked(
    build: Callable[..., Dataset], random_log: pl.DataFrame, genre_items: pl.DataFrame, split: str
) -> None:
    make, before = maker(build, random_log, genre_items, split, frozen=False)
    parts = before.log["split"].to_list()
    assert parts == sorted(parts, key=["train", "valid", "test"].index)
    for part in ("train", "valid", "test"):
        assert before.log.filter(pl.col("split") == part)["timestamp"].is_sorted()
    first = before.rows("test")[0]
    labels = before.label.copy()
    labels[first] = 1 - labels[first]
    later = before.rows("test")[1:]
    assert seen(make(labels), later) != seen(before, later)
    item = before.count_names.index("item_answers")
    rows = before.rows("test")
    came = [int((before.item[:row] == before.item[row]).sum()) for row in rows]
    np.testing.assert_allclose(before.counts[rows, item], np.log1p(came), rtol=1e-6)
    assert max(came) > 3

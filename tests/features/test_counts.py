"""Count features: a case by hand, both ways to the same numbers, and what a query sees."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corella.config import CountsConfig, DataConfig
from corella.data.dataset import Dataset
from corella.data.rows import group_keys
from corella.errors import UserError
from corella.features.count_state import CountState
from corella.features.counts import batch_counts, feature_names, residuals
from corella.features.log import Log
from corella.features.neighbours import pair_table
from corella.features.ratings import answer_values, rating_scale


def test_by_hand(build: Callable[..., Dataset]) -> None:
    log = pl.DataFrame(
        {
            "user_id": ["u", "u", "v", "u"],
            "item_id": ["a", "b", "a", "c"],
            "timestamp": [10, 13, 20, 25],
            "label": [1, 0, 1, 0],
            "split": ["history", "train", "valid", "test"],
        }
    )
    log = pl.concat([log, log.with_columns(pl.col("timestamp") + 100, label=1 - pl.col("label"))])  # both classes
    dataset = build(
        log,
        duplicates="keep",
        split={"by": "column"},
        counts={"groups": [["user"], ["item"]], "smoothing": 1, "last": [2], "frozen": False, "neighbours": 0},
    )
    assert dataset.count_names == [
        "user_answers", "user_share", "item_answers", "item_share", "user_last_2_share", "user_bias",
        "user_log_seconds", "item_log_seconds",
    ]  # fmt: skip
    expected = [
        [0, 1 / 2, 0, 1 / 2, 1 / 2, 0, -1, -1],
        [np.log(2), (1 + 2 / 3) / 2, 0, 2 / 3, (1 + 2 / 3) / 2, (1 / 2) / 2, np.log1p(3), -1],
        [0, 1 / 2, np.log(2), (1 + 1 / 2) / 2, 1 / 2, 0, -1, np.log1p(10)],
        [np.log(3), (1 + 3 / 5) / 3, 0, 3 / 5, (1 + 3 / 5) / 3, (1 / 2 - 2 / 3) / 3, np.log1p(12), -1],
    ]
    np.testing.assert_allclose(dataset.counts[:4], expected, rtol=1e-6)
    np.testing.assert_array_equal(dataset.popularity[:4], [[0, 0], [0, 0], [1, 1], [0, 0]])


def test_ratings_by_hand(build: Callable[..., Dataset]) -> None:
    """Stars from 1 to 5 count as 0 to 1; an answer without stars counts as its like on average."""
    log = pl.DataFrame(
        {
            "user_id": ["u", "u", "v", "u", "v", "v", "v", "u"],
            "item_id": ["a", "b", "a", "c", "c", "b", "d", "d"],
            "timestamp": [10, 13, 20, 25, 30, 35, 40, 45],
            "label": [1, 0, 1, 0, 0, 1, 1, 0],
            "rating": [5.0, 2.0, None, 1.0, 0.5, 4.0, 5.0, 1.0],
            "split": ["train", "train", "train", "train", "valid", "valid", "test", "test"],
        }
    )
    counts = {"groups": [["user"], ["item"]], "smoothing": 1, "last": [2], "frozen": False, "neighbours": 0}
    dataset = build(log, duplicates="keep", split={"by": "column"}, counts=counts)
    names = ["user_rating", "item_rating", "user_last_2_rating", "user_rating_bias"]
    assert dataset.count_names[-4:] == names
    # The numbers are 1, 1/4, 1 (as the only liked one with stars), 0, 0; their running averages:
    a = [1 / 2, 2 / 3, (1 + 5 / 4) / 4, (1 + 9 / 4) / 5, (1 + 9 / 4) / 6]
    expected = [
        [a[0], a[0], a[0], 0],
        [(1 + a[1]) / 2, a[1], (1 + a[1]) / 2, (1 - a[0]) / 2],
        [a[2], (1 + a[2]) / 2, a[2], 0],
        [(5 / 4 + a[3]) / 3, a[3], (5 / 4 + a[3]) / 3, (1 - a[0] + 1 / 4 - a[1]) / 3],
        [(1 + a[4]) / 2, (0 + a[4]) / 2, (1 + a[4]) / 2, (1 - (1 + a[2]) / 2) / 2],
    ]
    np.testing.assert_allclose(dataset.counts[:5, -4:], expected, rtol=1e-6)
    plain = build(log, duplicates="keep", split={"by": "column"}, counts={**counts, "ratings": False})
    np.testing.assert_array_equal(plain.counts, dataset.counts[:, :-4])
    assert plain.count_names == dataset.count_names[:-4]


def test_the_rating_scale_knows_training_rows_only(build: Callable[..., Dataset], random_log: pl.DataFrame) -> None:
    dataset = build(random_log.with_columns(rating=pl.int_range(pl.len()) % 5 + 1))
    late = pl.col("split").is_in(["valid", "test"])
    log = dataset.log.with_columns(rating=pl.when(late).then(1000.0).otherwise(pl.col("rating")))
    assert rating_scale(log, dataset.config) == dataset.rating_scale is not None
    assert answer_values(log, dataset.rating_scale)[:, 1].max() == 1
    same = dataset.log.with_columns(rating=3.0)
    assert rating_scale(same, dataset.config) is None  # no two of them


GROUPS = [["user"], ["item"], ["genres"], ["user", "genres"], ["user", "item"], ["brand"], ["user", "brand"]]
ROW = st.tuples(
    st.integers(-1, 3), st.integers(-1, 4), st.integers(0, 50), st.integers(0, 1), st.integers(0, 2), st.integers(0, 4)
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    genres=st.lists(st.one_of(st.none(), st.lists(st.sampled_from("ABC"), max_size=3)), min_size=5, max_size=5),
    brands=st.lists(st.one_of(st.none(), st.sampled_from("XY")), min_size=5, max_size=5),
    smoothing=st.floats(0.1, 20),
    last=st.lists(st.integers(1, 6), max_size=2),
    rated=st.booleans(),
    neighbours=st.integers(0, 5),
    clicks=st.booleans(),
)
def test_batch_equals_one_event_at_a_time(
    rows: list[tuple[int, ...]],
    genres: list[list[str] | None],
    brands: list[str | None],
    smoothing: float,
    last: list[int],
    rated: bool,
    neighbours: int,
    clicks: bool,
) -> None:
    """Rows are answers that all may count and neighbours are learned from (2), that only the user's own counts see (1),
    or queries (0)."""
    counts = CountsConfig(groups=GROUPS, smoothing=smoothing, last=last, neighbours=neighbours, clicks=clicks)
    config = DataConfig(list_fields=["genres"], counts=counts)
    schema: dict[str, Any] = {"item_id": pl.String, "genres": pl.List(pl.String), "brand": pl.String}
    items = pl.DataFrame({"item_id": list("abcde"), "genres": genres, "brand": brands}, schema=schema)
    users = pl.DataFrame({"user_id": list("wxyz")})
    user, item, time, label, visible, stars = np.array(rows, dtype=np.int64).T
    values = np.stack([label, stars / 4], axis=1)[:, : 2 if rated else 1]
    visible = np.where((user < 0) | (item < 0), 0, visible)  # unknown ids are only ever asked about
    known, shared = (visible >= 1).astype(np.int64), (visible == 2).astype(np.int64)
    log = Log(user, item, time, values, known, shared, shared)
    batch = batch_counts(log, group_keys(user, item, users, items, config), counts)

    state = CountState(counts, rated, None)
    for r in range(len(rows)):
        u, i = int(user[r]), int(item[r])
        if neighbours:
            before = Log(*(getattr(log, name)[:r] for name in Log.__dataclass_fields__))
            state.pairs = pair_table(residuals(before, counts), neighbours)
        mine = (genres[i] or []) if i >= 0 else []
        brand = (brands[i] or "") if i >= 0 else "unknown item"
        keys: list[list[Any]] = [[u], [i], mine, [(u, g) for g in mine], [(u, i)], [brand], [(u, brand)]]
        features = state.features(u, [i], int(time[r]), [keys])[0]
        np.testing.assert_allclose(features, batch[r], rtol=1e-5, atol=1e-6)
        if visible[r]:
            state.frozen = visible[r] == 1
            state.update(u, i, int(time[r]), values[r].tolist(), keys)
    assert batch.shape == (len(rows), len(feature_names(counts, rated)))


def test_unknown_group_column_is_named(build: Callable[..., Dataset], random_log: pl.DataFrame) -> None:
    with pytest.raises(UserError, match=r"counts group \['user', 'titel'\].*did you mean 'title'"):
        build(random_log, counts={"groups": [["user", "titel"]]})


def test_two_list_columns_in_a_group_are_refused(
    build: Callable[..., Dataset], random_log: pl.DataFrame, genre_items: pl.DataFrame
) -> None:
    items = genre_items.with_columns(tags="genres")
    with pytest.raises(UserError, match="at most one list column, here genres, tags"):
        build(random_log, items, list_fields=["genres", "tags"], counts={"groups": [["genres", "tags"]]})


def test_query_sees_only_strictly_earlier_rows(
    build: Callable[..., Dataset], random_log: pl.DataFrame, genre_items: pl.DataFrame
) -> None:
    dataset = build(
        random_log,
        genre_items,
        list_fields=["genres"],
        counts={"groups": [["user"], ["item"], ["user", "genres"]]},
    )
    rows = dataset.log.select("user_id", "item_id", "timestamp")
    asked = dataset.query(rows)
    time = dataset.log["timestamp"].to_numpy()
    for r in range(len(time)):
        earlier = time < time[r]
        mine = earlier & (dataset.user == dataset.user[r])
        seen = slice(dataset.events.start[dataset.user[r]], asked.history_end[r])
        np.testing.assert_array_equal(dataset.events.row[seen], np.flatnonzero(mine))
        answers = dataset.label[earlier & (dataset.item == dataset.item[r])]
        np.testing.assert_array_equal(asked.popularity[r], [len(answers), answers.sum()])
        assert asked.counts[r, 0] == pytest.approx(np.log1p(mine.sum()))


def test_query_equals_the_prepared_row_where_times_differ(
    build: Callable[..., Dataset], random_log: pl.DataFrame
) -> None:
    dataset = build(random_log.with_columns(timestamp=pl.int_range(pl.len()) * 3))
    asked = dataset.query(dataset.log.select("user_id", "item_id", "timestamp"))
    prepared = dataset.samples(np.arange(dataset.log.height))
    np.testing.assert_array_equal(asked.history_end, prepared.history_end)
    np.testing.assert_array_equal(asked.popularity, prepared.popularity)
    np.testing.assert_allclose(asked.counts, prepared.counts, rtol=1e-6)
    assert set(asked.label) == {-1}


def test_a_query_behind_the_training_rows_learns_nothing_anew(
    build: Callable[..., Dataset], random_log: pl.DataFrame
) -> None:
    """What is known of neighbours is kept; the numbers are those of counting the whole log with the query in it."""
    log = random_log.with_columns(timestamp=pl.int_range(pl.len()) * 3, rating=pl.int_range(pl.len()) % 5)
    dataset = build(log, split={"by": "time"})
    rows = dataset.log.filter(pl.col("split") == "test").select("user_id", "item_id", "timestamp")
    late = dataset.query(rows)
    early = dataset.query(pl.concat([rows, rows.head(1).with_columns(timestamp=pl.lit(5, pl.Int64))]))
    np.testing.assert_allclose(late.counts, early.counts[:-1], rtol=1e-6, atol=1e-12)
    assert np.any(late.counts[:, -2:] != 0) and dataset.count_names[-1] == "neighbours_mean"
    np.testing.assert_allclose(late.counts, dataset.samples("test").counts, rtol=1e-6, atol=1e-12)


def test_query_without_time_sees_everything_and_unknown_ids_nothing(
    build: Callable[..., Dataset], random_log: pl.DataFrame
) -> None:
    dataset = build(random_log)
    asked = dataset.query(pl.DataFrame({"user_id": ["3", "nobody"], "item_id": ["4", "nothing"]}))
    assert asked.history_end[0] == dataset.events.start[dataset.user[dataset.log["user_id"] == "3"][0] + 1]
    assert (asked.user[1], asked.item[1], asked.history_end[1]) == (-1, -1, 0)
    np.testing.assert_array_equal(asked.popularity[1], [0, 0])
    assert asked.counts[1, 0] == 0


def test_query_of_a_log_that_is_not_ordered_by_time(build: Callable[..., Dataset], random_log: pl.DataFrame) -> None:
    dataset = build(random_log, order=[], split={"by": "leave-last-out"})
    asked = dataset.query(dataset.log.select("user_id", "item_id", "timestamp"))
    np.testing.assert_array_equal(asked.history_end, dataset.events.start[dataset.user + 1])

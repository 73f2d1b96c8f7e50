"""Live state: the features of a query, before and after new answers, for known and unknown users and items."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corella.config import DataConfig
from corella.data.dataset import Dataset, make_dataset
from corella.data.negatives import with_negatives
from corella.data.samples import Samples
from corella.data.scope import Described
from corella.errors import UserError
from corella.serving.state.apply import Outcome, add, delete_item, erase, put_item, put_person, undo
from corella.serving.state.live import HistoryEntry, Live
from corella.serving.store.records import Event, Item, ItemDeleted, Person, Undone
from small_tables import encoded_texts

ITEMS = [f"i{n}" for n in range(6)]
GROUPS = [["user"], ["item"], ["genres"], ["user", "genres"], ["user", "brand"], ["brand"], ["age"], ["age", "genres"]]
ROW = st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 1), st.integers(0, 3), st.integers(1, 5))
SCALE = [(0, 0, 1, 0, 5), (1, 1, 0, 0, 1)]
"""Training rows with the lowest and the highest rating."""
NOW = 10_000


def _dataset(rows: list[tuple[int, ...]], split: dict[str, Any] | None = None, **given: Any) -> Dataset:
    """Of rows (user, item, label, split, and, where given, rating); `split`: settings, `given`: those of counts."""
    log = pl.DataFrame(
        {
            "user_id": [f"u{r[0]}" for r in rows], "item_id": [ITEMS[r[1]] for r in rows],
            "label": [r[2] for r in rows], "timestamp": [100 * n for n in range(len(rows))],
            "split": [["train", "valid", "test", "history"][r[3]] for r in rows],
        },
        schema_overrides={"label": pl.Int8},
    )  # fmt: skip
    if len(rows[0]) == 5:
        log = log.with_columns(rating=pl.Series([r[4] for r in rows], dtype=pl.Float64))
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(4)], "age": ["old", None, "young", "old"],
                          "text": [f"User {n}." for n in range(4)]})  # fmt: skip
    genres = [["A", "B"], ["A"], [], None, ["B", "B"], ["C"]]
    items = pl.DataFrame({"item_id": ITEMS, "genres": genres, "brand": ["X", "Y", None, "X", "Y", "Z"],
                          "text": ["blue sea", "blue sky", "red sky", "red rose", "a rose", ""]})  # fmt: skip
    config = DataConfig.model_validate(
        {
            "source": "tables", "interactions": {"path": "x.csv"}, "order": ["timestamp"], "user_fields": ["age"],
            "item_fields": ["brand"], "list_fields": ["genres"], "counts": {"groups": GROUPS, "last": [2, 5], **given},
            "duplicates": "keep", "split": split or {},
        }
    )  # fmt: skip
    return make_dataset(log, users, items, config, encoded_texts(items))


def _clicks(rows: list[tuple[int, ...]]) -> Dataset:
    """Of clicks, with negatives that were drawn."""
    plain = _dataset(rows, clicks=True, frozen=False)
    log = with_negatives(plain.log.drop("user", "item"), 1, seed=1)
    counts = plain.config.counts.model_copy(update={"frozen": None})
    config = plain.config.model_copy(update={"counts": counts, "label": "clicks"})
    return make_dataset(log, plain.users, plain.items, config, encoded_texts(plain.items))


def _same(live: Live, dataset: Dataset, user: str, ask: list[str]) -> None:
    """The request's samples are those of a query of the whole log."""
    scope, found = live.scope(user, ask, now=NOW)
    rows = pl.DataFrame({"user_id": [user] * len(ask), "item_id": ask, "timestamp": [NOW] * len(ask)})
    wanted: Samples = dataset.query(rows)
    np.testing.assert_allclose(found.counts, wanted.counts, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.text, wanted.text, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.popularity, wanted.popularity)
    code = dataset.users["user_id"].to_list().index(user) if user in dataset.users["user_id"] else -1
    start = dataset.events.start[code] if code >= 0 else 0
    before = slice(start, start + len(scope.events.item))
    if code >= 0:
        assert wanted.history_end[0] == before.stop
        assert scope.items[scope.events.item].tolist() == dataset.events.item[before].tolist()
        assert scope.events.label.tolist() == dataset.events.label[before].tolist()
        np.testing.assert_array_equal(scope.popularity, dataset.popularity[dataset.events.row[before]])


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=30), cut=st.integers(2, 30), frozen=st.booleans(), rated=st.booleans())
def test_features_are_those_of_a_query(rows: list[tuple[int, ...]], cut: int, frozen: bool, rated: bool) -> None:
    """From the whole log at once, and from a part of it with the rest, test rows, appended."""
    rows = [row[: 5 if rated else 4] for row in SCALE + rows]
    if frozen:
        live, dataset = Live(_dataset(rows, frozen=True)), _dataset(rows, frozen=True)
    else:
        rows[cut:] = [(*row[:3], 2, *row[4:]) for row in rows[cut:]]
        dataset = _dataset(rows, frozen=False)
        part = rows[:cut]
        live = Live(_dataset(part, frozen=False))
        for n, (u, i, label, _, *rating) in list(enumerate(rows))[len(part) :]:
            add(live, Event(f"u{u}", ITEMS[i], label, 100 * n, *rating))
    for user in ("u0", "u1", "u3"):
        _same(live, dataset, user, ITEMS)
    _same(live, dataset, "nobody", ITEMS[:2])


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=30))
def test_hidden_interactions_with_new_items_are_no_part_of_it(rows: list[tuple[int, ...]]) -> None:
    rows = sorted([(*row[:3], min(row[3], 2), row[4]) for row in SCALE + rows], key=lambda row: row[3])
    dataset = _dataset(rows, split={"by": "new-items"})
    live = Live(dataset)
    for user in ("u0", "u1", "u3"):
        _same(live, dataset, user, ITEMS)
        assert len(live.answered(user)) == sum(row[0] == int(user[1]) and row[3] == 0 for row in rows)


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(ROW, min_size=3, max_size=30), cut=st.integers(3, 30))
def test_negatives_that_were_drawn_are_no_part_of_it(rows: list[tuple[int, ...]], cut: int) -> None:
    """Of clicks: what a service knows, from the whole log or event by event, is what a query of the log sees."""
    clicks = [(row[0], row[1], 1, 2 if n >= cut else 0) for n, row in enumerate(rows)]
    dataset = _clicks(clicks)
    one, other = Live(dataset), Live(_clicks(clicks[:cut]))
    for n, (u, i, label, _) in list(enumerate(clicks))[cut:]:
        add(other, Event(f"u{u}", ITEMS[i], label, 100 * n))
    for live in (one, other):
        for user in ("u0", "u1", "nobody"):
            _same(live, dataset, user, ITEMS)


def test_a_new_user_has_what_was_added() -> None:
    live = Live(_dataset([(0, 0, 1, 0), (1, 1, 0, 0), (0, 2, 1, 0)], frozen=False))
    add(live, Event("guest", "i1", 1, 900))
    add(live, Event("guest", "i0", 0, 950))
    assert live.answered("guest") == [("i1", 1), ("i0", 0)]
    scope, samples = live.scope("guest", ["i2", "i1"], now=NOW)
    assert scope.user == -1 and scope.items[scope.events.item].tolist() == [1, 0]
    assert scope.popularity.tolist() == [[1, 0], [1, 1]]  # as they were when the guest answered
    assert samples.popularity.tolist() == [[1, 1], [2, 1]]
    names = live.dataset.count_names
    assert samples.counts[0, names.index("user_answers")] == pytest.approx(np.log(3))
    assert samples.counts[1, names.index("user_log_seconds")] == pytest.approx(np.log1p(NOW - 950))


def test_answers_that_come_late_or_twice() -> None:
    rows = [(0, 0, 1, 0), (1, 1, 0, 0), (0, 2, 1, 0)]
    live = Live(_dataset(rows, frozen=False))
    add(live, Event("u0", "i3", 1, 5000))
    add(live, Event("u0", "i4", 1, 100))  # sent long after it was given
    names = live.dataset.count_names
    _, samples = live.scope("u0", ["i3", "i4"], now=NOW)
    assert samples.counts[0, names.index("user_log_seconds")] == pytest.approx(np.log1p(NOW - 5000))
    once = _dataset(rows, frozen=False)
    object.__setattr__(once, "config", once.config.model_copy(update={"duplicates": "first"}))
    first = Live(once, "first")
    add(first, Event("u0", "i3", 1, 5000))
    add(first, Event("u0", "i3", 0, 6000))
    add(first, Event("u0", "i0", 0, 6000))
    assert first.answered("u0") == [("i0", 1), ("i2", 1), ("i3", 1)]


def test_a_visitor_leaves_no_trace() -> None:
    """Somebody described in the request is counted for that request alone, and like a user with those answers."""
    rows = [(0, 0, 1, 0), (1, 1, 0, 0), (0, 2, 1, 0)]
    live, other = (Live(_dataset(rows, frozen=False)) for _ in range(2))
    before = live.scope("u0", ITEMS, now=NOW)[1]
    profile, past = Described("A young one.", {"age": "young"}), [HistoryEntry("i1", 1), HistoryEntry("i0", 0)]
    scope, samples = live.scope(None, ["i2", "i5"], profile, past, now=NOW)
    assert scope.events.label.tolist() == [1, 0] and scope.new_user is profile
    names = live.dataset.count_names
    assert samples.counts[0, names.index("user_answers")] == pytest.approx(np.log(3))
    assert samples.counts[0, names.index("user_last_2_share")] == pytest.approx((1 + 3 / 5) / 3)
    assert samples.popularity.tolist() == [[1, 1], [0, 0]]
    after = live.scope("u0", ITEMS, now=NOW)[1]
    np.testing.assert_array_equal(after.counts, before.counts)
    np.testing.assert_array_equal(after.text, before.text)
    again = live.scope(None, ["i2", "i5"], profile, past, now=NOW)[1]
    np.testing.assert_array_equal(again.counts, samples.counts)
    np.testing.assert_array_equal(again.text, samples.text)
    silent = live.scope(None, ["i2", "i5"], profile, [], now=NOW)[1]
    assert not np.allclose(samples.text[0], silent.text[0])
    assert other.counts.total == live.counts.total


def test_ratings_of_visitors_and_answers_without_one() -> None:
    """Stars from 1 to 5; a like without stars counts as the liked training rows do on average, .75."""
    live = Live(_dataset([*SCALE, (0, 2, 1, 0, 3)], frozen=False))
    place = live.dataset.count_names.index("user_rating")
    average = (1 + 0 + 0.5 + 1) / 5
    for rating, counted in ((2, 0.25), (9, 1), (None, 0.75)):
        past = [HistoryEntry("i3", 1, rating)]
        _, samples = live.scope(None, ["i4"], None, past, now=NOW)
        assert samples.counts[0, place] == pytest.approx((counted + 5 * average) / 6)
    add(live, Event("u2", "i3", 1, 500))
    add(live, Event("u2", "i4", 0, 600, 5))
    average = (1 + 0 + 0.5 + 0.75 + 1 + 1) / 7
    _, samples = live.scope("u2", ["i5"], now=NOW)
    assert samples.counts[0, place] == pytest.approx((1.75 + 5 * average) / 7)


def test_items_that_have_only_a_text() -> None:
    live = Live(_dataset([(0, 0, 1, 0), (1, 1, 0, 0), (0, 2, 1, 0)], frozen=False))
    new = Described("red sky", {"genres": ["A"], "brand": "X"})
    scope, samples = live.scope("u0", ["i0", new, new], now=NOW)
    assert scope.items[samples.item].tolist() == [0, -1, -1]
    assert [scope.new_items[int(i)] for i in samples.item[1:]] == [new, new]
    names = live.dataset.count_names
    assert samples.counts[1, names.index("item_answers")] == 0
    assert samples.counts[1, names.index("genres_answers")] == pytest.approx(np.log(3))  # what is said of it counts
    assert samples.popularity[1].tolist() == [0, 0]
    text = dict(zip(live.dataset.text_names, samples.text[1], strict=True))
    assert text["text_own_nearest"] == pytest.approx(1)  # u0 liked an item of the same text
    assert text["text_own_share_12"] > live.scope("u0", ["i1"], now=NOW)[1].text[0, 6]
    assert text["text_circle"] == 0
    space = live.dataset.space
    assert space is not None and scope.vectors is not None
    np.testing.assert_allclose(scope.vectors[samples.item[1]], space.places.vectors[2], rtol=1e-5, atol=1e-6)


def test_items_must_be_known() -> None:
    live = Live(_dataset([(0, 0, 1, 0), (1, 1, 0, 0), (0, 2, 1, 0)]))
    assert add(live, Event("u0", "i77", 1, 5)) == Outcome("ignored", "the catalogue has no item 'i77'")
    with pytest.raises(UserError, match="no item_id 'i78'"):
        live.scope(None, ["i0"], history=[HistoryEntry("i78", 1)])
    scope, samples = live.scope("u0", ["i78", "i0"])  # to score, it is an unknown item
    assert scope.items[samples.item].tolist() == [-1, 0] and not scope.new_items
    assert live.answered("u0") == [("i0", 1), ("i2", 1)]


def _undone(event: Event) -> Undone:
    return Undone(event.event_id, event.user_id, event.item_id, event.kind, event.weight, event.timestamp)


def _all_features(live: Live) -> list[Any]:
    found = []
    for user in ("u0", "u1", "guest", "nobody"):
        samples = live.scope(user, ITEMS, now=NOW)[1]
        found += [samples.counts, samples.text, samples.popularity, samples.history_end]
    return found


WEIGHTS = st.sampled_from([1.0, 0.5, 0.0])
EVENT = st.tuples(st.sampled_from(["u0", "u1", "guest"]), st.integers(0, 5), st.integers(0, 1), WEIGHTS)


@settings(max_examples=30, deadline=None)
@example(rows=[(0, 0, 0, 0, 1)], events=[("guest", 0, 0, share) for share in (1.0, 0.0, 1.0)], frozen=False)
@given(
    rows=st.lists(ROW, min_size=1, max_size=15), events=st.lists(EVENT, min_size=1, max_size=6), frozen=st.booleans()
)
def test_what_is_undone_was_never_said(rows: list[tuple[int, ...]], events: list[Any], frozen: bool) -> None:
    live = Live(_dataset(SCALE + rows, frozen=frozen))
    before = _all_features(live)
    made = [
        Event(user, ITEMS[item], label, 5000 + n, weight=weight, event_id=f"e{n}")
        for n, (user, item, label, weight) in enumerate(events)
    ]
    for event in made:
        assert add(live, event).what == "recorded"
    for event in reversed(made):
        assert undo(live, _undone(event)).what == "recorded"
    for found, wanted in zip(_all_features(live), before, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert undo(live, _undone(made[0])) == Outcome("ignored", "it did not count any more")


def _once(rows: list[tuple[int, ...]], repeats: Any = "last", **given: Any) -> Live:
    dataset = _dataset(rows, frozen=False, **given)
    object.__setattr__(dataset, "config", dataset.config.model_copy(update={"duplicates": "first"}))
    return Live(dataset, repeats)


def test_the_last_answer_counts() -> None:
    """One of the log, and one that came since, are taken out of histories, counts and popularity."""
    rows = [(0, 0, 1, 0), (1, 0, 1, 0), (0, 2, 1, 0), (1, 1, 0, 0)]
    live = _once(rows)
    replaced = add(live, Event("u0", "i0", 0, 5000, event_id="a"))
    assert (replaced.what, live.answered("u0")) == ("replaced", [("i2", 1), ("i0", 0)])
    assert live.popularity(0) == (2, 1) and live.counts.total == [4.0, 2.0]
    add(live, Event("u0", "i0", 1, 6000, event_id="b"))
    assert live.answered("u0") == [("i2", 1), ("i0", 1)] and live.popularity(0) == (2, 2)
    assert undo(live, _undone(Event("u0", "i0", 0, 5000, event_id="a"))).what == "ignored"
    assert undo(live, _undone(Event("u0", "i0", 1, 6000, event_id="b"))).what == "recorded"
    assert live.answered("u0") == [("i2", 1)] and live.popularity(0) == (1, 1)
    alike = Live(_dataset([(1, 0, 1, 0), (0, 2, 1, 0), (1, 1, 0, 0)], frozen=False))
    names = live.dataset.count_names
    for name in ("user_answers", "item_answers", "genres_answers", "user_x_genres_answers", "user_last_2_share"):
        place = names.index(name)
        found, wanted = (one.scope("u0", ITEMS, now=NOW)[1].counts[:, place] for one in (live, alike))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_stays_of_who_is_erased(frozen: bool) -> None:
    rows = [(0, 0, 1, 0), (1, 0, 1, 0), (0, 2, 1, 0), (1, 1, 0, 0), (0, 4, 1, 2)]
    live = Live(_dataset(rows, frozen=frozen))
    assert live.popularity(4) == ((0, 0) if frozen else (1, 1))
    add(live, Event("u0", "i3", 1, 5000))
    add(live, Event("guest", "i3", 1, 5000))
    put_person(live, Person("guest", "Somebody", {"age": "old"}))
    erase(live, "u0")
    erase(live, "guest")
    held = (
        live.counts.said, live.counts.last, live.counts.bias, live.counts.user_time, live.people._whole,
        live.people._newer, live.persons, live.users, *live.counts.tallies,
    )  # fmt: skip
    assert not [name for name in ("u0", "guest") if name in str(held)]
    assert live.answered("u0") == [] and live.person("guest") is None
    assert [live.popularity(item) for item in (0, 2, 3, 4)] == [(1, 1), (0, 0), (0, 0), (0, 0)]
    gone = live.scope("u0", ITEMS, now=NOW)[1]
    assert gone.user[0] == 0 and live.scope("u0", ITEMS, now=NOW)[0].user == -1


def test_texts_are_read_by_several_threads() -> None:
    live = Live(_dataset([(0, 0, 1, 0), (1, 1, 0, 0), (0, 2, 1, 0)]))
    texts = [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("sky", "sea", "rose")] * 3
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: live.reader.read([text, "a rose"]), texts))
    for text, (one, rose) in zip(texts, found, strict=True):
        np.testing.assert_array_equal(one.vector, live.reader.read([text])[0].vector)
        np.testing.assert_array_equal(rose.place.vectors, found[0][1].place.vectors)


def test_items_that_are_put_changed_and_deleted() -> None:
    live = Live(_dataset([(0, 0, 1, 0), (1, 1, 0, 0), (0, 2, 1, 0)], frozen=False))
    described = Described("red sky", {"genres": ["A"], "brand": "X"})
    asked = live.scope("u0", [described], now=NOW)[1]
    assert put_item(live, Item("new", described.text, described.fields)).what == "recorded"
    scope, samples = live.scope("u0", ["new", "i0"], now=NOW)
    np.testing.assert_allclose(samples.counts[0], asked.counts[0])
    np.testing.assert_allclose(samples.text[0], asked.text[0], atol=1e-6)
    assert scope.items[samples.item].tolist() == [-1, 0] and scope.new_items[int(samples.item[0])] == described
    assert add(live, Event("u1", "new", 1, 900)).what == "recorded"
    assert live.answered("u1") == [("i1", 0), ("new", 1)]
    again = live.scope("u1", ["i2", "new"], now=NOW)
    assert again[1].popularity[1].tolist() == [1, 1] and len(again[0].new_items) == 1
    assert again[1].counts[1, live.dataset.count_names.index("item_answers")] == pytest.approx(np.log(2))
    assert put_item(live, Item("i0", "blue lake", {"brand": "Z"}, available=False)).what == "replaced"
    scope, samples = live.scope("u0", ["i0"], now=NOW)
    assert scope.items[samples.item].tolist() == [0] and scope.new_items[int(samples.item[0])].text == "blue lake"
    assert "i0" not in live.most_liked(9, set()) and "new" in live.most_liked(9, set())
    assert delete_item(live, ItemDeleted("new")).what == "recorded"
    assert delete_item(live, ItemDeleted("new")).what == "ignored"
    assert "new" not in live.most_liked(9, set()) and add(live, Event("u0", "new", 1, 900)).what == "ignored"
    assert live.answered("u1") == [("i1", 0), ("new", 1)]  # what was said stays

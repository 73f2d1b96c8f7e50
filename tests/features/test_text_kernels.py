"""Text features: formulas by hand, batch as one interaction at a time, and no look ahead."""

from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from corella.config import CountsConfig
from corella.config.text import TextConfig
from corella.features.counts import residuals
from corella.features.log import Log
from corella.features.text.batch import batch_text
from corella.features.text.kernels import NAMES, circle_kernels, other_kernels, own_kernels, text_names, without_item
from corella.features.text.space import TextSpace, fit_space
from corella.features.text.state import text_state

ITEMS, WIDTH = 6, 3
COUNTS, TEXT = CountsConfig(), TextConfig(history=4, neighbours=3, width=WIDTH)


def _vectors() -> npt.NDArray[np.float32]:
    """Of six items, the last one without a text."""
    vectors = np.random.default_rng(5).normal(size=(ITEMS, 4)).astype(np.float32)
    vectors[-1] = 0
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _space() -> TextSpace:
    return fit_space(_vectors(), WIDTH, TEXT.neighbours)


def _log(rows: list[tuple[int, int, int, int]]) -> Log:
    """Of rows (user, item, label, status): 2 counts for all, 1 for the user only, 0 is a query."""
    user, item, label, status = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    known, shared = (status > 0).astype(np.int64), (status > 1).astype(np.int64)
    return Log(user, item, np.arange(len(rows)), label[:, None].astype(float), known, shared, shared)


def test_own_kernels_by_hand() -> None:
    """A liked item of the same text, a disliked one at a right angle, and a place where nothing stands."""
    found = own_kernels(
        np.array([[0.5, 0.0, 1.0]]), np.array([[1.0, 0.0, 1.0]]), np.array([[9.0, -0.5, 0.25]]),
        np.array([[False, True, True]]), np.array([0.6]),
    )[0]  # fmt: skip
    far = np.exp(-3)
    by_name = dict(zip(NAMES, found, strict=False))
    assert by_name["text_own_share_3"] == (1 + 0.2 * 0.6) / (1 + far + 0.2)
    assert by_name["text_own_residual_3"] == (0.25 - 0.5 * far) / (1 + far + 0.2)
    assert by_name["text_own_weight_3"] == 1 + far
    assert (by_name["text_own_liked"], by_name["text_own_disliked"]) == (1 / 2, 0)
    assert (by_name["text_own_nearest"], by_name["text_own_three"]) == (1, 1)
    assert by_name["text_own_three_residual"] == 0.25


def test_other_kernels_by_hand() -> None:
    """Four interactions, three of them likes, with an item of the same text; of the second nothing is known."""
    found = other_kernels(np.array([[1.0, -np.inf]]), np.array([[4.0, 0]]), np.array([[3.0, 0]]), np.array([0.5]), 5.0)
    share, weight, mean = found[0, :3]
    assert (share, weight) == ((3 + 0.2 * 0.5) / 4.2, np.log(5))
    np.testing.assert_allclose(mean, (0.2 * 5.5 / 9 + 0.02 * 0.5) / 0.22)


def test_circles_by_hand() -> None:
    """The user's profile agrees with the item's own circle, and half as much with that of its neighbour."""
    profile, circle = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0]])
    found = circle_kernels(
        profile, circle, np.array([1.0]), circle[None] / 2, np.array([[3.0]]), np.array([[1.0]]), 5.0
    )
    np.testing.assert_allclose(found, [[3 / 6, 4.5 / 9, 1.5 / 8, 1.5 / 8 / 1.1]])


ROW = st.tuples(st.integers(0, 3), st.integers(0, ITEMS - 1), st.integers(0, 1), st.integers(0, 2))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=40), cut=st.integers(0, 40), frozen=st.booleans())
def test_batch_equals_one_interaction_at_a_time(rows: list[tuple[int, int, int, int]], cut: int, frozen: bool) -> None:
    """Whatever part of the log the state starts from; frozen, what comes later counts for its user only."""
    cut = min(cut, len(rows))
    later = [(u, i, y, min(s, 1) if frozen else 2 * (s > 0)) for u, i, y, s in rows[cut:]]
    rows = [(u, i, y, 2 * (s > 0)) for u, i, y, s in rows[:cut]] + later
    log, space = _log(rows), _space()
    wanted, left = batch_text(log, space, COUNTS, TEXT), residuals(log, COUNTS).residual
    assert wanted.shape == (len(rows), len(text_names(WIDTH)))
    start = Log(*(getattr(log, field.name)[:cut] for field in fields(log)))
    state = text_state(space, COUNTS, TEXT, start, {str(user): user for user in range(4)})
    state = replace(state, frozen=frozen)
    for row in range(cut, len(rows)):
        user, item, label, status = rows[row]
        places = space.places.take(np.array([item]))
        found = state.features(str(user), np.array([item]), places)
        np.testing.assert_allclose(found[0], wanted[row], rtol=1e-6, atol=1e-7)
        if status:
            state.update(str(user), item, label, float(left[row]))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROW, min_size=2, max_size=30), data=st.data())
def test_a_row_sees_nothing_of_itself_or_later(rows: list[tuple[int, int, int, int]], data: st.DataObject) -> None:
    """Labels turned round from a row on change nothing up to it; what comes later may not even be there."""
    row = data.draw(st.integers(0, len(rows) - 1))
    turned = [(u, i, 1 - y if n >= row else y, s) for n, (u, i, y, s) in enumerate(rows)]
    space = _space()
    found = batch_text(_log(rows), space, COUNTS, TEXT)[: row + 1]
    np.testing.assert_array_equal(batch_text(_log(turned), space, COUNTS, TEXT)[: row + 1], found)
    alone = batch_text(_log(rows[: row + 1]), space, COUNTS, TEXT, np.array([row]))
    np.testing.assert_allclose(alone[0], found[row], rtol=1e-6, atol=1e-7)


def test_an_item_without_interactions_has_features_of_its_text() -> None:
    """Known to nobody, but near to what the user liked and to what everybody liked."""
    vectors = np.array([[1, 0], [0, 1], [0.99, 0.14], [0.14, 0.99]], np.float32)
    space = fit_space(vectors, 2, 2)
    log = _log([(0, 0, 1, 2), (0, 1, 0, 2), (1, 0, 1, 2), (1, 1, 0, 2), (0, 2, 0, 0), (0, 3, 0, 0)])
    found = {
        name: column for name, column in zip(text_names(2), batch_text(log, space, COUNTS, TEXT)[-2:].T, strict=True)
    }
    for name in ("text_own_share_6", "text_own_difference", "text_others_share_6", "text_circle_near"):
        assert found[name][0] > found[name][1], name
    assert (found["text_circle"] == 0).all()


def test_a_hidden_item_looks_like_one_without_interactions() -> None:
    rows = [(0, 0, 1, 2), (1, 0, 1, 2), (1, 1, 0, 2), (2, 1, 1, 2), (2, 2, 0, 2), (0, 2, 1, 0), (3, 1, 0, 0)]
    without = [(u, i, y, s if i != rows[row][1] else 0) for row in (5,) for u, i, y, s in rows]
    found, bare = (batch_text(_log(r), _space(), COUNTS, TEXT)[5] for r in (rows, without))
    hidden = without_item(found[None])[0]
    names = [n for n, name in enumerate(NAMES) if name.startswith("text_circle")]
    assert not np.allclose(found[names], bare[names])
    assert hidden[names[0]] == bare[names[0]] == 0
    np.testing.assert_allclose(hidden[names[1:]], bare[names[1:]], atol=1e-2)  # the average has changed a little

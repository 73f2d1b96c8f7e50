"""The closed form against what it minimises, EASE as its special case, and items of which only a text is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corella.errors import UserError
from corella.retrieval.linear import Strengths, TextPart, count_together, fit_linear, history_rows, text_part

HISTORIES = [np.array(h) for h in ([0, 1, 2], [1, 2, 3], [0, 2], [3, 4, 0], [4], [2, 4, 1, 0])]
ITEMS = 5


def _vectors(items: int = ITEMS, width: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(items, width)).astype(np.float32)


def _dense_text_weights(vectors: np.ndarray, penalty: float = 1.0) -> np.ndarray:
    unit = vectors - vectors.mean(0)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    inverse = np.linalg.inv(unit @ unit.T + penalty * np.eye(len(unit)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def test_prefixes_by_hand() -> None:
    counts = count_together([np.array([0, 1, 2])], 3)
    # Behind 0 comes 1, behind (0, 1) comes 2, where 0 is a step older.
    assert counts.follows.toarray() == pytest.approx(np.array([[0, 1, 0.7], [0, 0, 1], [0, 0, 0]]))
    assert counts.before.toarray() == pytest.approx(np.array([[1.49, 0.7, 0], [0.7, 1, 0], [0, 0, 0]]))
    assert counts.together.toarray().tolist() == np.ones((3, 3)).tolist()


def test_an_item_that_comes_twice_counts_once() -> None:
    assert history_rows([np.array([1, 0, 1])], 2, recency=0.5).toarray().tolist() == [[0.5, 1.0]]


def test_without_text_and_order_it_is_ease() -> None:
    rows = history_rows(HISTORIES, ITEMS).toarray()
    inverse = np.linalg.inv(rows.T @ rows + 2.0 * np.eye(ITEMS))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    found = fit_linear(count_together(HISTORIES, ITEMS), None, Strengths(2.0))
    assert found.weights == pytest.approx(expected, abs=1e-5)


def test_the_text_weights_are_those_of_ease_on_texts() -> None:
    text = text_part(_vectors())
    said = text.weights(slice(None), slice(None))
    np.fill_diagonal(said, 0)
    assert said == pytest.approx(_dense_text_weights(_vectors()), abs=1e-5)


@pytest.mark.parametrize(("g", "a"), [(0.0, 0.0), (4.0, 0.0), (0.0, 3.0), (4.0, 3.0)])
def test_it_minimises_what_it_says(g: float, a: float) -> None:
    """Gradient descent on the objective, with a zero diagonal, ends at the same weights."""
    counts, text = count_together(HISTORIES, ITEMS), text_part(_vectors())
    x = torch.from_numpy(history_rows(HISTORIES, ITEMS).toarray()).double()
    s = torch.from_numpy(_dense_text_weights(_vectors())).double()
    ww, wy = (torch.from_numpy(m.toarray()).double() for m in (counts.before, counts.follows))
    free = 1 - torch.eye(ITEMS, dtype=torch.double)
    b = torch.zeros(ITEMS, ITEMS, dtype=torch.double)
    for _ in range(4000):
        gradient = x.T @ x @ b - x.T @ x + a * (ww @ b - wy) + 2.0 * b + g * (b - s)
        b -= 0.02 * gradient * free
    found = fit_linear(counts, text, Strengths(2.0, g, a))
    assert found.weights == pytest.approx(b.numpy(), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=8))
def test_scores_are_sums_of_reasons(drawn: list[list[int]]) -> None:
    histories = [np.array(list(dict.fromkeys(h)), dtype=np.int64) for h in drawn]
    text = text_part(_vectors(6))
    found = fit_linear(count_together(histories, 6), text, Strengths(1.0, 2.0, 1.0, 0.7))
    scores = found.scores(histories)
    for row, history in zip(scores, histories, strict=True):
        for item in range(6):
            assert found.reasons(history, item).sum() == pytest.approx(row[item], abs=1e-4)


def test_a_new_item_is_scored_like_one_that_nobody_has_liked() -> None:
    """An item of the catalogue without interactions has the weights of an item that only has its text."""
    vectors = _vectors(6, width=4)
    histories = [h[h != 5] for h in HISTORIES]
    whole = text_part(vectors)
    known = TextPart(whole.vectors[:5], *_refitted(whole.vectors[:5]), whole.centre)
    inside = fit_linear(count_together(histories, 6), whole, Strengths(2.0, 3.0))
    outside = fit_linear(count_together(histories, 5), known, Strengths(2.0, 3.0))
    new = outside.new_scores(histories, whole.vectors[5:])
    assert new[:, 0] == pytest.approx(inside.scores(histories)[:, 5], abs=1e-4)


def _refitted(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mapped = unit @ np.linalg.inv(unit.T @ unit + np.eye(unit.shape[1]))
    return mapped.astype(np.float32), (mapped * unit).sum(axis=1).astype(np.float32)


def test_a_penalty_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="penalty is 0"):
        fit_linear(count_together(HISTORIES, ITEMS), None, Strengths(0.0))


def test_nothing_known_is_no_error() -> None:
    found = fit_linear(count_together([np.zeros(0, np.int64)], 3), None, Strengths(1.0))
    assert found.scores([np.zeros(0, np.int64)]).tolist() == [[0.0, 0.0, 0.0]]

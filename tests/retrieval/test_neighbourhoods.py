"""The form for large catalogues: with all items near it is the dense one."""

import numpy as np
import pytest

from corella.retrieval.linear import Strengths, count_together, fit_linear, text_part
from corella.retrieval.neighbourhoods import fit_neighbourhoods, nearest_items

ITEMS = 12
RNG = np.random.default_rng(3)
HISTORIES = [RNG.permutation(ITEMS)[: RNG.integers(2, 7)] for _ in range(60)]
VECTORS = RNG.normal(size=(ITEMS, 4)).astype(np.float32)


@pytest.mark.parametrize("strengths", [Strengths(2.0), Strengths(2.0, 5.0, 0.0, 0.8), Strengths(2.0, 5.0, 3.0, 0.7)])
def test_with_all_items_near_it_is_the_dense_form(strengths: Strengths) -> None:
    counts, text = count_together(HISTORIES, ITEMS), text_part(VECTORS)
    near = np.array([[other for other in range(ITEMS) if other != item] for item in range(ITEMS)])
    dense, sparse = fit_linear(counts, text, strengths), fit_neighbourhoods(counts, text, strengths, near)
    assert sparse.scores(HISTORIES) == pytest.approx(dense.scores(HISTORIES), abs=1e-4)
    assert sparse.reasons(HISTORIES[0], 3) == pytest.approx(dense.reasons(HISTORIES[0], 3), abs=1e-4)


def test_an_item_is_not_near_itself_and_comes_once() -> None:
    counts, text = count_together(HISTORIES, ITEMS), text_part(VECTORS)
    near = nearest_items(counts, text, 6)
    assert near.shape == (ITEMS, 6)
    for item, others in enumerate(near):
        real = others[others >= 0]
        assert item not in real and len(set(real)) == len(real)


def test_the_nearest_by_likes_and_by_text() -> None:
    """0 and 1 are liked together; the texts of 0 and 2 are the same; nothing else is known of 3."""
    counts = count_together([np.array([0, 1]), np.array([0, 1]), np.array([3])], 4)
    vectors = np.array([[1, 0], [-1, 0], [1, 0.01], [0, -1]], np.float32)
    near = nearest_items(counts, text_part(vectors), 2)
    assert set(near[0].tolist()) == {1, 2}
    assert nearest_items(counts, None, 2)[3].tolist() == [-1, -1]


def test_items_without_neighbours_have_no_weights() -> None:
    counts = count_together([np.array([0, 1])], 3)
    found = fit_neighbourhoods(counts, None, Strengths(1.0), nearest_items(counts, None, 2))
    assert found.scores([np.array([2])]).tolist() == [[0.0, 0.0, 0.0]]
    assert found.scores([np.array([0])])[0, 1] > 0

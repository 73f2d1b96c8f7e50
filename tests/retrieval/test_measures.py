"""Quality of retrieved lists, by hand and by its properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corella.retrieval.measures import ndcg_at, recall_at


def test_by_hand() -> None:
    lists = [np.array([5, 1, 9, 2]), np.array([7, 8, 0, 3])]
    relevant = [np.array([1, 2]), np.array([4])]
    assert recall_at(2, lists, relevant).tolist() == [0.5, 0.0]
    assert recall_at(4, lists, relevant).tolist() == [1.0, 0.0]
    assert recall_at(1, [np.array([1])], [np.array([1, 2, 3])]).tolist() == [1.0]  # one place, filled well
    found = 1 / np.log2(3) + 1 / np.log2(5)
    perfect = 1 + 1 / np.log2(3)
    assert ndcg_at(4, lists, relevant) == pytest.approx([found / perfect, 0.0])


def test_a_user_without_relevant_items_has_no_figure() -> None:
    for metric in (recall_at, ndcg_at):
        with pytest.raises(ValueError, match="without relevant items"):
            metric(5, [np.array([1])], [np.zeros(0, int)])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 20), st.integers(1, 15))
def test_a_perfect_list_is_one_and_none_is_more(seed: int, length: int, k: int, wanted: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(60)
    relevant = order[:wanted]
    perfect = [np.r_[relevant, order[wanted:]]]
    other = [rng.permutation(60)[:length]]
    for metric in (recall_at, ndcg_at):
        assert metric(k, perfect, [relevant])[0] == pytest.approx(1)
        assert 0 <= metric(k, other, [relevant])[0] <= 1

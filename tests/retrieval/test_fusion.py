"""The learned order of candidates: what it reads by hand, and when it is worth having."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from corella.retrieval.catalogue import Catalogue
from corella.retrieval.fusion import FEATURES, candidate_features, fit_fusion
from corella.retrieval.linear import Linear, Strengths

NONE = np.zeros((4, 0), np.float32)


def _linear() -> Linear:
    weights = np.zeros((4, 4), np.float32)
    weights[0, 2], weights[1, 2], weights[1, 3] = 2.0, 1.0, 3.0
    return Linear(weights, Strengths(1.0, recency=0.5), NONE, NONE.T)


def _catalogue() -> Catalogue:
    vectors = np.array([[1, 0], [0, 1], [0, 1], [0.6, 0.8]], np.float32)
    follows = csr_matrix(np.array([[0, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32))
    words = csr_matrix(np.array([[1, 0], [0, 0], [1, 0], [0.6, 0.8]], np.float32))
    fields = csr_matrix(np.array([[1], [0], [0], [1]], np.float32))
    together, following = (csr_matrix(_linear().weights * factor) for factor in (0.5, 2.0))
    popularity = (np.array([0, 1, 2, 3], np.float32) * factor for factor in (1.0, 0.5, 0.25))
    return Catalogue(vectors, words, fields, together, following, follows, *popularity)


def test_features_by_hand() -> None:
    linear, history = _linear(), np.array([0, 1])
    scores = linear.scores([history])
    (found,) = candidate_features(linear, _catalogue(), [history], scores, [np.array([3, 2])])
    told = {name: found[:, place].tolist() for place, name in enumerate(FEATURES)}
    assert told["linear"] == [3.0, 2.0]  # 3; 2 * .5 + 1
    assert told["linear place"] == [0.0, 1.0]
    assert told["linear, all as recent"] == [3.0, 3.0]
    assert told["linear, newest item"] == [3.0, 1.0]
    assert told["text, newest item"] == pytest.approx([0.8, 1.0])
    assert told["text, nearest"] == pytest.approx([0.8, 1.0])
    assert told["text, mean"] == pytest.approx([0.7, 0.5])
    assert told["words, newest item"] == [0.0, 0.0] and told["words, nearest"] == pytest.approx([0.6, 1.0])
    assert told["fields, nearest"] == [1.0, 0.0] and told["fields, mean"] == [0.5, 0.0]
    assert told["together"] == [1.5, 1.0] and told["together / best"] == pytest.approx([1.0, 2 / 3])
    assert told["next"] == [6.0, 4.0]
    assert told["followed newest item"] == pytest.approx([0.0, np.log(6)])
    assert told["popularity"] == [3.0, 2.0] and told["popularity lately"] == [1.5, 1.0] and told["new"] == [0.75, 0.5]
    assert np.isnan(told["language model"]).all()


def test_a_history_of_nothing_is_no_error() -> None:
    linear, empty = _linear(), np.zeros(0, np.int64)
    (found,) = candidate_features(linear, _catalogue(), [empty], linear.scores([empty]), [np.array([1])])
    assert np.isfinite(found[:, :-1]).all()


def _drawn(users: int, telling: bool) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """One of ten candidates is wanted; where `telling`, the last but one feature says which."""
    rng = np.random.default_rng(1)
    features, candidates, wanted = [], [], []
    for _ in range(users):
        right = int(rng.integers(10))
        known = rng.normal(size=(10, len(FEATURES))).astype(np.float32)
        known[:, 0] = -np.arange(10)
        if telling:
            known[:, 4] = (np.arange(10) == right) + 0.1 * rng.normal(size=10)
        features.append(known)
        candidates.append(np.arange(10))
        wanted.append(np.array([right]))
    return features, candidates, wanted


def test_it_learns_what_tells_and_says_when_nothing_does() -> None:
    told = fit_fusion(*_drawn(600, True), at=3, seed=1)
    assert told is not None and told.worthwhile and told.ndcg.mean() > told.without.mean() + 0.2
    nothing = fit_fusion(*_drawn(600, False), at=3, seed=1)
    assert nothing is not None and not nothing.worthwhile
    assert told.beats(nothing) and not nothing.beats(told)
    features, candidates, wanted = _drawn(5, True)
    for known, items, mine in zip(features, candidates, wanted, strict=True):
        assert items[told.fusion.order(known)][0] == mine[0]


def test_too_few_users_teach_nothing() -> None:
    assert fit_fusion(*_drawn(20, True), at=3, seed=1) is None

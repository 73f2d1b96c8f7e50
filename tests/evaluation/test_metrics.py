"""Metrics against scikit-learn and by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import accuracy_score, log_loss, ndcg_score, roc_auc_score

from corella.evaluation.metrics import calibration_error, ndcg, quality, user_auc


def test_quality_is_sklearns() -> None:
    rng = np.random.default_rng(0)
    logit, user = rng.normal(0, 2, 500).astype(np.float32), rng.integers(0, 40, 500)
    label = (rng.random(500) < expit(logit)).astype(int)
    q = quality(label, logit, user)
    assert q.auc == pytest.approx(roc_auc_score(label, logit))
    assert q.logloss == pytest.approx(log_loss(label, expit(logit.astype(float))))
    assert q.accuracy == pytest.approx(accuracy_score(label, logit >= 0))
    assert q.auc_low < q.auc < q.auc_high
    assert q.user_auc == pytest.approx(user_auc(label, logit, user))
    assert q.ece < 0.1


def test_user_auc_by_hand() -> None:
    """User 1: three of four pairs; user 2: no pair right; user 3 has one answer only."""
    user = np.array([1, 2, 1, 3, 1, 2, 1, 3])
    label = np.array([1, 1, 0, 1, 1, 0, 0, 1])
    score = np.array([0.9, 0.1, 0.5, 0.3, 0.4, 0.2, 0.3, 0.2])
    assert user_auc(label, score, user) == pytest.approx((0.75 + 0.0) / 2)
    assert np.isnan(user_auc(np.array([1, 0]), np.array([0.1, 0.2]), np.array([1, 2])))


def test_calibration_error_by_hand() -> None:
    """Two bins: predicted .2 and observed .5; predicted .8 and observed 1."""
    label, p = np.array([0, 1, 1, 1]), np.array([0.2, 0.2, 0.8, 0.8])
    assert calibration_error(label, p, bins=2) == pytest.approx((2 * 0.3 + 2 * 0.2) / 4)
    assert calibration_error(np.array([1]), np.array([0.4])) == pytest.approx(0.6)


def test_ndcg_by_hand() -> None:
    """Ranked: positive, negative, positive. DCG 1 + 1/2, ideal 1 + 1/log2(3); a user without a positive is left out."""
    user, label = np.array([1, 1, 1, 2, 2, 3]), np.array([1, 0, 1, 0, 0, 1])
    score = np.array([0.9, 0.5, 0.1, 0.3, 0.2, 0.9])
    assert ndcg(label, score, user, 10) == pytest.approx(1.5 / (1 + 1 / np.log2(3)))
    assert ndcg(label, score, user, 1) == 1.0
    assert np.isnan(ndcg(np.array([0, 0]), np.array([0.1, 0.2]), np.array([1, 1]), 10))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 12))
def test_ndcg_is_sklearns(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    label, score = np.r_[1, rng.integers(0, 2, n - 1)], rng.permutation(n) / n
    assert ndcg(label, score, np.zeros(n, int), k) == pytest.approx(ndcg_score([label], [score], k=k))


def test_undefined_figures_are_null() -> None:
    """Every user has one sample (leave-last-out): there is no AUC within a user, and JSON has no nan."""
    rng = np.random.default_rng(0)
    row = quality(np.r_[0, 1, rng.integers(0, 2, 48)], rng.normal(size=50), np.arange(50)).model_dump()
    assert (row["user_auc"], row["ndcg10"]) == (None, None)
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_ndcg_of_equal_scores_does_not_depend_on_the_order() -> None:
    user, score = np.zeros(4, int), np.zeros(4)
    first, last = (ndcg(np.array(label), score, user, 10) for label in ([1, 1, 0, 0], [0, 0, 1, 1]))
    discount = 1 / np.log2(np.arange(2, 6))
    assert first == last == pytest.approx(0.5 * discount.sum() / discount[:2].sum())

"""DeLong by its definition, the weighted AUC by scikit-learn, and intervals that cover what they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from corella.intervals import _Ordered, auc_interval, bootstrap_mean, paired_bootstrap


def _delong(label: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """AUC and its standard error by the definition: the placements of every positive and of every negative."""
    positive, negative = score[label == 1], score[label == 0]
    kernel = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    v10, v01 = kernel.mean(1), kernel.mean(0)
    return float(kernel.mean()), float(np.sqrt(v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)))


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_delong_is_its_definition(decimals: int, level: float) -> None:
    rng = np.random.default_rng(decimals)
    score = np.round(rng.normal(size=120), decimals)
    label = (rng.random(120) < expit(score)).astype(int)
    auc, error = _delong(label, score)
    low, high = auc_interval(label, score, level)
    half = norm.ppf(0.5 + level / 2) * error
    assert (low, high) == pytest.approx((auc - half, auc + half))


def test_delong_agrees_with_a_bootstrap() -> None:
    rng = np.random.default_rng(2)
    score = rng.normal(size=600)
    label = (rng.random(600) < expit(1.5 * score)).astype(int)
    draws = []
    for _ in range(600):
        i = rng.integers(0, 600, 600)
        draws.append(roc_auc_score(label[i], score[i]))
    assert auc_interval(label, score) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.006)


def test_delong_at_the_edges() -> None:
    assert auc_interval(np.array([1, 1, 0, 0]), np.array([3, 2, 1, 0])) == (1.0, 1.0)
    assert auc_interval(np.array([1, 0, 0]), np.array([3, 2, 1])) == (0.0, 1.0)  # one positive says nothing
    low, high = auc_interval(np.array([1, 0] * 10), np.r_[np.arange(18), 50, 0])
    assert 0 <= low < high <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 8))
def test_weighted_auc_is_sklearns(seed: int, n: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.r_[0, 1, rng.integers(0, 2, n - 2)])
    score = rng.integers(0, values, n) / 7  # ties
    weight = rng.integers(0, 4, n).astype(float)
    ours = _Ordered.of(label, score).auc(weight)
    if weight[label == 1].sum() == 0 or weight[label == 0].sum() == 0:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(roc_auc_score(label, score, sample_weight=weight))


def _pair(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    label = (rng.random(n) < expit(2 * truth)).astype(int)
    return label, truth + rng.normal(0, 1.5, n), truth + rng.normal(0, 0.5, n)


def test_bootstrap_by_hand() -> None:
    """The same draws, resampled row by row."""
    label, a, b = _pair(0, 80)
    found = paired_bootstrap(label, a, b, 50, seed=5)
    rng = np.random.default_rng(5)
    differences = []
    for _ in range(50):
        i = rng.integers(0, 80, 80)
        differences.append(roc_auc_score(label[i], b[i]) - roc_auc_score(label[i], a[i]))
    assert found.mean == pytest.approx(roc_auc_score(label, b) - roc_auc_score(label, a))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))


def test_bootstrap_finds_the_better() -> None:
    label, worse, better = _pair(1)
    found = paired_bootstrap(label, worse, better, 300, seed=1)
    assert 0 < found.low < found.mean < found.high
    assert found.p_value == pytest.approx(2 / 300)  # never smaller than the resamples can tell
    mirrored = paired_bootstrap(label, better, worse, 300, seed=1)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    same = paired_bootstrap(label, worse, 3 * worse, 300, seed=1)
    assert (same.mean, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_whole_users_make_a_wider_interval() -> None:
    """Ten copies of each row are no new evidence: resampling users says so, resampling rows does not."""
    label, a, b = (np.repeat(x, 10) for x in _pair(2, 100))
    user = np.repeat(np.arange(100), 10)
    rows, users = (paired_bootstrap(label, a, b, 200, 1, cluster) for cluster in (None, user))
    assert rows.mean == users.mean
    assert (users.high - users.low) > 2 * (rows.high - rows.low)


def test_several_draws_have_the_mean_of_their_quality() -> None:
    label, a, b = _pair(3)
    draws = np.stack([a, -a, b])
    found = paired_bootstrap(label, draws, b, 50, 1)
    assert found.mean == pytest.approx(roc_auc_score(label, b) - np.mean([roc_auc_score(label, z) for z in draws]))
    assert paired_bootstrap(label, np.stack([a, a]), b, 50, 1) == paired_bootstrap(label, a, b, 50, 1)


def test_a_mean_of_units() -> None:
    """Against the normal interval of a mean; and four units tell nothing."""
    values = np.random.default_rng(4).normal(0.2, 1, 500)
    found = bootstrap_mean(values, 2000, 1)
    half = 1.96 * values.std(ddof=1) / np.sqrt(500)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert (bootstrap_mean(values[:4], 10, 1).low, bootstrap_mean(values[:4], 10, 1).high) == (-1, 1)


def test_a_handful_of_users_tells_nothing() -> None:
    label, a, b, user = np.tile([0, 1], 20), np.tile([0.2, 0.1], 20), np.tile([0.1, 0.2], 20), np.arange(40) % 4
    few = paired_bootstrap(label, a, b, 50, 1, user)
    assert (few.mean, few.low, few.high, few.p_value) == (1.0, -1.0, 1.0, 1.0)
    assert paired_bootstrap(label, a, b, 50, 1, np.arange(40) // 2 % 5).low == 1.0

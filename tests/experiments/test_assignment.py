"""Users get arms by a hash: always the same, in the shares asked for, independent from one experiment to the next."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from corella.errors import UserError
from corella.experiments.assignment import arm_of

USERS = [f"user-{i}" for i in range(20_000)]


def _arms(experiment: str, shares: list[float]) -> np.ndarray:
    return np.array([arm_of(user, experiment, shares) for user in USERS])


def test_an_arm_never_changes() -> None:
    assert [arm_of(str(i), "e", [0.5, 0.3, 0.2]) for i in range(12)] == [0, 0, 2, 2, 1, 2, 2, 2, 0, 0, 0, 1]
    assert (_arms("e", [0.5, 0.5]) == _arms("e", [0.5, 0.5])).all()


def test_arms_have_their_shares() -> None:
    shares = [0.6, 0.3, 0.1]
    counts = np.bincount(_arms("home page", shares), minlength=3)
    assert chisquare(counts, np.array(shares) * len(USERS)).pvalue > 0.001


def test_experiments_are_independent() -> None:
    first, second = _arms("one", [0.5, 0.5]), _arms("two", [0.5, 0.5])
    table = np.array([[np.sum((first == i) & (second == j)) for j in range(2)] for i in range(2)])
    assert chi2_contingency(table).pvalue > 0.001


def test_a_growing_arm_only_gains_users() -> None:
    before, after = _arms("ramp", [0.9, 0.1]), _arms("ramp", [0.5, 0.5])
    assert (after[before == 1] == 1).all()
    assert 0.38 < np.mean(after > before) < 0.42


def test_an_empty_share_gets_nobody() -> None:
    assert set(_arms("e", [0.0, 0.5, 0.0, 0.5, 0.0])) == {1, 3}
    assert set(_arms("e", [1 / 3] * 3 + [0.0])) == {0, 1, 2}


def test_names_do_not_run_together() -> None:
    """Without the NUL, experiment "a" with user "bc" would share its hash with experiment "ab" and user "c"."""
    halves = [0.5, 0.5]
    pairs = [(arm_of(f"b{i}", "a", halves), arm_of(f"{i}", "ab", halves)) for i in range(200)]
    assert 60 < sum(a == b for a, b in pairs) < 140


@pytest.mark.parametrize("shares", [[], [0.5], [0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0], [float("inf"), 0.0]])
def test_shares_must_sum_to_one(shares: list[float]) -> None:
    with pytest.raises(UserError, match="sum to 1"):
        arm_of("ann", "e", shares)


def test_odd_names() -> None:
    with pytest.raises(UserError, match="NUL"):
        arm_of("ann", "a\0b", [1.0])
    assert arm_of("", "", [1.0]) == arm_of("\ud800", "e", [1.0]) == 0

"""Estimates of a policy that was not served, by hand and from simulated logs whose truth is known."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import expit, softmax

from corella.errors import UserError
from corella.experiments.off_policy import doubly_robust, inverse_propensity, self_normalised


@dataclass(frozen=True)
class _Log:
    given: dict[str, np.ndarray]
    """What every estimator takes."""
    predicted: np.ndarray
    """By the mean rewards of all users: right on average, blind to a user's own taste."""
    expected: np.ndarray
    truth: float
    """The target's mean reward on these users and contexts."""


def _log(seed: int, users: int = 200, actions: int = 4) -> _Log:
    """One to 14 impressions a user, whose clicks share the user's taste."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), rng.integers(1, 15, users))
    rows, n, action = np.arange(len(user)), len(user), np.arange(actions)
    context = np.outer(rng.normal(size=n), action - 1.5)
    taste = rng.normal(0, 0.7, users)[user, None]
    mean, model = expit(-1 + context / 2 + taste), expit(-1 + context / 2)
    logging, target = softmax(0.2 * context - 0.3 * action, 1), softmax(0.8 * context, 1)
    taken = np.minimum((rng.random((n, 1)) > logging.cumsum(1)).sum(1), actions - 1)
    given = {
        "reward": (rng.random(n) < mean[rows, taken]).astype(float),
        "propensity": logging[rows, taken],
        "target": target[rows, taken],
        "user": user,
    }
    return _Log(given, model[rows, taken], (target * model).sum(1), float((target * mean).sum(1).mean()))


@pytest.fixture(scope="module")
def logs() -> list[_Log]:
    return [_log(seed) for seed in range(300)]


@pytest.fixture(scope="module")
def truth(logs: list[_Log]) -> float:
    """Over the population of users: 300 logs with no noise from the clicks or the lots."""
    return float(np.mean([log.truth for log in logs]))


def test_intervals_cover_the_truth(logs: list[_Log], truth: float) -> None:
    ips, normal, robust, wrong = [], [], [], []
    for log in logs:
        ips.append(inverse_propensity(**log.given))
        normal.append(self_normalised(**log.given))
        robust.append(doubly_robust(**log.given, predicted=log.predicted, expected=log.expected))
        off = np.full_like(log.predicted, 0.9)
        wrong.append(doubly_robust(**log.given, predicted=off, expected=off))
    for estimates in (ips, normal, robust, wrong):
        assert np.mean([e.value for e in estimates]) == pytest.approx(truth, abs=0.004)
        assert 0.91 <= np.mean([e.low <= truth <= e.high for e in estimates]) <= 0.98

    def width(estimates: list) -> float:
        return float(np.mean([e.high - e.low for e in estimates]))

    assert width(robust) < 0.92 * width(ips)
    assert width(robust) < width(wrong)


def test_users_as_units_widen_the_interval(logs: list[_Log], truth: float) -> None:
    """Impressions taken as independent would miss the truth more often than said."""
    alone = [inverse_propensity(**{**log.given, "user": np.arange(len(log.predicted))}) for log in logs]
    assert np.mean([e.low <= truth <= e.high for e in alone]) < 0.92


def test_a_right_model_mends_wrong_propensities(logs: list[_Log]) -> None:
    """The other half of double robustness."""
    log = logs[0]
    wrong = {**log.given, "propensity": np.full_like(log.predicted, 0.25)}
    honest = (np.random.default_rng(1).random(len(log.predicted)) < log.predicted).astype(float)
    robust = doubly_robust(**{**wrong, "reward": honest}, predicted=log.predicted, expected=log.expected)
    assert robust.low < log.expected.mean() < robust.high


REWARD = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
PROPENSITY = np.array([0.5, 0.5, 0.5, 0.25, 0.25, 0.5])
TARGET = np.array([1.0, 0.0, 0.5, 0.25, 1.0, 0.5])
USER = np.array([0, 0, 1, 2, 3, 4])
WEIGHT = np.array([2.0, 0.0, 1.0, 1.0, 4.0, 1.0])


def test_by_hand() -> None:
    plain = inverse_propensity(REWARD, PROPENSITY, TARGET, USER, clip=math.inf)
    assert plain.value == pytest.approx(5 / 6)
    assert plain.effective == pytest.approx(81 / 23)
    assert plain.largest_weight == 4
    pull = np.array([2 - 10 / 6, 1 / 6, 1 / 6, -5 / 6, 1 / 6])  # per user: sum of w r less the mean
    error = np.sqrt((pull**2).sum() * 5 / 4) / 6
    assert plain.high - plain.value == pytest.approx(2.776445 * error)  # Student's t, 4 degrees of freedom
    assert plain.value - plain.low == pytest.approx(2.776445 * error)

    assert self_normalised(REWARD, PROPENSITY, TARGET, USER, clip=math.inf).value == pytest.approx(5 / 9)
    predicted, expected = np.full(6, 0.5), np.full(6, 0.6)
    robust = doubly_robust(REWARD, PROPENSITY, TARGET, predicted, expected, USER, clip=math.inf)
    assert robust.value == pytest.approx(0.6 + (WEIGHT @ (REWARD - 0.5)) / 6)


def test_clipping() -> None:
    clipped = self_normalised(REWARD, PROPENSITY, TARGET, USER, clip=1)
    assert clipped.value == pytest.approx(4 / 5)
    assert clipped.effective == pytest.approx(5)
    assert clipped.largest_weight == 4  # as logged
    by_root = self_normalised(REWARD, PROPENSITY, TARGET, USER)
    assert by_root.value == pytest.approx(5 / (5 + math.sqrt(6)))
    for clip in (0, -1, math.nan):
        with pytest.raises(UserError, match="clipped"):
            inverse_propensity(REWARD, PROPENSITY, TARGET, USER, clip=clip)


def test_the_logging_policy_itself_is_its_mean() -> None:
    rng = np.random.default_rng(2)
    reward, chance = rng.integers(0, 2, 500), rng.uniform(0.1, 1, 500)
    user = rng.choice(["ann", "bob", "cy", "dee", "eve", "flo"], 500)
    for estimate in (inverse_propensity, self_normalised):
        own = estimate(reward, chance, chance, user)
        assert own.value == pytest.approx(reward.mean())
        assert own.effective == pytest.approx(500)
    normal = self_normalised(reward + 100, chance, rng.uniform(0, 1, 500), user)
    assert 100 <= normal.value <= 101  # within the rewards, whatever the weights


def test_few_users_tell_nothing() -> None:
    one = inverse_propensity(REWARD, PROPENSITY, TARGET, np.zeros(6, int))
    assert (one.low, one.high) == (-math.inf, math.inf)


def test_a_target_that_was_never_logged() -> None:
    none = np.zeros(6)
    assert inverse_propensity(REWARD, PROPENSITY, none, USER).effective == 0
    with pytest.raises(UserError, match="none of the logged"):
        self_normalised(REWARD, PROPENSITY, none, USER)
    assert doubly_robust(REWARD, PROPENSITY, none, none, np.full(6, 0.3), USER).value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("propensity", np.r_[0.0, PROPENSITY[1:]]),
        ("propensity", np.r_[1.1, PROPENSITY[1:]]),
        ("propensity", np.r_[np.nan, PROPENSITY[1:]]),
        ("propensity", PROPENSITY[1:]),
        ("target", np.r_[-0.1, TARGET[1:]]),
        ("target", np.r_[1.1, TARGET[1:]]),
        ("target", np.r_[np.nan, TARGET[1:]]),
        ("target", TARGET[:, None]),
        ("reward", np.r_[np.inf, REWARD[1:]]),
        ("user", USER[:3]),
        ("predicted", np.ones(5)),
        ("predicted", np.r_[np.nan, np.ones(5)]),
        ("expected", np.r_[np.inf, np.ones(5)]),
    ],
)
def test_wrong_inputs(name: str, wrong: np.ndarray) -> None:
    given = {"reward": REWARD, "propensity": PROPENSITY, "target": TARGET, "user": USER}
    given |= {"predicted": np.ones(6), "expected": np.ones(6)}
    with pytest.raises(UserError, match=f"'{name}'"):
        doubly_robust(**{**given, name: wrong})


def test_an_empty_log() -> None:
    none = np.array([])
    with pytest.raises(UserError, match="at least one"):
        inverse_propensity(none, none, none, none)

"""The difference of two arms, with an interval that may be watched after every outcome.

A usual 95 % interval holds at one moment that was fixed beforehand. Who looks daily, and stops once it leaves zero,
finds a difference in far more than 5 % of the experiments where there is none. A confidence sequence holds at all
moments at once, so one may look and stop at any.

What to feed. An outcome is a value in [0, 1] of one independent unit. Events of one user are dependent: with the
user as the unit of assignment, feed one outcome a user (such as the share of a user's first ten exposures that were
clicked), once it is complete, or at least one a user and day, once the day is over. Exposures may be fed one by one
only where users have about one each: otherwise the interval is too narrow. Where m outcomes of one user correlate by
r, the variance of a mean is 1 + (m - 1) r times what is taken here. Keep the shares of the arms fixed meanwhile: where
rates drift and shares change, the arms' means differ without any effect.

Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52(6), 2024, arXiv 2103.06476: Theorem 2.2 (Robbins' normal mixture) and section 3
(a difference of randomised arms; here without covariates). It is asymptotic: the guarantee holds as the first look
comes late. Hence `LEAST_COUNT` and `LEAST_SPREAD`.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import lambertw
from scipy.stats import norm

from corella.errors import UserError

Floats = npt.NDArray[np.floating]
Numbers = npt.NDArray[np.floating] | npt.NDArray[np.integer]

LEAST_COUNT = 100
"""Burn-in: with fewer outcomes than these in either arm the interval is all that a difference can be, -1 to 1."""

LEAST_SPREAD = 10.0
"""An arm's sum of squared deviations counts as at least this, about what ten clicks have.

A sample's variance is far too small where clicks are few (none at all: zero). For values in [0, 1] the Berry-Esseen
bound of a mean is at most a constant over the root of this sum, so the sum says how near to normal the mean is.
"""


@dataclass(frozen=True)
class Arm:
    """What is kept of the outcomes of one arm. Arms of several servers add up.

    >>> Arm.of(np.array([0.0, 1.0])) + Arm().seen(0.5)
    Arm(count=3, total=1.5, squares=1.25)
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    """Sum of the outcomes' squares."""

    @classmethod
    def of(cls, outcomes: Numbers) -> "Arm":
        """The statistics of outcomes [n], each in [0, 1]. Raises UserError where one is not."""
        values = np.asarray(outcomes, dtype=np.float64)
        if not bool(np.all((values >= 0) & (values <= 1))):
            raise UserError("an outcome of an experiment must be a number from 0 to 1")
        return cls(values.size, float(values.sum()), float((values**2).sum()))

    def seen(self, outcome: float) -> "Arm":
        """With one more outcome, in [0, 1]. Raises UserError where it is not."""
        return self + Arm.of(np.array([outcome]))

    def __add__(self, other: "Arm") -> "Arm":
        """Both together."""
        return Arm(self.count + other.count, self.total + other.total, self.squares + other.squares)


def interval(*, control: Arm, treatment: Arm, horizon: float, alpha: float = 0.05) -> tuple[float, float]:
    """Where the difference of the means (treatment minus control) lies: low and high, in [-1, 1].

    `horizon`: the number of outcomes an arm at which the interval is to be as narrow as it can, fixed before the start,
    such as `needed`. The interval holds at any other number too, and is somewhat wider there than it could be.
    `alpha`: at most this share of experiments (about, see `LEAST_COUNT`) ever has an interval without the truth. For k
    treatments against one control, pass alpha / k.

    Raises UserError where `horizon` is not a positive number or `alpha` is not in (0, 1).

    >>> control, treatment = Arm(5000, 500, 500), Arm(5000, 650, 650)
    >>> low, high = interval(control=control, treatment=treatment, horizon=5000)
    >>> print(f"{low:.4f} {high:.4f}")
    0.0107 0.0493
    >>> interval(control=Arm(99, 50, 50), treatment=treatment, horizon=5000)
    (-1.0, 1.0)
    """
    pair = control, treatment
    low, high = bounds(
        np.array([arm.count for arm in pair]),
        np.array([arm.total for arm in pair]),
        np.array([arm.squares for arm in pair]),
        horizon,
        alpha,
    )
    return float(low), float(high)


def bounds(
    count: Numbers, total: Numbers, squares: Numbers, horizon: float, alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """`interval` of many moments or experiments at once: low [...] and high [...], float64.

    `count`, `total`, `squares`: the arms' statistics [2, ...], row 0 the control, row 1 the treatment.

    >>> low, high = bounds(np.array([[0, 1000], [0, 1000]]), np.array([[0, 100], [0, 200]]),
    ...                    np.array([[0, 100], [0, 200]]), horizon=1000)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([-1.0, 0.052], [1.0, 0.148])
    """
    _check_alpha(alpha)
    if not 0 < horizon < math.inf:
        raise UserError(f"the horizon of an experiment must be a positive number, not {horizon}")
    n = np.maximum(count, 1)
    mean = total / n
    spread = np.maximum(squares - total * mean, LEAST_SPREAD)
    error = np.sqrt((spread / n**2.0).sum(0))
    # The paper's sigma^2 / t is the variance of the difference. Any unit of t will do: the harmonic mean of the counts
    # is an arm's count where both are equal, and otherwise the equal count that would tell as much.
    time = 2 / (1 / n).sum(0) * (_narrowest(alpha) / horizon)
    half = error * np.sqrt((time + 1) / time * (np.log(time + 1) - 2 * math.log(alpha)))
    half = np.where(np.min(count, axis=0) < LEAST_COUNT, 2.0, half)  # 2: wider than any difference
    difference = mean[1] - mean[0]
    return np.maximum(difference - half, -1.0), np.minimum(difference + half, 1.0)


def needed(rate: float, relative_lift: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """How many outcomes an arm shows a lift of the rate, with at least this power, by an interval without zero.

    `rate`: the control's mean, in (0, 1). `relative_lift`: 0.02 for 2 % more, negative for less. Both arms have equal
    shares, and `interval` has the result as its horizon. Then the interval at the horizon reaches
    c = sqrt(1 + rho^2 horizon) standard errors to each side, and the result is where the difference is c plus the
    normal quantile of the power. This counts only a look at the horizon. Who watches on the way also finds what was
    seen before and would be lost by then, so the true power is higher (0.86 in simulations for 0.8), and half of the
    experiments can stop at about half of the result.

    Outcomes are taken as yes or no. Others in [0, 1] with the same mean vary less, so for them it is enough too.
    Dependent outcomes need more: see the factor at the top of this module.

    Raises UserError where the rate, before or after the lift, is not in (0, 1), where the lift is zero, and where
    `power` or `alpha` is not in (0, 1).

    >>> needed(0.3, 0.02)
    176327
    >>> needed(0.3, 0.1)
    7199
    """
    _check_alpha(alpha)
    lifted = rate * (1 + relative_lift)
    if not (0 < rate < 1 and 0 < lifted < 1) or lifted == rate:
        raise UserError(f"a rate of {rate} with a lift of {relative_lift} must give another rate, both between 0 and 1")
    if not 0 < power < 1:
        raise UserError(f"the power must be between 0 and 1, not {power}")
    variance = rate * (1 - rate) + lifted * (1 - lifted)
    errors = math.sqrt(_narrowest(alpha) + 1) + float(norm.ppf(power))
    return max(math.ceil(variance * (errors / (lifted - rate)) ** 2), LEAST_COUNT)


def _narrowest(alpha: float) -> float:
    """rho^2 times the horizon, such that the mixture's interval is narrowest at the horizon.

    With x = rho^2 t + 1 its squared width is proportional to x / (x - 1) (log x - 2 log alpha). The derivative is zero
    where x - log x = 1 - 2 log alpha, which Lambert's W solves, and the squared width there is x (squared standard
    errors). The paper's section on the choice of rho has the same.
    """
    return float(-lambertw(-(alpha**2) / math.e, -1).real) - 1


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise UserError(f"alpha must be between 0 and 1, not {alpha}")

"""What a policy would have earned that was never served, from the impressions that another policy logged.

The logging policy must draw lots, and log the probability with which it drew what was shown (the propensity). Each
impression is then weighed by how much likelier the target policy is to show the same: w = target / propensity.

- `inverse_propensity`: the mean of w r. Unbiased without clipping; wide where the policies differ much.
- `self_normalised`: the sum of w r over the sum of w. Stays within the rewards' range; its bias goes with 1/n.
- `doubly_robust`: a reward model's value of the target, plus the mean of w (r - prediction). Right where either the
  propensities or the model are right; narrower the better the model.

What to feed, for n impressions, in any order:

- `reward` float [n]: what was earned, in the unit of the estimate (clicks: 0 or 1).
- `propensity` float [n], in (0, 1]: the logging policy's probability of the logged action in its context.
- `target` float [n], in [0, 1]: the target policy's probability of the same action in the same context.
- `user` [n], any dtype: whose impression it was. Impressions of one user may depend on each other; users may not.

Actions that the logging policy never takes and the target policy does leave no trace in the log: the first two miss
their reward, the third has only the model's word. The mean weight tells: it is near 1 where no action is missing.

Clipping. Weights above `clip` count as `clip`, which trades a bias (towards actions that the logging policy likes)
for a smaller variance. By default it is the root of n (Ionides, "Truncated importance sampling", JCGS 17(2), 2008):
the bias then vanishes as the log grows. `math.inf` clips nothing. No interval here includes the bias of clipping.

Sources: Swaminathan and Joachims, "The self-normalized estimator for counterfactual learning", NIPS 2015; Dudik,
Erhan, Langford and Li, "Doubly robust policy evaluation and optimization", Statistical Science 29(4), 2014. Intervals:
the sandwich variance with users as clusters (Liang and Zeger, Biometrika 73(1), 1986), by Student's t.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from corella.errors import UserError
from corella.intervals import LEAST_CLUSTERS

Floats = npt.NDArray[np.floating]
Numbers = npt.NDArray[np.floating] | npt.NDArray[np.integer] | npt.NDArray[np.bool_]
Codes = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Estimate:
    """The value of a policy: reward per impression, with its 95 % interval."""

    value: float
    low: float
    """Minus infinity, and `high` infinity, where fewer than `corella.intervals.LEAST_CLUSTERS` users were seen."""
    high: float
    effective: float
    """Kish's effective sample size of the clipped weights, in impressions: (sum w)^2 / sum w^2. Distrust an estimate
    that rests on few."""
    largest_weight: float
    """Before clipping."""


def inverse_propensity(
    reward: Numbers, propensity: Floats, target: Numbers, user: Codes, clip: float | None = None
) -> Estimate:
    """The mean of weight times reward. Inputs, clipping and source: see the module.

    Raises UserError where the arrays are empty, not flat or of different lengths, where a reward is not finite, a
    propensity is not in (0, 1] or a target probability not in [0, 1], and where `clip` is not positive.

    >>> reward, user = np.array([1.0, 0.0, 1.0, 1.0]), np.arange(4)
    >>> propensity, target = np.array([0.5, 0.5, 0.5, 0.25]), np.array([1.0, 0.0, 0.5, 0.25])
    >>> inverse_propensity(reward, propensity, target, user)  # weights 2, 0, 1, 1
    Estimate(value=1.0, low=-inf, high=inf, effective=2.6666666666666665, largest_weight=2.0)
    """
    weight, largest = _weights(reward, propensity, target, user, clip)
    terms = weight * reward
    value = float(terms.mean())
    return _estimate(value, terms - value, user, weight, largest)


def self_normalised(
    reward: Numbers, propensity: Floats, target: Numbers, user: Codes, clip: float | None = None
) -> Estimate:
    """The weighted mean of the reward. Inputs, clipping and source: see the module.

    Raises UserError where `inverse_propensity` does, and where all weights are zero.

    >>> reward, user = np.array([1.0, 0.0, 1.0, 0.0]), np.arange(4)
    >>> propensity, target = np.array([0.5, 0.5, 0.5, 0.25]), np.array([1.0, 0.0, 0.5, 0.25])
    >>> self_normalised(reward, propensity, target, user).value  # weights 2, 0, 1, 1
    0.75
    """
    weight, largest = _weights(reward, propensity, target, user, clip)
    if largest == 0:
        raise UserError("the target policy takes none of the logged actions, so the log tells nothing of it")
    value = float(weight @ reward / weight.sum())
    # The delta method's: how much one impression more would change the ratio, times n.
    influence = weight * (reward - value) / weight.mean()
    return _estimate(value, influence, user, weight, largest)


def doubly_robust(
    reward: Numbers,
    propensity: Floats,
    target: Numbers,
    predicted: Floats,
    expected: Floats,
    user: Codes,
    clip: float | None = None,
) -> Estimate:
    """A reward model's value of the target policy, corrected by its weighted errors. For the rest see the module.

    `predicted` float [n]: the model's reward of the logged action. `expected` float [n]: its mean reward over all
    actions, weighed by the target policy. Fit the model on other users: the interval takes it as given, and a model
    that knows the logged rewards hides its own errors.

    Raises UserError where `inverse_propensity` does, and where a prediction is not finite.

    >>> reward, user = np.array([1.0, 0.0, 1.0, 1.0]), np.arange(4)
    >>> propensity, target = np.array([0.5, 0.5, 0.5, 0.25]), np.array([1.0, 0.0, 0.5, 0.25])
    >>> doubly_robust(reward, propensity, target, np.full(4, 0.5), np.full(4, 0.75), user).value
    1.25
    """
    weight, largest = _weights(reward, propensity, target, user, clip)
    for name, values in (("predicted", predicted), ("expected", expected)):
        _check(name, values, len(weight))
        if not bool(np.isfinite(values).all()):
            raise UserError(f"'{name}' must be finite numbers")
    terms = expected + weight * (reward - predicted)
    value = float(terms.mean())
    return _estimate(value, terms - value, user, weight, largest)


def _weights(
    reward: Numbers, propensity: Floats, target: Numbers, user: Codes, clip: float | None
) -> tuple[Floats, float]:
    """The clipped weights [n], and the largest before clipping."""
    for name, values in (("reward", reward), ("propensity", propensity), ("target", target), ("user", user)):
        _check(name, values, len(reward))
    if not bool(np.isfinite(reward).all()):
        raise UserError("'reward' must be finite numbers")
    if not bool(np.all((propensity > 0) & (propensity <= 1))):
        raise UserError("'propensity' must be above 0 and at most 1: the probability with which the action was drawn")
    if not bool(np.all((target >= 0) & (target <= 1))):
        raise UserError("'target' must be a probability, from 0 to 1")
    most = math.sqrt(len(reward)) if clip is None else clip
    if not most > 0:
        raise UserError(f"weights must be clipped at a positive number, not {clip}")
    weight = np.asarray(target, dtype=np.float64) / propensity
    return np.minimum(weight, most), float(weight.max())


def _check(name: str, values: Codes, n: int) -> None:
    if values.shape != (n,) or n == 0:
        raise UserError(f"'{name}' must have one value for each of the {n} impressions (at least one)")


def _estimate(value: float, influence: Floats, user: Codes, weight: Floats, largest: float) -> Estimate:
    """`influence` [n], which sums to zero: how far each impression pulls the value. Users are summed up first, so that
    impressions of one user may depend on each other in any way."""
    squares = float(weight @ weight)
    effective = float(weight.sum()) ** 2 / squares if squares > 0 else 0.0
    pull = np.bincount(np.unique(user, return_inverse=True)[1], weights=influence)
    users = len(pull)
    if users < LEAST_CLUSTERS:
        return Estimate(value, -math.inf, math.inf, effective, largest)
    error = math.sqrt(float(pull @ pull) * users / (users - 1)) / len(influence)
    half = float(student.ppf(0.975, users - 1)) * error
    return Estimate(value, value - half, value + half, effective, largest)

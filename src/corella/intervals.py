"""Confidence: DeLong's interval of one AUC, a bootstrap of the paired difference of two, and one of a mean."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


def auc_interval(label: Ints, score: Floats, level: float = 0.95) -> tuple[float, float]:
    """DeLong's interval of the AUC (DeLong et al. 1988, by the mid-ranks of Sun and Xu 2014), cut to [0, 1]."""
    return auc_with_interval(label, score, level)[1:]


def auc_with_interval(label: Ints, score: Floats, level: float = 0.95) -> tuple[float, float, float]:
    """The AUC, and `auc_interval`.

    >>> auc_with_interval(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.2, 0.3]))[0]
    0.875
    """
    positive, negative = score[label == 1], score[label == 0]
    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:m] - rankdata(positive)) / n
    below = 1 - (ranks[m:] - rankdata(negative)) / m
    auc = float(above.mean())
    if m < 2 or n < 2:
        return auc, 0.0, 1.0
    error = float(np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n))
    half = float(norm.ppf(0.5 + level / 2)) * error
    return auc, max(auc - half, 0.0), min(auc + half, 1.0)


LEAST_CLUSTERS = 5
"""Fewer units than these tell nothing of how others would differ."""


@dataclass(frozen=True)
class Difference:
    """Quality of b minus quality of a on the same samples."""

    mean: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    p_value: float
    """Two-sided: how often a resample disagrees with the sign, doubled."""


def paired_bootstrap(
    label: Ints, a: Floats, b: Floats, resamples: int, seed: int, cluster: Ints | None = None
) -> Difference:
    """Resample rows (or whole clusters, such as users) and take the difference of the two AUCs each time.

    `a`, `b`: scores [rows], or [draws, rows] of a policy that draws lots: then the mean of the draws' AUCs. A resample
    is a weight for each row, so both AUCs come from sorting once. With fewer than `LEAST_CLUSTERS` units the interval
    is all that a difference can be, -1 to 1.
    """
    rng = np.random.default_rng(seed)
    unit = np.arange(len(label)) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    units = int(unit.max()) + 1
    curves_a, curves_b = ([_Ordered.of(label, draw) for draw in np.atleast_2d(score)] for score in (a, b))

    def change(weight: npt.NDArray[np.float64]) -> float:
        return float(np.mean([c.auc(weight) for c in curves_b]) - np.mean([c.auc(weight) for c in curves_a]))

    observed = change(np.ones(len(label)))
    if units < LEAST_CLUSTERS:
        return Difference(observed, -1.0, 1.0, 1.0)
    differences = np.empty(resamples)
    for i in range(resamples):
        differences[i] = change(np.bincount(rng.integers(0, units, units), minlength=units)[unit].astype(float))
    return _summed_up(observed, differences)


def bootstrap_mean(values: Floats, resamples: int, seed: int) -> Difference:
    """The mean of differences that were taken within units, such as users [units, at least one], with the units
    resampled. With fewer than `LEAST_CLUSTERS` units the interval is -1 to 1."""
    rng = np.random.default_rng(seed)
    observed, units = float(values.mean()), len(values)
    if units < LEAST_CLUSTERS:
        return Difference(observed, -1.0, 1.0, 1.0)
    return _summed_up(observed, np.array([values[rng.integers(0, units, units)].mean() for _ in range(resamples)]))


def _summed_up(observed: float, differences: npt.NDArray[np.float64]) -> Difference:
    low, high = np.nanquantile(differences, [0.025, 0.975])
    tail = min(float(np.mean(differences <= 0)), float(np.mean(differences >= 0)))
    return Difference(observed, float(low), float(high), float(min(1.0, 2 * max(tail, 1 / len(differences)))))


@dataclass(frozen=True)
class _Ordered:
    """Rows sorted by score, so that a weighted AUC is two cumulative sums."""

    order: npt.NDArray[np.int64]
    label: npt.NDArray[np.float64]
    last: npt.NDArray[np.int64]
    """Position of the last row of the same score (ties count half)."""
    first: npt.NDArray[np.int64]

    @classmethod
    def of(cls, label: Ints, score: Floats) -> "_Ordered":
        order = np.argsort(score, kind="stable")
        ranked = score[order]
        return cls(
            order,
            label[order].astype(float),
            np.searchsorted(ranked, ranked, "right"),
            np.searchsorted(ranked, ranked, "left"),
        )

    def auc(self, weight: npt.NDArray[np.float64]) -> float:
        """Weighted AUC; nan where a class has no weight."""
        w = weight[self.order]
        negative = np.r_[0.0, np.cumsum(w * (1 - self.label))]
        below = (negative[self.first] + negative[self.last]) / 2
        positives, negatives = float(w @ self.label), float(negative[-1])
        if positives == 0 or negatives == 0:
            return float("nan")
        return float((w * self.label) @ below) / (positives * negatives)

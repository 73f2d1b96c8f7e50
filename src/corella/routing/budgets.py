"""Budgets: what share of samples or requests may be asked about, and the priority from which they are."""

import numpy as np
import numpy.typing as npt

from corella.config import RoutingConfig

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


def route_top(score: Floats, share: float) -> npt.NDArray[np.bool_]:
    """Route exactly the `share` of samples with the highest priority (ties: the earlier sample)."""
    count = round(share * len(score))
    routed = np.zeros(len(score), dtype=bool)
    routed[np.argsort(-score, kind="stable")[:count]] = True
    return routed


def request_means(score: Floats, request: Ints) -> tuple[npt.NDArray[np.float64], Ints]:
    """The mean priority of each request, and for each sample the place of its request among them.

    >>> request_means(np.array([1.0, 3.0, 5.0]), np.array([7, 7, 9]))[0].tolist()
    [2.0, 5.0]
    """
    _, code, size = np.unique(request, return_inverse=True, return_counts=True)
    return np.bincount(code, weights=score) / size, code


def budget_share(config: RoutingConfig, milliseconds_per_sample: float, samples_per_request: float) -> float:
    """The share of samples (or of requests) that the configured budget buys, at most 1.

    >>> budget_share(RoutingConfig(budget=10, budget_unit="milliseconds"), 2.0, 50.0)
    0.1
    """
    if config.budget_unit != "milliseconds":
        return min(config.budget, 1.0)
    whole_request = milliseconds_per_sample * samples_per_request
    return min(config.budget / whole_request, 1.0) if whole_request > 0 else 1.0


def threshold(ascending: Floats, share: float) -> float:
    """The priority from which a sample is routed, so that `share` of the given (validation) samples are; their
    priorities ascend.

    >>> threshold(np.array([0.1, 0.2, 0.3, 0.4]), 0.5)
    0.3
    """
    count = round(share * len(ascending))
    if count == 0:
        return float("inf")
    if count >= len(ascending):  # everything, also what lies below all of validation
        return float("-inf")
    return float(ascending[len(ascending) - count])

"""Routing curves: quality against the share of samples that went to the language model, for every policy and its
controls.

The headline is the *captured gain*: (AUC at a share - AUC of the CRM) / (AUC of the blend everywhere - AUC of the CRM),
written as 0 where the blend everywhere gains nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from corella.evaluation.metrics import user_auc
from corella.evaluation.results import CurvePoint
from corella.intervals import auc_with_interval
from corella.routing.budgets import route_top
from corella.routing.policies import RouterInputs, priority
from corella.routing.router import Router

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

SHARES = [i / 20 for i in range(21)]
_RANDOM_DRAWS = 10


@dataclass(frozen=True)
class RoutedSet:
    """Test samples with both models' calibrated logits and what the router knows of them."""

    label: Ints
    user: Ints
    crm: npt.NDArray[np.float64]
    llm: npt.NDArray[np.float64]
    blended: npt.NDArray[np.float64]
    inputs: RouterInputs
    history_length: Ints
    popularity: Ints


def policies(router: Router, data: RoutedSet) -> dict[str, list[npt.NDArray[np.float64]]]:
    """Priorities of every policy and control; several draws where a policy is random.

    `oracle` knows the true difference of the logits, which nobody knows before asking: an upper guide, not a policy.
    """
    draws = [priority("random", data.inputs, None, seed) for seed in range(_RANDOM_DRAWS)]
    return {
        "learned": [priority("learned", data.inputs, router.learned, router.seed)],
        "entropy": [priority("entropy", data.inputs, None, router.seed)],
        "random": draws,
        "longest history": [data.history_length.astype(np.float64)],
        "least popular": [-data.popularity.astype(np.float64)],
        "oracle": [np.abs(data.blended - data.crm)],
    }


def routing_curves(router: Router, data: RoutedSet) -> list[CurvePoint]:
    """One row for each policy, way of combining, and share: policy, combine, share, captured, and of the routed scores
    auc, auc_low, auc_high (DeLong), user_auc (left out where no user has both answers), logloss and accuracy; means
    over the draws of a random policy."""
    base = float(roc_auc_score(data.label, data.crm))
    full = float(roc_auc_score(data.label, data.blended))
    rows: list[CurvePoint] = []
    for name, scores in policies(router, data).items():
        ways: tuple[tuple[Literal["blend", "replace"], Floats], ...] = (("blend", data.blended), ("replace", data.llm))
        for combine, other in ways:
            for share in SHARES:
                mixed = [np.where(route_top(score, share), other, data.crm) for score in scores]
                means = np.mean([_measures(data, z) for z in mixed], axis=0)
                measures = {n: v for n, v in zip(_MEASURES, means.tolist(), strict=True) if np.isfinite(v)}
                captured = (measures["auc"] - base) / (full - base) if full > base else 0.0
                rows.append(CurvePoint(policy=name, combine=combine, share=share, captured=captured, **measures))
    return rows


_MEASURES = ("auc", "auc_low", "auc_high", "user_auc", "logloss", "accuracy")


def _measures(data: RoutedSet, z: npt.NDArray[np.float64]) -> tuple[float, ...]:
    label = data.label
    loss = float(np.logaddexp(0, np.where(label == 1, -z, z)).mean())
    right = float(np.mean((z >= 0) == (label == 1)))
    return *auc_with_interval(label, z), user_auc(label, z, data.user), loss, right


def routed_logits(
    router: Router, data: RoutedSet, names: Sequence[str], share: float
) -> dict[str, npt.NDArray[np.float64]]:
    """Final logits [draws, rows] of each policy, where it sends a share of the samples to be blended; one draw where it
    draws no lots."""
    priorities = policies(router, data)
    return {
        name: np.stack([np.where(route_top(score, share), data.blended, data.crm) for score in priorities[name]])
        for name in names
    }

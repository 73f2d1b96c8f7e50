"""Where each system is good: samples in groups by CRM confidence (the paper's three), item popularity, and history
length.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from corella.evaluation.results import GroupResult
from corella.intervals import auc_with_interval

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


def confidence_groups(crm_probability: Floats) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Thirds by the CRM's distance from one half, least confident first."""
    return thirds(np.abs(crm_probability - 0.5), ["least confident", "middle", "most confident"])


def thirds(value: Floats, names: list[str]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Three groups of equal size in ascending order (ties: earlier first)."""
    rank = np.empty(len(value), dtype=np.int64)
    rank[np.argsort(value, kind="stable")] = np.arange(len(value))
    part = rank * 3 // max(len(value), 1)
    return [(name, part == i) for i, name in enumerate(names)]


def bins(value: Ints, edges: list[int], unit: str) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Groups `edges[i] <= value < edges[i + 1]`, the last one open."""
    groups = []
    for low, high in zip(edges, [*edges[1:], None], strict=True):
        inside = (value >= low) & (value < high if high is not None else True)
        name = f"{low}+ {unit}" if high is None else (f"{low}-{high - 1} {unit}" if high - low > 1 else f"{low} {unit}")
        groups.append((name, inside))
    return groups


def group_table(
    groups: list[tuple[str, npt.NDArray[np.bool_]]], label: Ints, systems: Mapping[str, Floats]
) -> list[GroupResult]:
    """One row a group and system: AUC with its interval; groups without both answers are left out."""
    rows: list[GroupResult] = []
    for name, inside in groups:
        answers = label[inside]
        if len(answers) < 20 or answers.min() == answers.max():
            continue
        for system, logit in systems.items():
            auc, low, high = auc_with_interval(answers, logit[inside])
            rows.append(GroupResult(
                group=name, samples=int(inside.sum()), system=system, auc=auc, auc_low=low, auc_high=high
            ))  # fmt: skip
    return rows

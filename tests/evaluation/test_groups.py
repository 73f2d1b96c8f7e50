"""Groups of samples by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from corella.evaluation.groups import bins, confidence_groups, group_table, thirds
from corella.intervals import auc_interval


def test_confidence_groups() -> None:
    p = np.array([0.01, 0.5, 0.7, 0.45, 0.99, 0.25])
    groups = {name: inside.tolist() for name, inside in confidence_groups(p)}
    assert groups == {
        "least confident": [False, True, False, True, False, False],
        "middle": [False, False, True, False, False, True],
        "most confident": [True, False, False, False, True, False],
    }


@pytest.mark.parametrize("n", [0, 1, 7, 30])
def test_thirds_are_a_partition(n: int) -> None:
    value = np.random.default_rng(n).integers(0, 3, n)
    parts = [inside for _, inside in thirds(value, ["a", "b", "c"])]
    assert (np.sum(parts, axis=0) == 1).all()
    assert max(p.sum() for p in parts) - min(p.sum() for p in parts) <= 1
    assert thirds(np.zeros(3), ["a", "b", "c"])[0][1].tolist() == [True, False, False]  # ties: earlier first


def test_bins() -> None:
    groups = bins(np.array([0, 1, 5, 4, 900]), [0, 1, 5], "answers")
    assert [(name, inside.tolist()) for name, inside in groups] == [
        ("0 answers", [True, False, False, False, False]),
        ("1-4 answers", [False, True, False, True, False]),
        ("5+ answers", [False, False, True, False, True]),
    ]


def test_table() -> None:
    rng = np.random.default_rng(0)
    label, a, b = rng.integers(0, 2, 90), rng.normal(size=90), rng.normal(size=90)
    inside = np.arange(90) < 50
    few, one_class = np.arange(90) < 19, label == 1
    table = group_table([("half", inside), ("few", few), ("one class", one_class)], label, {"a": a, "b": b})
    assert [(row.group, row.system, row.samples) for row in table] == [("half", "a", 50), ("half", "b", 50)]
    assert table[1].auc == pytest.approx(roc_auc_score(label[:50], b[:50]))
    assert (table[1].auc_low, table[1].auc_high) == auc_interval(label[:50], b[:50])

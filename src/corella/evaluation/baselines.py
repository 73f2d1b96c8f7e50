"""The conventional models that a system is held against, and its own; with their logits on validation and test rows."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from corella.crm.training import crm_outputs, plain_crm
from corella.crm.trees import train_trees
from corella.data.samples import Samples
from corella.evaluation.systems import LIGHTGBM, System
from corella.ranking.model import FittedRanking

Floats = npt.NDArray[np.floating]
Hidden = npt.NDArray[np.float32]

OUTSIDE = System(("outside CRM",))
PLAIN = System(("dcnv2",))
"""The paper's DCNv2: ids, fields and history."""


@dataclass(frozen=True)
class Scores:
    """One model's logits and, where it has them, its last hidden layer, on validation and test rows."""

    valid: Floats
    test: Floats
    valid_hidden: Hidden | None = None
    test_hidden: Hidden | None = None


def own_systems(model: FittedRanking) -> tuple[System, System]:
    """A ranking's neural model, and what routing starts from: its ensemble, or the same where there is none."""
    crm = model.config.crm
    name = crm.model + ("+counts" if crm.counts else "")
    trained = {1, 2} & set(model.config.joint.stages)
    neural = System((name if trained else f"untrained {name}",))
    return neural, System((*LIGHTGBM.models, *neural.models)) if model.ensemble else neural


def conventional_scores(
    model: FittedRanking, valid: Samples, test: Samples, neural: System, main: System
) -> dict[System, Scores]:
    """LightGBM on the count features, the paper's DCNv2, the ranking's own neural model and its ensemble. What the
    ranking lacks is trained here, early stopping on validation rows."""
    config, train, whole_valid = model.config, model.dataset.samples("train"), model.dataset.samples("valid")
    encoder, seed = model.encoder, config.seed
    trees = (
        model.ensemble.trees
        if model.ensemble
        else train_trees(encoder, train, whole_valid, config.lightgbm, seed, new_items=config.crm.new_items)
    )
    result = {LIGHTGBM: Scores(trees.logits(encoder, valid), trees.logits(encoder, test))}
    if neural != PLAIN:
        plain = plain_crm(PLAIN.name, encoder, train, whole_valid, type(config.crm)(), seed)
        result[PLAIN] = _scores(lambda part: crm_outputs(plain, encoder, part), valid, test)
    ours = _scores(lambda part: crm_outputs(model.neural, encoder, part), valid, test)
    result[neural] = ours
    joined = model.base.joined
    result[main] = replace(ours, valid=joined(ours.valid, valid), test=joined(ours.test, test))
    return result


def _scores(outputs: Callable[[Samples], tuple[Floats, Hidden]], valid: Samples, test: Samples) -> Scores:
    (z_valid, h_valid), (z_test, h_test) = (outputs(part) for part in (valid, test))
    return Scores(z_valid, z_test, h_valid, h_test)

"""The conventional models that a system is held against, and its own; with their logits on validation and test rows."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from corella.checkpoint import Checkpoints
from corella.crm.models import build_crm
from corella.crm.training import crm_outputs, train_crm
from corella.crm.trees import Trees, train_trees
from corella.data.samples import Samples
from corella.evaluation.systems import LIGHTGBM, System
from corella.progress import Reporter
from corella.ranking.model import FittedRanking

Floats = npt.NDArray[np.floating]
Hidden = npt.NDArray[np.float32]

OUTSIDE = System(("outside CRM",))
PLAIN = System(("dcnv2",))
"""The paper's DCNv2: ids, fields and history."""
_PLAIN_ID_DROPOUT = 0.3
"""A model that has no count features cannot do without ids more often than this."""


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


@dataclass(frozen=True)
class Baselines:
    """What an engineer would try first, as far as the ranking does not hold it itself."""

    trees: Trees
    """LightGBM on the count features."""
    plain: nn.Module | None
    """The paper's DCNv2, which reads what the ranking's rung 0 reads but count features; None where that is what the
    ranking's own neural model is."""


def train_baselines(
    model: FittedRanking, checkpoints: Checkpoints | None = None, reporter: Reporter | None = None
) -> Baselines:
    """Read the baselines among the checkpoints; those that are not there are trained with the run's settings, early
    stopping on validation rows, and kept."""
    checkpoints, reporter, config = checkpoints or Checkpoints(), reporter or Reporter(quiet=True), model.config
    encoder, train, valid = model.encoder, model.dataset.samples("train"), model.dataset.samples("valid")

    def grown() -> dict[str, object]:
        hidden_items = config.crm.new_items
        return asdict(train_trees(encoder, train, valid, config.lightgbm, config.seed, new_items=hidden_items))

    trees = model.ensemble.trees if model.ensemble else Trees(**checkpoints.json("baseline-trees", grown))
    if own_systems(model)[0] == PLAIN:
        return Baselines(trees, None)
    without_text = model.rungs[0].encoder
    hidden = min(_PLAIN_ID_DROPOUT, config.crm.id_dropout)
    settings = config.crm.model_copy(update={"model": PLAIN.name, "counts": False, "id_dropout": hidden})
    torch.manual_seed(config.seed)
    plain = build_crm(without_text.spec, settings)

    def trained() -> tuple[Mapping[str, Tensor], dict[str, object]]:
        with reporter.task("baseline (DCNv2 without count features): rows", settings.epochs * len(train)) as task:
            on_step = lambda done, total, loss: task.update(done, f"loss {loss:.3f}")  # noqa: E731
            fit = train_crm(plain, without_text, train, valid, settings, config.seed, on_step)
        reporter.say(f"baseline (DCNv2 without count features): validation AUC {max(fit.valid_auc):.4f}")
        return plain.state_dict(), {}

    plain.load_state_dict(checkpoints.tensors("baseline", trained, together=True)[0])
    return Baselines(trees, plain)


def conventional_scores(
    model: FittedRanking, baselines: Baselines, valid: Samples, test: Samples, neural: System, main: System
) -> dict[System, Scores]:
    """LightGBM on the count features, the paper's DCNv2, the ranking's own neural model and its ensemble."""
    encoder, trees, plain = model.encoder, baselines.trees, baselines.plain
    result = {LIGHTGBM: Scores(trees.logits(encoder, valid), trees.logits(encoder, test))}
    if plain is not None:
        without_text = model.rungs[0].encoder
        result[PLAIN] = _scores(lambda part: crm_outputs(plain, without_text, part), valid, test)
    ours = _scores(lambda part: crm_outputs(model.neural, encoder, part), valid, test)
    result[neural] = ours
    joined = model.base.joined
    result[main] = replace(ours, valid=joined(ours.valid, valid), test=joined(ours.test, test))
    return result


def _scores(outputs: Callable[[Samples], tuple[Floats, Hidden]], valid: Samples, test: Samples) -> Scores:
    (z_valid, h_valid), (z_test, h_test) = (outputs(part) for part in (valid, test))
    return Scores(z_valid, z_test, h_valid, h_test)

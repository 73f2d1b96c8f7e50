"""Residual training: the language model learns what the ensemble leaves open. [ours]

The loss of a target is the logistic loss of `z_base + z_llm`, where z_base, the ensemble's logit, is fixed and
out of fold: models that have read a row's label are surer of it than they will ever be of a new row. So the language
model is not taught again what counts know already, and what it says is a correction.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from corella.calibration import fit_calibrator
from corella.config import Config
from corella.crm.rungs import Build, Rung
from corella.crm.training import train_crm
from corella.crm.trees import train_trees
from corella.data.samples import Samples

Floats = npt.NDArray[np.float32]

FOLDS = 3
COLD = 5
"""An item with fewer interactions so far is cold."""
_START = 0.3


@dataclass(frozen=True)
class Correction:
    """How the language model's raw logit is read: `scale * (logit - centre)`. The raw one has a constant that says
    nothing of the sample."""

    scale: float
    centre: float

    def __call__(self, base: Floats, raw: Floats) -> Floats:
        """The corrected logit of the ensemble, float32 [n]; nan where `raw` is."""
        return np.asarray(base + self.scale * (raw - self.centre), dtype=np.float32)


class LearnedCorrection(nn.Module):
    """The same while it is learned. It begins small, around the mean logit of the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(_START))
        self.shift = nn.Parameter(torch.zeros(()))
        self.centre: Tensor
        self.register_buffer("centre", torch.tensor(float("nan")))
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether it knows its centre. It is looked up until it does: looking waits for a GPU."""
        self._begun = self._begun or not bool(torch.isnan(self.centre))
        return self._begun

    def begin(self, mean: float) -> None:
        """Around this logit."""
        self.centre.fill_(mean)
        self._begun = True

    def forward(self, base: Tensor, raw: Tensor) -> Tensor:
        """Logits [n] from fixed ones and the language model's, once it has begun."""
        return base + self.scale * (raw - self.centre) + self.shift

    def learned(self) -> Correction:
        """What it has become."""
        scale = float(self.scale.detach())
        scale = scale if abs(scale) > 1e-6 else 1e-6
        centre = float(self.centre) if self.begun else 0.0
        return Correction(scale, centre - float(self.shift.detach()) / scale)


def out_of_fold(
    rung: Rung,
    train: Samples,
    valid: Samples,
    config: Config,
    build: Build,
    on_fold: Callable[[int], None] = lambda done: None,
) -> Floats:
    """The rung's logit of every training row by models that were not fitted on that row, float32 [n].

    Rows are dealt to folds at random, or all rows of an item (of a user) together, where most validation rows are of
    items (of users) that no training row has: models that have met an item are surer of it than they will be of those
    they are asked about. What a row knows of others lies before it, as everywhere. Blends stay those of the rung; a
    scale and a shift then calibrate the logits, as those of validation rows are. `valid` stops the trainings early.
    """
    fold = _folds(train, valid, config.seed)
    logits = np.zeros(len(train), np.float32)
    for held in range(FOLDS):
        part, rest = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        fitted = _refitted(rung, train.take(part), valid, config, build)
        logits[rest] = fitted.outputs(train.take(rest))[0]
        on_fold(held + 1)
    return fit_calibrator(logits, train.label, "temperature")(logits).astype(np.float32)


def _folds(train: Samples, valid: Samples, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each training row, int64 [n]: rows as new to the other folds as validation rows are to all."""
    unit = np.arange(len(train))
    for theirs, ours in ((valid.item, train.item), (valid.user, train.user)):
        if np.mean(np.isin(theirs, ours)) < 0.5:
            unit = np.unique(ours, return_inverse=True)[1]
            break
    return np.random.default_rng([seed, 3]).integers(0, FOLDS, int(unit.max(initial=0)) + 1)[unit]


def _refitted(rung: Rung, train: Samples, valid: Samples, config: Config, build: Build) -> Rung:
    torch.manual_seed(config.seed)
    neural = build(rung.encoder.spec, config.crm)
    train_crm(neural, rung.encoder, train, valid, config.crm, config.seed)
    ensemble, below = rung.ensemble, rung.below
    if ensemble is not None:
        trees = train_trees(rung.encoder, train, valid, config.lightgbm, config.seed, new_items=config.crm.new_items)
        ensemble = replace(ensemble, trees=trees)
    if below is not None and rung.added is not None and rung.added.weight_a > 0:
        below = _refitted(below, train, valid, config, build)
    return replace(rung, neural=neural, ensemble=ensemble, below=below)


def worth_reading(base: Floats, samples: Samples) -> npt.NDArray[np.float64]:
    """How much rather each sample is drawn as a target: 4 p (1 - p), with p what the ensemble says, and 1 more
    where the item is cold; float64 [n], above 0."""
    chance = 1 / (1 + np.exp(-np.asarray(base, np.float64)))
    cold = samples.popularity[:, 0] < COLD
    return np.maximum(4 * chance * (1 - chance), 0.01) + cold

"""The conventional models at two prices: rung 0 knows ids, histories and counts; rung 1 also what a text encoder read,
once an item. Both are trained, and the cheapest one that is not significantly worse on validation rows is served.

The rung above adds to the one below: its logit is a blend of what its own models say and of the rung below, weights
fitted on validation rows, for models that also read text may know less of the rest. [ours]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from corella.calibration import Blend, fit_blend
from corella.checkpoint import load_tensors, save_tensors
from corella.config import CRMConfig
from corella.crm.encoder import CRMEncoder, make_encoder
from corella.crm.ensemble import Ensemble, fit_ensemble
from corella.crm.spec import CRMSpec, make_spec
from corella.crm.training import crm_logits, crm_outputs
from corella.crm.trees import Trees
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.data.scope import Scope
from corella.errors import UserError
from corella.files import read_value, write_value
from corella.intervals import Difference, paired_bootstrap

Floats = npt.NDArray[np.float32]
Build = Callable[[CRMSpec, CRMConfig], nn.Module]

_RESAMPLES = 400
_PREFIX = ("", "text-")
"""Of the files of each rung."""


@dataclass(frozen=True, eq=False)
class Rung:
    """A neural model and, but for recipes without them, trees beside it; `encoder` says what they read."""

    encoder: CRMEncoder
    neural: nn.Module
    ensemble: Ensemble | None = None
    """What makes one logit of both; without it the neural model is all."""
    below: "Rung | None" = None
    added: Blend | None = None
    """What makes one logit of the rung below and this one's own; None where there is none below."""

    def outputs(self, samples: Samples) -> tuple[Floats, Floats]:
        """Raw logits, float32 [n], and the neural model's last hidden layer, float32 [n, width]."""
        logits, hidden = crm_outputs(self.neural, self.encoder, samples)
        return self.joined(logits, samples), hidden

    def joined(self, neural: Floats, samples: Samples) -> Floats:
        """Raw logits of the rung from those of its neural model, float32 [n]."""
        logits = self.ensemble(neural, self.encoder, samples) if self.ensemble else neural
        if self.below is None or self.added is None:
            return logits
        # What weighs nothing need not be asked.
        below = self.below.outputs(samples)[0] if self.added.weight_a > 0 else np.zeros_like(logits)
        return self.added(below, logits).astype(np.float32)

    def blended(self, trees: Trees | None, valid: Samples) -> "Rung":
        """The rung with trees beside its neural model, and both on the rung below; weights are fitted on validation
        rows."""
        made = replace(self, added=None)
        if trees is not None:
            logits = crm_logits(self.neural, self.encoder, valid)
            made = replace(made, ensemble=fit_ensemble(trees, logits, self.encoder, valid))
        if self.below is None:
            return made
        return replace(made, added=fit_blend(self.below.outputs(valid)[0], made.outputs(valid)[0], valid.label))

    def narrowed(self, scope: Scope) -> "Rung":
        """The same rung for the small world of a request."""
        below = self.below.narrowed(scope) if self.below is not None else None
        return replace(self, encoder=self.encoder.narrowed(scope), below=below)

    def save(self, folder: Path, place: int) -> None:
        """Write its files into the folder of a model; `place`: which rung it is."""
        prefix = _PREFIX[place]
        write_value(folder / f"{prefix}crm.json", self.encoder.spec)
        save_tensors(folder / f"{prefix}crm.safetensors", self.neural.state_dict(), {})
        if self.ensemble is not None:
            write_value(folder / f"{prefix}ensemble.json", self.ensemble)
        if self.added is not None:
            write_value(folder / f"{prefix}added.json", self.added)


def fresh_rungs(dataset: Dataset, config: CRMConfig, build: Build, seed: int) -> tuple[Rung, ...]:
    """Untrained rungs: the first, and, where there is an encoder and the settings want it, the one with text."""
    rungs: list[Rung] = []
    for text in (False, True) if dataset.space is not None and config.text else (False,):
        spec = make_spec(dataset, text, config.vocabulary)
        torch.manual_seed(seed)
        rungs.append(Rung(make_encoder(spec, dataset), build(spec, config)))
    return stacked(rungs)


def stacked(rungs: Sequence[Rung]) -> tuple[Rung, ...]:
    """The rungs, each on the one before it."""
    found: list[Rung] = []
    for rung in rungs:
        found.append(replace(rung, below=found[-1] if found else None))
    return tuple(found)


def load_rungs(folder: Path, dataset: Dataset, config: CRMConfig, build: Build) -> tuple[Rung, ...]:
    """The rungs of a saved model, for a dataset. Raises `UserError` where their weights do not fit `build`."""
    rungs: list[Rung] = []
    for prefix in _PREFIX:
        if not (folder / f"{prefix}crm.json").is_file():
            break
        spec = read_value(folder / f"{prefix}crm.json", CRMSpec)
        neural = build(spec, config)
        try:
            neural.load_state_dict(load_tensors(folder / f"{prefix}crm.safetensors")[0])
        except RuntimeError:
            raise UserError(
                f"the weights in {folder} do not fit {config.model}; give `load` the `build` that the model was made "
                "with"
            ) from None
        beside, below = folder / f"{prefix}ensemble.json", folder / f"{prefix}added.json"
        ensemble = read_value(beside, Ensemble) if beside.is_file() else None
        added = read_value(below, Blend) if below.is_file() else None
        rungs.append(Rung(make_encoder(spec, dataset), neural, ensemble, added=added))
    return stacked(rungs)


def text_gain(rungs: Sequence[Rung], valid: Samples, seed: int) -> Difference:
    """AUC of rung 1 over rung 0 on validation rows, its interval by user."""
    below, above = (rung.outputs(valid)[0] for rung in rungs)
    return paired_bootstrap(valid.label, below, above, _RESAMPLES, seed, valid.user)

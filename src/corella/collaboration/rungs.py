"""The conventional half at two prices: rung 0 knows ids, histories and counts; rung 1 also what a text encoder read, once
an item. Both are trained, and the cheapest one that is not significantly worse on validation rows is served. [ours]
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from corella.checkpoint import load_tensors, save_tensors
from corella.collaboration.ensemble import Ensemble, fit_ensemble
from corella.config import CRMConfig
from corella.crm.inputs import CRMEncoder, CRMSpec, make_spec
from corella.crm.lightgbm import Trees
from corella.crm.training import crm_logits, crm_outputs
from corella.data.dataset import Dataset, Samples
from corella.data.scope import Scope
from corella.errors import UserError
from corella.evaluation.intervals import Difference, paired_bootstrap
from corella.files import read_json, write_json

Floats = npt.NDArray[np.float32]
Build = Callable[[CRMSpec, CRMConfig], nn.Module]

_RESAMPLES = 400
_PREFIX = ("", "text-")
"""Of the files of each rung."""


@dataclass
class Rung:
    """A neural model and, but for recipes without them, trees beside it; `encoder` says what they read."""

    encoder: CRMEncoder
    neural: nn.Module
    ensemble: Ensemble | None = None
    """What makes one logit of both; without it the neural model is all."""

    def outputs(self, samples: Samples) -> tuple[Floats, Floats]:
        """Raw logits, float32 [n], and the neural model's last hidden layer, float32 [n, width]."""
        logits, hidden = crm_outputs(self.neural, self.encoder, samples)
        return (self.ensemble(logits, self.encoder, samples) if self.ensemble else logits), hidden

    def blend(self, trees: Trees, valid: Samples) -> None:
        """Put trees beside the neural model, with weights fitted on validation rows."""
        self.ensemble = fit_ensemble(trees, crm_logits(self.neural, self.encoder, valid), self.encoder, valid)

    def narrowed(self, scope: Scope) -> "Rung":
        """The same rung for the small world of a request."""
        other = copy.copy(self)
        other.encoder = self.encoder.narrowed(scope)
        return other

    def save(self, folder: Path, place: int) -> None:
        """Write its files into the folder of a model; `place`: which rung it is."""
        prefix = _PREFIX[place]
        write_json(folder / f"{prefix}crm.json", asdict(self.encoder.spec))
        save_tensors(folder / f"{prefix}crm.safetensors", self.neural.state_dict(), {})
        if self.ensemble is not None:
            write_json(folder / f"{prefix}ensemble.json", self.ensemble.state())


def fresh_rungs(dataset: Dataset, config: CRMConfig, build: Build, seed: int) -> list[Rung]:
    """Untrained rungs: the first, and, where there is an encoder and the settings want it, the one with text."""
    rungs = []
    for text in (False, True) if dataset.space is not None and config.text else (False,):
        spec = make_spec(dataset, text)
        torch.manual_seed(seed)
        rungs.append(Rung(CRMEncoder(spec, dataset), build(spec, config)))
    return rungs


def load_rungs(folder: Path, dataset: Dataset, config: CRMConfig, build: Build) -> list[Rung]:
    """The rungs of a saved model, for a dataset. Raises `UserError` where their weights do not fit `build`."""
    rungs = []
    for prefix in _PREFIX:
        if not (folder / f"{prefix}crm.json").is_file():
            break
        spec = CRMSpec(**read_json(folder / f"{prefix}crm.json"))
        rung = Rung(CRMEncoder(spec, dataset), build(spec, config))
        try:
            rung.neural.load_state_dict(load_tensors(folder / f"{prefix}crm.safetensors")[0])
        except RuntimeError:
            raise UserError(
                f"the weights in {folder} do not fit {config.model}; give `load` the `build` that the model was made "
                "with"
            ) from None
        if (folder / f"{prefix}ensemble.json").is_file():
            rung.ensemble = Ensemble.from_state(read_json(folder / f"{prefix}ensemble.json"))
        rungs.append(rung)
    return rungs


def text_gain(rungs: Sequence[Rung], valid: Samples, seed: int) -> Difference:
    """AUC of rung 1 over rung 0 on validation rows, its interval by user."""
    below, above = (rung.outputs(valid)[0] for rung in rungs)
    return paired_bootstrap(valid.label, below, above, _RESAMPLES, seed, valid.user)

"""Every conventional model of the package on the same rows: no language model in it, seconds to minutes each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corella.collaboration.calibration import fit_calibrator
from corella.collaboration.system import set_threads
from corella.config import Config
from corella.crm.inputs import CRMEncoder, make_spec
from corella.crm.models import MODELS, build_crm
from corella.crm.training import crm_logits, train_crm
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.evaluation.metrics import quality
from corella.files import read_json, write_json


def conventional_rows(config: Config, seeds: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """One row a model, with and without counting features; means over the seeds. Finished ones are kept in `folder`."""
    set_threads(config)
    dataset = load_dataset(config)
    table = []
    for name in MODELS:
        for counts in (False, True):
            title = name + ("+counts" if counts else "")
            each = []
            for seed in seeds:
                path = folder / f"{title}-{seed}.json"
                if not path.is_file():
                    write_json(path, _one(dataset, config, name, counts, seed))
                each.append(read_json(path))
                print(path.stem, each[-1]["auc"], flush=True)
            row = {key: float(np.mean([e[key] for e in each])) for key in each[0]}
            spread = float(np.std([e["auc"] for e in each], ddof=1)) if len(each) > 1 else 0.0
            table.append({"system": f"conventional: {title}", "routed": 0.0, **row, "auc_sd": spread})
    return table


def _one(dataset: Dataset, config: Config, name: str, counts: bool, seed: int) -> dict[str, float]:
    """Quality on all test rows of a model trained with early stopping, calibrated on validation rows."""
    crm = config.crm.model_copy(update={"model": name, "counts": counts})
    if not counts:  # chosen on validation for the plain model, see docs/experiments.md
        crm = crm.model_copy(update={"id_dropout": 0.3})
    spec = make_spec(dataset)
    encoder = CRMEncoder(spec, dataset)
    train, valid, test = (dataset.samples(split) for split in ("train", "valid", "test"))
    torch.manual_seed(seed)
    model = build_crm(spec, crm)
    train_crm(model, encoder, train, valid, crm, seed)
    calibrate = fit_calibrator(crm_logits(model, encoder, valid), valid.label, config.routing.calibration)
    return quality(test.label, calibrate(crm_logits(model, encoder, test)), test.user).row()

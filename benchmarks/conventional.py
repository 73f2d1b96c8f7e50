"""Every conventional model of the package on the same rows: no language model in it, seconds to minutes each.

Settings are those that `tune.py` chose for the benchmark, where docs/benchmarks/tuned-NAME.json is there.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from common import DOCS, commit, union
from corella.calibration import fit_calibrator
from corella.columns import ITEM, LABEL, TIME, USER
from corella.config import Config, CRMConfig
from corella.crm.encoder import CRMEncoder, make_encoder
from corella.crm.models import MODELS, build_crm
from corella.crm.spec import make_spec
from corella.crm.training import crm_logits, train_crm
from corella.crm.trees import train_trees
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.data.samples import Samples
from corella.evaluation.metrics import quality
from corella.files import atomic_path, read_json, write_json
from corella.threads import set_threads
from summary import METRICS, mean
from summary import seeds as spread_facts

PLAIN_ID_DROPOUTS = (0.0, 0.3)
"""Tried for models without count features: how much ids matter to them differs between datasets."""
LIGHTGBM = "lightgbm"
FROZEN = "lightgbm, item counts frozen after training"


def titles() -> dict[str, tuple[str, bool]]:
    """Title of every neural model -> its name, and whether it reads count features."""
    return {name + ("+counts" if counts else ""): (name, counts) for name in MODELS for counts in (False, True)}


def untitled(system: str) -> str:
    """The model's title in the name of a row."""
    return system.removeprefix("conventional: ")


def tuned_settings(benchmark: str) -> tuple[dict[str, dict[str, Any]], int]:
    """Title -> the settings that tuning chose, and of how many trials; empty where nothing was tuned."""
    path = DOCS / f"tuned-{benchmark}.json"
    tuned = read_json(path) if path.is_file() else {"models": {}, "trials": 0}
    models: dict[str, dict[str, Any]] = tuned["models"]
    settings = {title: {k: v for k, v in found.items() if k != "valid_auc"} for title, found in models.items()}
    return settings, tuned["trials"]


@dataclass
class Measured:
    """All conventional models of a benchmark."""

    rows: list[dict[str, Any]]
    """One a model, means over the seeds."""
    commit: str
    scores: dict[str, list[Path]]
    """By the row's system, what it says of the validation and test rows, a file a seed."""

    @property
    def best(self) -> str:
        """The system with the highest test AUC: the hardest to beat."""
        return str(max(self.rows, key=lambda row: row["auc"])["system"])

    def best_other(self, half: str) -> str:
        """The same of those that have no part in `half`, a ensemble's name, nor are LightGBM's frozen twin."""
        own = [*half.split(" & "), FROZEN]
        others = [row for row in self.rows if untitled(row["system"]) not in own]
        return str(max(others, key=lambda row: row["auc"])["system"])


def measure_conventional(benchmark: str, config: Config, folder: Path, seeds: Sequence[int]) -> Measured:
    """Train and test every model with every seed. Finished ones are kept in `folder`."""
    set_threads(config)
    dataset = load_dataset(config)
    counts = config.data.counts.model_copy(update={"frozen": True})
    frozen = load_dataset(config.model_copy(update={"data": config.data.model_copy(update={"counts": counts})}))
    tuned, trials = tuned_settings(benchmark)
    measured, commits = Measured([], "", {}), []
    for title in (*titles(), LIGHTGBM, FROZEN):
        settings = tuned.get(LIGHTGBM if title == FROZEN else title, {})
        facts = repr((config.data, config.crm.model_dump(exclude={"trees"}), settings, PLAIN_ID_DROPOUTS)).encode()
        name = f"{title.replace(', ', '-').replace(' ', '-')}-{hashlib.sha256(facts).hexdigest()[:8]}"
        paths = [folder / f"{name}-{seed}.json" for seed in seeds]  # other settings, another file
        for path, seed in zip(paths, seeds, strict=True):
            if not path.is_file():
                found = _one(frozen if title == FROZEN else dataset, config, title, settings, seed, path)
                write_json(path, {"commit": commit(), **found})
            print(path.stem, read_json(path)["auc"], flush=True)
        each = [read_json(path) for path in paths]
        commits += [found["commit"] for found in each]
        system = f"conventional: {title}"
        row = {"table": "conventional", "system": system, "routed": 0.0, **{key: mean(each, key) for key in METRICS}}
        measured.rows.append({**row, **spread_facts(each), "trials": trials if settings else 0})
        measured.scores[system] = [path.with_suffix(".parquet") for path in paths]
    return replace(measured, commit=union(commits))


def plain_crm(
    name: str, encoder: CRMEncoder, train: Samples, valid: Samples, config: CRMConfig, seed: int
) -> nn.Module:
    """Model `name` as the papers have it: trained without count features, ids hidden as validation prefers it."""
    trained: list[tuple[float, nn.Module]] = []
    for share in PLAIN_ID_DROPOUTS:
        settings = config.model_copy(update={"model": name, "counts": False, "id_dropout": share})
        torch.manual_seed(seed)
        model = build_crm(encoder.spec, settings)
        fit = train_crm(model, encoder, train, valid, settings, seed)
        trained.append((max(fit.valid_auc), model))
    return max(trained, key=lambda pair: pair[0])[1]


def _one(
    dataset: Dataset, config: Config, title: str, settings: dict[str, Any], seed: int, path: Path
) -> dict[str, float]:
    """Quality on all test rows of a model trained with early stopping, calibrated on validation rows; its logits of
    both are written beside `path`."""
    spec = make_spec(dataset)
    encoder = make_encoder(spec, dataset)
    train, valid, test = (dataset.samples(split) for split in ("train", "valid", "test"))
    if title in titles():
        name, counts = titles()[title]
        crm = config.crm.model_copy(update={"model": name, "counts": counts, **settings})
        if counts or "id_dropout" in settings:
            torch.manual_seed(seed)
            model = build_crm(spec, crm)
            train_crm(model, encoder, train, valid, crm, seed)
        else:
            model = plain_crm(name, encoder, train, valid, crm, seed)
        z_valid, z_test = (crm_logits(model, encoder, part) for part in (valid, test))
    else:
        trees = train_trees(encoder, train, valid, config.lightgbm.model_copy(update=settings), seed)
        z_valid, z_test = (trees.logits(encoder, part) for part in (valid, test))
    calibrate = fit_calibrator(z_valid, valid.label, config.routing.calibration)
    score = calibrate(np.r_[z_valid, z_test])
    columns = [name for name in (USER, ITEM, LABEL, TIME) if name in dataset.log.columns]
    rows = dataset.log[np.r_[valid.row, test.row]].select(columns).with_columns(score=pl.Series(score))
    with atomic_path(path.with_suffix(".parquet")) as target:
        rows.write_parquet(target)
    return quality(test.label, score[len(valid) :], test.user).model_dump()

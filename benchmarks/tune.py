"""Choose the hyperparameters of every conventional model on validation rows, with the same budget for each.

    python benchmarks/tune.py ml-1m-collm --path FOLDER --trials 20

Writes docs/benchmarks/tuned-NAME.json, which `ranking.py` reads: the models whose budget is spent. Resumable: trials
are kept in the runs folder, which several processes may share, each with models of its own.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from sklearn.metrics import roc_auc_score

from common import DOCS, run
from conventional import LIGHTGBM, PLAIN_ID_DROPOUTS, titles
from corella.config import Config, CRMConfig
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.crm.training import train_crm
from corella.crm.trees import train_trees
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.files import write_json
from corella.threads import set_threads
from definitions import BENCHMARKS
from runs import config as make_config

LIGHTGBM_NOW = {
    "leaves": 15, "least_rows": 100, "l2": 5.0, "learning_rate": 0.03, "feature_share": 0.7,
    "row_share": 0.8,
}  # fmt: skip
"""The settings of `corella.crm.trees`."""


def crm_space(trial: optuna.Trial) -> dict[str, Any]:
    """The search space of every neural model."""
    return {
        "embedding_size": trial.suggest_categorical("embedding_size", [8, 16, 32]),
        "hidden": {"small": [64, 32], "code": [200, 80], "large": [400, 200]}[
            trial.suggest_categorical("hidden", ["small", "code", "large"])
        ],
        "cross_layers": trial.suggest_int("cross_layers", 1, 4),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "id_dropout": trial.suggest_float("id_dropout", 0.0, 0.9),
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 3e-3, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
    }


def tree_space(trial: optuna.Trial) -> dict[str, Any]:
    """The search space of LightGBM."""
    return {
        "leaves": trial.suggest_int("leaves", 4, 64, log=True),
        "least_rows": trial.suggest_int("least_rows", 20, 400, log=True),
        "l2": trial.suggest_float("l2", 0.1, 50, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "feature_share": trial.suggest_float("feature_share", 0.4, 1.0),
        "row_share": trial.suggest_float("row_share", 0.5, 1.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--path", type=Path, help="folder of the raw files (ml-100k needs none)")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--models", nargs="+", choices=[*titles(), LIGHTGBM], help="default: all")
    parser.add_argument("--runs", type=Path, default=Path("runs/tuning"))
    arguments = parser.parse_args()
    parts = [BENCHMARKS[arguments.name].settings]
    if arguments.path is not None:
        parts.append({"data": {"path": str(arguments.path)}})
    config = make_config(1, parts, [])
    set_threads(config)
    dataset = load_dataset(config)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    digest = dataset.digest()[:8]  # trials on other features are no trials of these
    chosen: dict[str, Any] = {}
    for title, (model, counts) in {**titles(), LIGHTGBM: ("", True)}.items():
        study = optuna.create_study(
            study_name=f"{arguments.name} {title} {digest}", storage=f"sqlite:///{arguments.runs / 'trials.db'}",
            direction="maximize", load_if_exists=True,
        )  # fmt: skip
        if title in (arguments.models or [title]):
            now = _current(config.crm, counts) if model else LIGHTGBM_NOW
            valid_auc = partial(_valid_auc, dataset=dataset, config=config, model=model, counts=counts)
            _search(study, now, valid_auc, arguments.trials)
        if not _left(study, arguments.trials):
            chosen[title] = {**study.best_trial.user_attrs["settings"], "valid_auc": study.best_value}
            print(title, chosen[title], flush=True)
    write_json(DOCS / f"tuned-{arguments.name}.json", {"trials": arguments.trials, "models": chosen})


def _search(study: optuna.Study, now: dict[str, Any], valid_auc: Callable[[optuna.Trial], float], trials: int) -> None:
    """Spend what is left of a model's budget."""
    # Another seed after a kill, or the trials that were drawn before would be drawn again.
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=5, seed=1 + len(study.trials))
    if not any(trial.state.is_finished() for trial in study.trials):
        study.enqueue_trial(now)  # the settings in use stand in line first, so tuning never ends below them
    for _ in range(_left(study, trials)):
        study.optimize(valid_auc, n_trials=1)
        print(f"{study.study_name}: {study.trials[-1].value:.4f}, best {study.best_value:.4f}", flush=True)


def _left(study: optuna.Study, trials: int) -> int:
    """How many trials of the budget are left."""
    return max(trials - sum(trial.state.is_finished() for trial in study.trials), 0)


def _current(crm: CRMConfig, counts: bool) -> dict[str, Any]:
    names = ("embedding_size", "cross_layers", "dropout", "id_dropout", "learning_rate", "weight_decay")
    now = {**{name: getattr(crm, name) for name in names}, "hidden": "code"}
    return now if counts else {**now, "id_dropout": PLAIN_ID_DROPOUTS[-1]}


def _valid_auc(trial: optuna.Trial, dataset: Dataset, config: Config, model: str, counts: bool) -> float:
    spec = make_spec(dataset)
    encoder = make_encoder(spec, dataset)
    train, valid = dataset.samples("train"), dataset.samples("valid")
    if not model:
        settings = tree_space(trial)
        trial.set_user_attr("settings", settings)
        logits = train_trees(encoder, train, valid, config.lightgbm.model_copy(update=settings), config.seed).logits(
            encoder, valid
        )
        return float(roc_auc_score(valid.label, logits))
    settings = crm_space(trial)
    trial.set_user_attr("settings", settings)
    crm = config.crm.model_copy(update={**settings, "model": model, "counts": counts})
    torch.manual_seed(config.seed)
    return max(train_crm(build_crm(spec, crm), encoder, train, valid, crm, config.seed).valid_auc)


if __name__ == "__main__":
    run(main)

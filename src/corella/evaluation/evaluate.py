"""Evaluate a trained system on test rows: every baseline and control, curves, groups, significance and cost, as one
JSON.

Whatever is fitted here (calibrators, blends, routers for the other CRMs, LightGBM's early stopping) is fitted on
validation rows.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from corella.calibration import fit_calibrator, probability
from corella.checkpoint import Checkpoints, Kept
from corella.config import CRMConfig
from corella.crm.outside import outside_logits
from corella.crm.training import crm_outputs, plain_crm
from corella.crm.trees import train_trees
from corella.data.dataset import Samples, sample_users
from corella.evaluation.curves import RoutedSet, routed_logits, routing_curves
from corella.evaluation.groups import bins, confidence_groups, group_table
from corella.evaluation.lists import evaluate_lists
from corella.evaluation.metrics import quality, user_aucs
from corella.evaluation.pricing import Asked, prices_on_test
from corella.intervals import LEAST_CLUSTERS, bootstrap_mean, paired_bootstrap
from corella.progress import Reporter
from corella.ranking.model import FittedRanking
from corella.routing.features import HIDDEN_SIZE, fit_projection
from corella.routing.router import Router, fit_router

Floats = npt.NDArray[np.floating]
Hidden = npt.NDArray[np.float32]

OUTSIDE_NAME = "outside CRM"
PLAIN_NAME = "dcnv2"
"""The paper's DCNv2: ids, fields and history."""


@dataclass(frozen=True)
class Scores:
    """One model's logits and, where it has them, its last hidden layer, on validation and test rows."""

    valid: Floats
    test: Floats
    valid_hidden: Hidden | None = None
    test_hidden: Hidden | None = None


@dataclass(frozen=True, eq=False)
class Evaluated:
    """All figures as JSON-able data, and every system's probabilities of the test rows."""

    metrics: dict[str, Any]
    predictions: pl.DataFrame


def evaluate(
    model: FittedRanking,
    checkpoints: Checkpoints | None = None,
    reporter: Reporter | None = None,
    outside: Path | None = None,
) -> Evaluated:
    """All figures of a fitted ranking. What the language model reads is kept among the checkpoints.

    `outside`: a table with the probabilities of some other conventional model for the validation and test rows (see
    `corella.crm.outside`); it is calibrated, routed and blended like the others.
    """
    reporter, checkpoints = reporter or Reporter(quiet=True), checkpoints or Checkpoints()
    valid = model.dataset.samples(model.validation.rows)
    test = model.dataset.samples("test")
    test = test.take(sample_users(test, model.config.evaluation.max_test, model.config.seed))
    z_llm, llm_cost = _read_test(model, test, checkpoints, reporter)
    reporter.say("evaluation: conventional models, curves, intervals")
    neural, main = _names(model)
    raw = {**_conventional(model, valid, test, neural, main), "llm": Scores(model.validation.logits, z_llm)}
    if outside is not None:
        raw[OUTSIDE_NAME] = Scores(*(outside_logits(outside, model.dataset, part) for part in (valid, test)))
    calibrated = {name: _calibrate(model, valid, scores) for name, scores in raw.items()}
    crms = [name for name in dict.fromkeys((PLAIN_NAME, OUTSIDE_NAME, main)) if name in raw]
    routed = {name: _route(model, raw[name], raw["llm"], valid, test) for name in crms}
    systems, conventional = _systems(calibrated, routed, valid, neural, main)
    best = max(conventional, key=lambda name: float(roc_auc_score(test.label, systems[name])))
    result: dict[str, Any] = {
        "version": version("corella-rec"),
        "date": datetime.now(UTC).date().isoformat(),
        "main_crm": main,
        "neural_crm": neural,
        "conventional": conventional,
        "samples": {"valid": len(valid), "test": len(test), "test_users": len(np.unique(test.user))},
        "systems": [{"system": name, **quality(test.label, z, test.user).row()} for name, z in systems.items()],
        "best_conventional": best,
        "curves": {name: routing_curves(router, data) for name, (router, data) in routed.items()},
        "groups": _groups(model, test, systems, crms, main),
        "cost": {**llm_cost, **asdict(model.facts), "crm_milliseconds_per_sample": _crm_cost(model, test)},
    }
    final = model.predict_from(raw[main].test, z_llm, test, model.affordable)
    systems["final"] = final.logit
    share = float(final.routed.mean())
    result["rungs"] = prices_on_test(model, Asked(test, raw[main].test, final.logit, share)).to_json()
    result["final"] = {
        "policy": model.config.routing.policy, "combine": model.config.routing.combine,
        "share_wanted": model.affordable, "share_routed": share, **quality(test.label, final.logit, test.user).row(),
    }  # fmt: skip
    pairs = [
        (main, "final"), ("lightgbm", "final"), (best, "final"), (main, f"{main} & llm"), (best, f"{main} & llm"),
        (best, f"lightgbm & {neural} & llm"), ("lightgbm", "lightgbm & llm"), (PLAIN_NAME, f"{PLAIN_NAME} & llm"),
        (neural, f"{neural} & llm"), ("lightgbm", neural), ("lightgbm", main), (neural, main),
    ]  # fmt: skip
    shown = systems | {
        f"{crm}, {policy} 20 %": z
        for crm, (router, data) in routed.items()
        for policy, z in routed_logits(router, data, ("learned", "entropy", "random"), 0.2).items()
    }
    pairs += [(f"{crm}, {p} 20 %", f"{crm}, learned 20 %") for crm in routed for p in ("entropy", "random")]
    result["differences"] = _differences(model, test, shown, pairs)
    result["user_auc_differences"] = _user_auc_differences(model, test, shown, pairs)
    result["lists"] = evaluate_lists(model, test, neural, main, checkpoints, reporter)
    return Evaluated(result, _predictions(model, test, systems, final.routed))


def _names(model: FittedRanking) -> tuple[str, str]:
    """The system's own neural model, and its conventional half, in tables."""
    crm = model.config.crm
    name = crm.model + ("+counts" if crm.counts else "")
    neural = name if {1, 2} & set(model.config.joint.stages) else f"untrained {name}"
    return neural, f"lightgbm & {neural}" if model.ensemble else neural


def _crm_cost(model: FittedRanking, test: Samples) -> float:
    """Milliseconds a sample that the conventional model takes, in batches."""
    began = time.perf_counter()
    model.conventional(test)
    return 1000 * (time.perf_counter() - began) / len(test)


def _read_test(
    model: FittedRanking, test: Samples, checkpoints: Checkpoints, reporter: Reporter
) -> tuple[Floats, dict[str, float]]:
    """Raw logits of the language model on all test rows, kept so that a killed evaluation resumes."""

    def make() -> Kept:
        began = time.perf_counter()
        logits = model.llm_logits(test, reporter, "language model, test")
        cost = {"test_seconds": time.perf_counter() - began, "test_samples": float(len(test))}
        return {"rows": torch.from_numpy(test.row), "logits": torch.from_numpy(logits)}, cost

    same = lambda kept: np.array_equal(kept[0]["rows"].numpy(), test.row)  # noqa: E731
    tensors, cost = checkpoints.tensors("test", make, same)
    return tensors["logits"].numpy(), cost


def _conventional(model: FittedRanking, valid: Samples, test: Samples, neural: str, main: str) -> dict[str, Scores]:
    """LightGBM on the counting features, the paper's DCNv2, the system's own neural model and its conventional half."""
    train, whole_valid = model.dataset.samples("train"), model.dataset.samples("valid")
    encoder, seed = model.encoder, model.config.seed
    new_items = model.config.crm.new_items
    trees = (
        model.ensemble.trees
        if model.ensemble
        else train_trees(encoder, train, whole_valid, model.config.lightgbm, seed, new_items=new_items)
    )
    result = {"lightgbm": Scores(trees.logits(encoder, valid), trees.logits(encoder, test))}
    if neural != PLAIN_NAME:
        plain = plain_crm(PLAIN_NAME, encoder, train, whole_valid, CRMConfig(), seed)
        result[PLAIN_NAME] = _scores(lambda part: crm_outputs(plain, encoder, part), valid, test)
    ours = _scores(lambda part: crm_outputs(model.neural, encoder, part), valid, test)
    result[neural] = ours
    joined = model.base.joined
    result[main] = replace(ours, valid=joined(ours.valid, valid), test=joined(ours.test, test))
    return result


def _scores(outputs: Callable[[Samples], tuple[Floats, Hidden]], valid: Samples, test: Samples) -> Scores:
    (z_valid, h_valid), (z_test, h_test) = (outputs(part) for part in (valid, test))
    return Scores(z_valid, z_test, h_valid, h_test)


def _calibrate(model: FittedRanking, valid: Samples, scores: Scores) -> Scores:
    fitted = fit_calibrator(scores.valid, valid.label, model.config.routing.calibration)
    return Scores(fitted(scores.valid), fitted(scores.test))


def _systems(
    calibrated: dict[str, Scores],
    routed: dict[str, tuple[Router, RoutedSet]],
    valid: Samples,
    neural: str,
    main: str,
) -> tuple[dict[str, Floats], list[str]]:
    """Calibrated test logits of every system, and the names of those without a language model."""
    systems = {name: scores.test for name, scores in calibrated.items()}
    if main == neural:
        systems[f"lightgbm & {neural}"] = _stack(["lightgbm", neural], calibrated, valid)
    conventional = [name for name in systems if name != "llm"]
    for name in ("lightgbm", neural):
        systems[f"{name} & llm"] = _stack([name, "llm"], calibrated, valid)
    for name, (_, data) in routed.items():
        systems[f"{name} & llm"] = data.blended
    systems[f"mean of ({main}) and llm"] = (calibrated[main].test + calibrated["llm"].test) / 2
    if main == neural:
        systems[f"lightgbm & {neural} & llm"] = _stack(["lightgbm", neural, "llm"], calibrated, valid)
    return systems, conventional


def _stack(names: list[str], calibrated: dict[str, Scores], valid: Samples) -> Floats:
    """Logistic regression on calibrated validation logits, applied to test logits."""
    model = LogisticRegression(C=1.0).fit(np.stack([calibrated[n].valid for n in names], axis=1), valid.label)
    return model.decision_function(np.stack([calibrated[n].test for n in names], axis=1))


def _route(model: FittedRanking, crm: Scores, llm: Scores, valid: Samples, test: Samples) -> tuple[Router, RoutedSet]:
    """Fit a router for this CRM on validation rows and lay out the test rows for the curves."""
    features, guesses = [], []
    projection = fit_projection(crm.valid_hidden, HIDDEN_SIZE) if crm.valid_hidden is not None else None
    for part, hidden in ((valid, crm.valid_hidden), (test, crm.test_hidden)):
        cheap, guess = model.features.cheap(model.encoder, part)
        reduced = [projection(hidden)] if projection is not None and hidden is not None else []
        features.append(np.concatenate([cheap, *reduced], axis=1))
        guesses.append(guess)
    routing, seed = model.config.routing, model.config.seed
    seen = valid.popularity[:, 0]
    router = fit_router(crm.valid, llm.valid, valid.label, features[0], guesses[0], seen, valid.user, routing, seed)
    inputs = router.inputs(crm.test, features[1], guesses[1], test.popularity[:, 0])
    z_llm = router.llm(llm.test)
    length = test.history_end - model.dataset.events.start[test.user]
    blended = router.blend(inputs.crm, z_llm)
    return router, RoutedSet(test.label, test.user, inputs.crm, z_llm, blended, inputs, length, test.popularity[:, 0])


def _groups(
    model: FittedRanking, test: Samples, systems: dict[str, Floats], crms: list[str], main: str
) -> dict[str, list[dict[str, float | int | str]]]:
    """The paper's confidence groups for each CRM, and groups by item popularity and history length for the main one."""
    result = {}
    for crm in crms:
        shown = {crm: systems[crm], "llm": systems["llm"], f"{crm} & llm": systems[f"{crm} & llm"]}
        result[f"confidence of {crm}"] = group_table(confidence_groups(probability(systems[crm])), test.label, shown)
    shown = {name: systems[name] for name in ("lightgbm", main, "llm", f"{main} & llm")}
    popular = bins(test.popularity[:, 0], [0, 5, 20, 50, 100, 200], "answers")
    result["item popularity"] = group_table(popular, test.label, shown)
    length = test.history_end - model.dataset.events.start[test.user]
    result["history length"] = group_table(bins(length, [0, 5, 20, 50, 100, 200], "answers"), test.label, shown)
    return result


def _differences(
    model: FittedRanking, test: Samples, systems: dict[str, Floats], pairs: list[tuple[str, str]]
) -> list[dict[str, float | str]]:
    """Paired bootstraps of AUC differences: rows resampled, and whole users resampled where there are enough."""
    config, rows = model.config, []
    units: dict[str, npt.NDArray[np.int64] | None] = {"rows": None}
    if len(np.unique(test.user)) >= LEAST_CLUSTERS:
        units["users"] = test.user
    for a, b in dict.fromkeys(pairs):
        if a == b:
            continue
        for unit, cluster in units.items():
            d = paired_bootstrap(test.label, systems[a], systems[b], config.evaluation.bootstrap, config.seed, cluster)
            rows.append({"a": a, "b": b, "resampled": unit, **asdict(d)})
    return rows


def _user_auc_differences(
    model: FittedRanking, test: Samples, systems: dict[str, Floats], pairs: list[tuple[str, str]]
) -> list[dict[str, float | str]]:
    """Paired differences of the AUC within users, users resampled: the AUC of all samples also gains from telling users
    apart. Samples of one user are of different moments here; for the order of a list see `corella.evaluation.lists`.
    Empty where too few users have both answers."""
    config, rows = model.config, []
    each = {
        name: np.mean([user_aucs(test.label, draw, test.user) for draw in np.atleast_2d(z)], axis=0)
        for name, z in systems.items()
    }
    for a, b in dict.fromkeys(pairs):
        if a == b or len(each[a]) < LEAST_CLUSTERS:
            continue
        found = bootstrap_mean(each[b] - each[a], config.evaluation.bootstrap, config.seed)
        rows.append({"a": a, "b": b, "users": len(each[a]), **asdict(found)})
    return rows


def _predictions(
    model: FittedRanking, test: Samples, systems: dict[str, Floats], routed: npt.NDArray[np.bool_]
) -> pl.DataFrame:
    """One row a test sample: ids, label, what was known, and every system's probability."""
    log = model.dataset.log[test.row]
    facts = {
        "answers_before": test.history_end - model.dataset.events.start[test.user],
        "item_answers": test.popularity[:, 0],
    }
    columns = {name: probability(z).astype(np.float32) for name, z in systems.items()}
    return log.with_columns(**facts, routed=routed).with_columns(pl.Series(n, v) for n, v in columns.items())

"""Evaluate a fitted ranking on test rows: every baseline and control, curves, groups, significance and cost.

Whatever is fitted here (calibrators, blends, routers for the other CRMs, LightGBM's early stopping) is fitted on
validation rows.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from corella.calibration import fit_calibrator, probability
from corella.checkpoint import Checkpoints, Kept
from corella.crm.outside import outside_logits
from corella.data.samples import Samples, sample_users
from corella.evaluation.baselines import OUTSIDE, PLAIN, Scores, conventional_scores, own_systems, train_baselines
from corella.evaluation.curves import RoutedSet, routed_logits, routing_curves
from corella.evaluation.differences import auc_differences, user_auc_differences
from corella.evaluation.groups import bins, confidence_groups, group_table
from corella.evaluation.metrics import quality
from corella.evaluation.pricing import Asked, prices_on_test
from corella.evaluation.results import (
    Cost,
    Counted,
    FinalResult,
    GroupResult,
    RankingMetrics,
    SystemResult,
    confidence_of,
)
from corella.evaluation.slates import evaluate_slates
from corella.evaluation.systems import FINAL, LIGHTGBM, LLM, System
from corella.progress import Reporter
from corella.ranking.model import FittedRanking
from corella.routing.features import HIDDEN_SIZE, fit_projection
from corella.routing.router import Router, fit_router

Floats = npt.NDArray[np.floating]
Logits = dict[System, Floats]
Routed = dict[System, tuple[Router, RoutedSet]]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """All figures, and every system's probabilities of the test rows."""

    metrics: RankingMetrics
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
    config = model.config
    valid, test = model.dataset.samples(model.validation.rows), model.dataset.samples("test")
    test = test.take(sample_users(test, config.evaluation.max_test, config.seed))
    z_llm, spent = _read_test(model, test, checkpoints, reporter)
    reporter.say("evaluation: curves, intervals")
    neural, main = own_systems(model)
    baselines = train_baselines(model, checkpoints, reporter)
    raw = {
        **conventional_scores(model, baselines, valid, test, neural, main),
        LLM: Scores(model.validation.logits, z_llm),
    }
    if outside is not None:
        raw[OUTSIDE] = Scores(*(outside_logits(outside, model.dataset, part) for part in (valid, test)))
    calibrated = {name: _calibrate(model, valid, scores) for name, scores in raw.items()}
    crms = [crm for crm in dict.fromkeys((PLAIN, OUTSIDE, main)) if crm in raw]
    routed = {crm: _route(model, raw[crm], raw[LLM], valid, test) for crm in crms}
    systems, conventional = _systems(calibrated, routed, valid, neural, main)
    best = max(conventional, key=lambda system: float(roc_auc_score(test.label, systems[system])))
    rows = [
        SystemResult(system=s.name, made_of=s, **quality(test.label, z, test.user).model_dump())
        for s, z in systems.items()
    ]
    final = model.predict_from(raw[main].test, z_llm, test, model.affordable)
    systems = {**systems, FINAL: final.logit}
    share = float(final.routed.mean())
    at_fifth = {
        System(crm.models, llm=True, how="routed", policy=policy, share=0.2): z
        for crm, (router, data) in routed.items()
        for policy, z in routed_logits(router, data, ("learned", "entropy", "random"), 0.2).items()
    }
    pairs, shown = _pairs(main, neural, best, crms), {**systems, **at_fifth}
    metrics = RankingMetrics(
        version=version("corella-rec"),
        date=datetime.now(UTC).date().isoformat(),
        main_crm=main.name,
        neural_crm=neural.name,
        conventional=[system.name for system in conventional],
        samples=Counted(valid=len(valid), test=len(test), test_users=len(np.unique(test.user))),
        systems=rows,
        best_conventional=best.name,
        curves={crm.name: routing_curves(router, data) for crm, (router, data) in routed.items()},
        groups=_groups(model, test, systems, crms, main),
        cost=Cost.model_validate({
            **spent, **asdict(model.facts), "crm_milliseconds_per_sample": _crm_cost(model, test),
        }),
        rungs=prices_on_test(model, Asked(test, raw[main].test, final.logit, share)),
        final=FinalResult(
            policy=config.routing.policy, combine=config.routing.combine, share_wanted=model.affordable,
            share_routed=share, **quality(test.label, final.logit, test.user).model_dump(),
        ),
        differences=auc_differences(config, test, shown, pairs),
        user_auc_differences=user_auc_differences(config, test, shown, pairs),
        slates=evaluate_slates(model, test, neural, main, checkpoints, reporter),
    )  # fmt: skip
    return Evaluated(metrics, _predictions(model, test, systems, final.routed))


def _pairs(main: System, neural: System, best: System, crms: Sequence[System]) -> list[tuple[System, System]]:
    """Which systems are held against each other."""
    both = System((*LIGHTGBM.models, *neural.models))
    pairs = [
        (main, FINAL), (LIGHTGBM, FINAL), (best, FINAL), (main, main.asked), (best, main.asked), (best, both.asked),
        (LIGHTGBM, LIGHTGBM.asked), (PLAIN, PLAIN.asked), (neural, neural.asked), (LIGHTGBM, neural), (LIGHTGBM, main),
        (neural, main),
    ]  # fmt: skip

    def fifth(crm: System, policy: str) -> System:
        return System(crm.models, llm=True, how="routed", policy=policy, share=0.2)

    pairs += [(fifth(crm, policy), fifth(crm, "learned")) for crm in crms for policy in ("entropy", "random")]
    return [(a, b) for a, b in dict.fromkeys(pairs) if a != b]


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


def _calibrate(model: FittedRanking, valid: Samples, scores: Scores) -> Scores:
    fitted = fit_calibrator(scores.valid, valid.label, model.config.routing.calibration)
    return Scores(fitted(scores.valid), fitted(scores.test))


def _systems(
    calibrated: Mapping[System, Scores], routed: Routed, valid: Samples, neural: System, main: System
) -> tuple[Logits, list[System]]:
    """Calibrated test logits of every system, and the systems without a language model."""
    systems: Logits = {system: scores.test for system, scores in calibrated.items()}
    both = System((*LIGHTGBM.models, *neural.models))
    if main == neural:
        systems[both] = _stack([LIGHTGBM, neural], calibrated, valid)
    conventional = [system for system in systems if system != LLM]
    for system in (LIGHTGBM, neural):
        systems[system.asked] = _stack([system, LLM], calibrated, valid)
    for crm, (_, data) in routed.items():
        systems[crm.asked] = data.blended
    mean = System(main.models, llm=True, how="mean")
    systems[mean] = (calibrated[main].test + calibrated[LLM].test) / 2
    if main == neural:
        systems[both.asked] = _stack([LIGHTGBM, neural, LLM], calibrated, valid)
    return systems, conventional


def _stack(parts: Sequence[System], calibrated: Mapping[System, Scores], valid: Samples) -> Floats:
    """Logistic regression on calibrated validation logits, applied to test logits."""
    model = LogisticRegression(C=1.0).fit(np.stack([calibrated[n].valid for n in parts], axis=1), valid.label)
    found: Floats = model.decision_function(np.stack([calibrated[n].test for n in parts], axis=1))
    return found


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
    model: FittedRanking, test: Samples, systems: Logits, crms: Sequence[System], main: System
) -> dict[str, list[GroupResult]]:
    """The paper's confidence groups for each CRM, and groups by item popularity and history length for the main one."""
    result = {}
    for crm in crms:
        thirds = confidence_groups(probability(systems[crm]))
        result[confidence_of(crm.name)] = group_table(thirds, test.label, _named(systems, crm, LLM, crm.asked))
    shown = _named(systems, LIGHTGBM, main, LLM, main.asked)
    popular = bins(test.popularity[:, 0], [0, 5, 20, 50, 100, 200], "interactions")
    result["item popularity"] = group_table(popular, test.label, shown)
    length = test.history_end - model.dataset.events.start[test.user]
    result["history length"] = group_table(bins(length, [0, 5, 20, 50, 100, 200], "interactions"), test.label, shown)
    return result


def _named(systems: Logits, *some: System) -> dict[str, Floats]:
    return {system.name: systems[system] for system in some}


def _predictions(model: FittedRanking, test: Samples, systems: Logits, routed: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """One row a test sample: ids, label, what was known, and every system's probability."""
    log = model.dataset.log[test.row]
    facts = {
        "answers_before": test.history_end - model.dataset.events.start[test.user],
        "item_answers": test.popularity[:, 0],
    }
    columns = {system.name: probability(z).astype(np.float32) for system, z in systems.items()}
    return log.with_columns(**facts, routed=routed).with_columns(pl.Series(n, v) for n, v in columns.items())

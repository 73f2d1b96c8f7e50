"""Evaluate a trained run on its test rows, and draw its report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from corella.config.loading import changed, load_config, to_yaml
from corella.errors import UserError
from corella.evaluation.evaluate import evaluate
from corella.evaluation.examples import example_recommendations
from corella.evaluation.results import Metrics, read_metrics, write_metrics
from corella.evaluation.retrieval import evaluate_retrieval
from corella.files import alone, atomic_path, write_text
from corella.progress import Reporter
from corella.ranking.model import FittedRanking
from corella.recommender import Recommender
from corella.retrieval.system import Retrieval
from corella.runs.folder import RunFolder
from corella.runs.machine import machine
from corella.runs.train import load_run


def evaluate_run(
    run: Path,
    model: FittedRanking | None = None,
    reporter: Reporter | None = None,
    outside: Path | None = None,
    overrides: Sequence[str] = (),
) -> Metrics:
    """Evaluate; writes metrics.json and, where there is a ranking, predictions.parquet and report.html.

    `outside`: a table of probabilities of another conventional model, see `corella.evaluation.evaluate`. `overrides`
    change the settings that only an evaluation reads, and stay; `UserError` for others.
    """
    folder = RunFolder(run)
    reporter = reporter or Reporter(folder.log)
    if model is None and folder.has_retrieval and not folder.has_ranking:
        return _evaluate_retrieval(folder, reporter, outside, overrides)
    model = model or load_run(run)
    if overrides:
        _set_evaluation(folder, overrides)
    model = replace(model, config=model.config.with_sections(["evaluation"], load_config(folder.config)))
    found = evaluate(model, folder.checkpoints, reporter, outside)
    with atomic_path(folder.predictions) as path:
        found.predictions.write_parquet(path)
    metrics = _about(model).model_copy(update={"ranking": found.metrics})
    write_metrics(metrics, folder.metrics)
    if folder.has_retrieval:
        retrieval = Retrieval.load(folder.retrieval)
        examples = example_recommendations(Recommender(retrieval, model), model.dataset)
        both = {"retrieval": evaluate_retrieval(retrieval, reporter), "recommendations": examples}
        metrics = metrics.model_copy(update=both)
        write_metrics(metrics, folder.metrics)
    write_report(run)
    reporter.log("evaluated")  # with the peak of memory
    return metrics


def _evaluate_retrieval(
    folder: RunFolder, reporter: Reporter, outside: Path | None, overrides: Sequence[str]
) -> Metrics:
    """Of a run that holds nothing else."""
    if outside is not None:
        raise UserError(f"{folder.path} holds a retrieval but no ranking, which {outside} could stand beside")
    if overrides:
        raise UserError(f"{folder.path} holds a retrieval but no ranking, whose evaluation {overrides[0]} could change")
    retrieval = Retrieval.load(folder.retrieval)
    metrics = _about(retrieval).model_copy(update={"retrieval": evaluate_retrieval(retrieval, reporter)})
    write_metrics(metrics, folder.metrics)
    return metrics


def _set_evaluation(folder: RunFolder, overrides: Sequence[str]) -> None:
    """Change the settings of a trained run that only an evaluation reads. Raises `UserError` for others."""
    with alone(folder.path, "model"):
        before, wanted = load_config(folder.config), load_config(folder.config, overrides)
        locked = changed(before.as_trained(), wanted.as_trained())
        if locked:
            raise UserError(
                f"{folder.path} was trained with another {locked[0]}; what may change after the training is "
                "evaluation.max_test, evaluation.slates and evaluation.bootstrap"
            )
        write_text(folder.config, to_yaml(wanted))


def _about(model: FittedRanking | Retrieval) -> Metrics:
    """What figures were measured on, and none yet."""
    return Metrics(seed=model.config.seed, machine=machine(), dataset=model.dataset.preparation)


def write_report(run: Path) -> None:
    """Draw report.html from metrics.json and predictions.parquet (needs the extra `report`)."""
    try:
        from corella.report.page import render_report
    except ImportError:
        raise UserError("the report needs: pip install 'corella-rec[report]'") from None
    folder = RunFolder(run)
    metrics, config = read_metrics(folder.metrics), load_config(folder.config)
    if metrics.ranking is None:
        raise UserError(f"{run} holds figures of a retrieval alone, and the report is about a ranking")
    write_text(folder.report, render_report(metrics, config, pl.read_parquet(folder.predictions)))

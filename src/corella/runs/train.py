"""Train into a run folder. Each command can be killed at any moment and called again."""

from contextlib import nullcontext
from pathlib import Path
from typing import Literal

from corella.config import RANKING_ONLY, RETRIEVAL_ONLY, Config
from corella.config.loading import changed, load_config, to_yaml
from corella.data.dataset import Dataset
from corella.data.origin import changed_since
from corella.data.prepare import load_dataset
from corella.errors import UserError
from corella.evaluation.baselines import train_baselines
from corella.evaluation.pricing import validation_prices
from corella.files import alone, write_text
from corella.progress import Reporter
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking
from corella.ranking.model import FittedRanking
from corella.recommender import Recommender
from corella.report.wording import override, recommendation
from corella.retrieval.fit import fit_retrieval
from corella.retrieval.system import Retrieval
from corella.runs.folder import RunFolder
from corella.runs.machine import machine
from corella.workers import here

_OWN = {"model": RANKING_ONLY, "retrieval": RETRIEVAL_ONLY}
"""Of each half of a run, by the folder of its trained model: the sections that are its own."""


def train_run(run: Path, config: Config, reporter: Reporter | None = None) -> FittedRanking:
    """Train a ranking, resuming where an earlier call was stopped. Ends with what text is worth, and what is therefore
    served."""
    folder, workers = RunFolder(run), here()
    with alone(run, "model") if workers.first else nullcontext():
        if workers.first:
            start_run(run, config, "model")
        reporter = reporter or (Reporter(folder.log) if workers.first else Reporter(quiet=True))
        if workers.in_turn(lambda: folder.has_ranking):
            model = load_ranking(folder.model)
            _refuse_other_data(run, config, model.dataset)
            reporter.say(f"{run}: trained already")
        else:
            dataset = workers.in_turn(lambda: load_dataset(config, reporter=reporter))
            reporter.log("start", dataset=dataset.preparation.facts, machine=machine().model_dump())
            model = fit_ranking(config, dataset, folder.checkpoints, reporter)
            if workers.first:
                save_ranking(model, folder.model)
    train_baselines(model, folder.checkpoints, reporter)
    prices = validation_prices(model)
    reporter.say(f"{recommendation(prices)} {override(prices, model.affordable)}")
    return model


def train_retrieval(run: Path, config: Config, reporter: Reporter | None = None) -> Retrieval:
    """Train a retrieval, resuming where an earlier call was stopped."""
    folder = RunFolder(run)
    with alone(run, "retrieval"):
        start_run(run, config, "retrieval")
        reporter = reporter or Reporter(folder.log)
        if folder.has_retrieval:
            trained = Retrieval.load(folder.retrieval)
            _refuse_other_data(run, config, trained.dataset)
            reporter.say(f"{run}: the retrieval is trained already")
            return trained
        dataset = load_dataset(config, reporter=reporter)
        model = fit_retrieval(config, dataset, folder.retrieval_checkpoints, reporter)
        model.save(folder.retrieval)
    return model


def _refuse_other_data(run: Path, config: Config, trained_on: Dataset) -> None:
    """Raise `UserError` where the files that the settings name are no longer those of the training."""
    changed = changed_since(config.data, trained_on.preparation)
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise UserError(f"{run}: trained already, on data that have changed since ({shown}); choose another run folder")


def start_run(run: Path, config: Config, half: Literal["model", "retrieval"]) -> None:
    """Make the run folder, or check that an existing one has this configuration, as far as this half reads it: the
    other half's settings stay what they are. What was begun keeps its settings, but for those that only an evaluation
    reads; as long as nothing is, all may change. Raises `UserError` where they do not fit.
    """
    folder = RunFolder(run)
    if folder.config.is_file():
        other = "retrieval" if half == "model" else "model"
        begun = {"model": folder.ranking_begun, "retrieval": folder.retrieval_begun}
        before = load_config(folder.config)
        if any(begun.values()):
            config = config.with_sections(_OWN[other], before)
        free = () if begun[half] else _OWN[half]
        was, wanted = (each.without(free).as_trained() for each in (before, config))
        different = changed(was, wanted) if any(begun.values()) else []
        if different:
            shown = ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")
            raise UserError(
                f"{run} was started with another configuration ({shown}); choose another folder or delete it"
            )
    write_text(folder.config, to_yaml(config))


def load_run(run: Path) -> FittedRanking:
    """The trained ranking of a run. Raises `UserError` where there is none."""
    folder = RunFolder(run)
    folder.check_ranking()
    return load_ranking(folder.model)


def load_recommender(run: Path) -> Recommender:
    """What a run holds: a retrieval, a ranking, or both. Raises `UserError` where it holds neither."""
    folder = RunFolder(run)
    if not (folder.has_retrieval or folder.has_ranking):
        raise UserError(f"{run} holds no trained model; run `corella train` or `corella train-retrieval` first")
    return Recommender(
        Retrieval.load(folder.retrieval) if folder.has_retrieval else None,
        load_ranking(folder.model) if folder.has_ranking else None,
    )

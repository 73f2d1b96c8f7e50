"""A new version of a run's models, trained on its log and on what its service was told since."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from corella.config.loading import load_config, to_yaml
from corella.data.dataset import Dataset
from corella.data.extend import Newer, extended
from corella.errors import UserError
from corella.files import alone, read_value, write_text, write_value
from corella.progress import Reporter
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking
from corella.ranking.model import FittedRanking
from corella.retrieval.fit import fit_retrieval
from corella.runs.folder import RunFolder
from corella.serving.store.log import Store
from corella.serving.versions.folder import FIRST, Version, Versions
from corella.serving.versions.gate import compare, passes
from corella.serving.versions.told import Told, told


@dataclass(frozen=True)
class Retrained:
    """What came of a retraining."""

    version: Version
    serves: bool
    """Whether it serves now."""


@dataclass(frozen=True)
class _Begun:
    """What a retraining that was killed goes on from: the same data."""

    cursor: str


def retrain(run: Path, store: Store, reporter: Reporter | None = None, repeats: str = "last") -> Retrained:
    """Train the next version on the run's log and on the store, counted once, compare it with the one that serves, and
    let it serve unless it is significantly worse. Killed at any moment, the same call resumes. Raises `UserError` where
    nothing was told since the version that serves was made."""
    versions = Versions(run)
    with alone(run, "retraining"):
        reporter = reporter or Reporter(RunFolder(run).log)
        first = load_ranking(RunFolder(versions.folder(FIRST)).model)
        heard = told(store)
        name = versions.next_name()
        serving = versions.version(versions.serving)
        if (not heard.events and not heard.items) or heard.cursor == serving.cursor:
            raise UserError(f"{run}: nothing was told to its service since version {serving.name}")
        folder = RunFolder(versions.folder(name))
        dataset = extended(first.dataset, _newer(heard, store, repeats), first.config.seed, reporter)
        _begin(folder, heard, dataset, first)
        reporter.say(
            f"version {name}: {dataset.log.height:,} interactions, {len(heard.events):,} events of the service"
        )
        model = _ranking(folder, dataset, reporter)
        if RunFolder(run).has_retrieval and not folder.has_retrieval:
            fit_retrieval(first.config, dataset, folder.retrieval_checkpoints, reporter).save(folder.retrieval)
        current = first if serving.name == FIRST else load_ranking(RunFolder(versions.folder(serving.name)).model)
        compared = compare(current, model, heard)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        version = Version(name, heard.cursor, made, compared)
        versions.write(version)
        if passes(compared):
            versions.serve(name)
    return Retrained(version, passes(compared))


def _newer(heard: Told, store: Store, repeats: str) -> Newer:
    return Newer(
        heard.frame(labelled=True), heard.item_rows(), heard.people_rows(),
        lambda name: bool(heard.erased) and store.digest(name) in heard.erased, repeats == "last",
    )  # fmt: skip


def _begin(folder: RunFolder, heard: Told, dataset: Dataset, first: FittedRanking) -> None:
    """Make the folder; steps of an earlier try on other data are not gone on from."""
    begun = folder.path / "begun.json"
    config = first.config.model_copy(update={"data": dataset.config})
    if begun.is_file() and read_value(begun, _Begun).cursor != heard.cursor:
        shutil.rmtree(folder.path)
    write_value(begun, _Begun(heard.cursor))
    write_text(folder.config, to_yaml(config))


def _ranking(folder: RunFolder, dataset: Dataset, reporter: Reporter) -> FittedRanking:
    if folder.has_ranking:
        return load_ranking(folder.model)
    config = load_config(folder.config)
    model = fit_ranking(config, replace(dataset, config=config.data), folder.checkpoints, reporter)
    save_ranking(model, folder.model)
    return model

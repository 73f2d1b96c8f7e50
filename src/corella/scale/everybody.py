"""Everybody, every night: a folder of rows scored, a folder of users recommended to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW, ITEM, USER
from corella.config import TableConfig
from corella.data.ids import id_text
from corella.data.tables.read import find_files, read_files
from corella.errors import UserError, suggest
from corella.files import sha256
from corella.progress import Reporter
from corella.ranking.results import Predictions
from corella.recommender import Recommender
from corella.runs.folder import RunFolder
from corella.runs.score import predictions_frame
from corella.runs.train import load_recommender
from corella.scale.partitions import common_root, partitions
from corella.scale.scoring import Spent, model_of, score_partitions, spent
from corella.tasks.once import FINISHED, Entry, Facts, Origin, Output, output_folder, stamp
from corella.tasks.running import Workers, kept

_USERS = 5_000
"""Users of one partition of recommendations."""
_LIST, _RETRIEVED = "list", "retrieved_at"


@dataclass(frozen=True)
class Find:
    """Find candidates for some users of a file."""

    run: Path
    source: Path
    start: int
    k: int
    candidates: int


@dataclass(frozen=True)
class Best:
    """The best `k` rows of each user, from candidates and what was predicted of them."""

    k: int

    def __call__(self, frame: pl.DataFrame, predictions: Predictions) -> pl.DataFrame:
        """user_id, rank (from 1), item_id, retrieved_at, and the scores; ties in the order of the retrieval."""
        said = predictions_frame(frame, predictions).with_columns(logit=pl.Series(predictions.logit))
        ordered = said.sort(_LIST, "logit", descending=[False, True], maintain_order=True)
        return (
            ordered.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over(_LIST))
            .filter(pl.col("rank") <= self.k)
            .select(
                USER, "rank", ITEM, _RETRIEVED, "probability", "crm_probability", "entropy", "routed", "llm_probability"
            )
        )


@dataclass(frozen=True)
class Recommended:
    """What `recommend_everybody` made."""

    users: int
    lists: int
    """Fewer where the run does not know a user, or nothing is left to recommend."""


def score_everybody(
    run: Path,
    rows: Path,
    out: Path,
    share: float | None = None,
    workers: Workers = Workers(),
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Spent:
    """Score every Parquet file of a folder or pattern into a file of the same name below `out`.

    `share`: at most this share of all rows is asked about; unset: as the run serves. Killed at any moment, the same
    call resumes. Raises `UserError` for rows that cannot be scored, and for an `out` that holds anything else.
    """
    reporter, run = reporter or Reporter(), run.absolute()
    _forget()
    RunFolder(run).check_ranking()
    sources = partitions(rows, out)
    origin = _origin(run, list(sources.values()), command="score", share=share, overwrite=overwrite)
    with output_folder(out.absolute(), origin) as output, kept(workers):
        found = _all_made(output, list(sources))
        if found is None:
            wanted = _share(run, share, workers)
            done = score_partitions(output, run, sources, wanted, workers, reporter, overwrite=overwrite)
        else:
            reporter.say(f"{out}: every file is made already")
            done = spent(found)
        output.finish()
    for said in done.warnings:
        reporter.say(f"warning: {said}")
    for name, unknown in done.unknown.items():
        if unknown:
            reporter.say(
                f"warning: {unknown:,} of {done.rows:,} rows have no {name}, or one that the run does not know; it is "
                "scored as an unknown id"
            )
    return done


def recommend_everybody(
    run: Path,
    users: Path,
    out: Path,
    k: int = 20,
    candidates: int = 100,
    share: float | None = None,
    workers: Workers = Workers(),
    reporter: Reporter | None = None,
) -> Recommended:
    """The best `k` items for every user of a file, folder or pattern, as `Recommender.recommend` finds them, into
    Parquet files of 5,000 users each below `out`.

    `share`: at most this share of all candidates is asked about; unset: as the run serves. Users are read from the
    column `user_id`, each once a file. Resumes, and raises `UserError`, as `score_everybody` does.
    """
    reporter, run = reporter or Reporter(), run.absolute()
    _forget()
    ranks = RunFolder(run).has_ranking
    if not (ranks or RunFolder(run).has_retrieval):
        raise UserError(f"{run} holds no trained model; run `corella train` or `corella train-retrieval` first")
    files = [file.absolute() for file in find_files(users)]
    origin = _origin(run, files, command="recommend", k=k, candidates=candidates, share=share)
    with output_folder(out.absolute(), origin) as output, kept(workers):
        finds, total = _finds(run, files, common_root(users, files), k, candidates)
        stage = "candidates" if ranks else FINISHED
        if not ranks or _all_made(output, list(finds)) is None:
            output.make(stage, _find, finds, replace(workers, gpus=0), reporter)
            if ranks:
                places = {name: output.place(stage) / name for name in finds}
                score_partitions(output, run, places, _share(run, share, workers), workers, reporter, Best(k))
        output.finish()
    made = pl.scan_parquet([output.folder / name for name in finds])
    return Recommended(total, made.filter(pl.col("rank") == 1).select(pl.len()).collect().item())


def _origin(run: Path, files: Sequence[Path], **settings: object) -> Origin:
    """An output made from files by a run, whose manifests hold the hash of every file of its models."""
    folder = RunFolder(run)
    models = {"the run's ranking": folder.model, "the run's retrieval": folder.retrieval}
    hashes = {
        name: sha256(place / "manifest.json") for name, place in models.items() if (place / "manifest.json").is_file()
    }
    told = {name: str(value) for name, value in settings.items()}
    return Origin({str(file): stamp(file) for file in files}, {**told, **hashes})


def _all_made(output: Output, names: Sequence[str]) -> dict[str, Entry] | None:
    found = {name: entry for name in names if (entry := output.made(FINISHED, name)) is not None}
    return found if len(found) == len(names) else None


def _share(run: Path, share: float | None, workers: Workers) -> float:
    """What is given, or what the run serves."""
    found = model_of(run).share if share is None else share
    if workers.processes or workers.ray is not None:
        model_of.cache_clear()  # the workers have their own
    return found


@lru_cache(maxsize=1)
def _recommender(run: Path) -> Recommender:
    return load_recommender(run)


def _forget() -> None:
    """What this process read of a run before; it may have been trained again."""
    model_of.cache_clear()
    _recommender.cache_clear()


def _finds(run: Path, files: Sequence[Path], root: Path, k: int, candidates: int) -> tuple[dict[str, Find], int]:
    """The tasks that find candidates, by the name of their file, and how many users there are."""
    tasks, total = {}, 0
    for file in files:
        users = len(_users(file))
        total += users
        name = file.relative_to(root).with_suffix("")
        for start in range(0, max(users, 1), _USERS):
            tasks[f"{name}-{start:09d}.parquet"] = Find(run, file, start, k, candidates)
    return tasks, total


def _users(file: Path) -> list[str]:
    """The users of a file, each once, in its order."""
    table = read_files(TableConfig(path=file)).frame
    if USER not in table.columns:
        raise UserError(f"{file}: no column '{USER}'; {suggest(USER, [n for n in table.columns if n != FILE_ROW])}")
    return id_text(table[USER]).drop_nulls().unique(maintain_order=True).to_list()


def _find(task: Find, target: Path) -> Facts:
    recommender = _recommender(task.run)
    users = recommender.known(_users(task.source)[task.start : task.start + _USERS])
    found = recommender.candidates(users, task.k, task.candidates) if users else []
    retrieved = recommender.retrieval is not None
    rows = pl.DataFrame(
        {
            _LIST: range(len(users)), USER: users, ITEM: found,
            _RETRIEVED: [list(range(1, len(items) + 1)) if retrieved else [None] * len(items) for items in found],
        },
        schema={_LIST: pl.Int32, USER: pl.String, ITEM: pl.List(pl.String), _RETRIEVED: pl.List(pl.Int32)},
    ).filter(pl.col(ITEM).list.len() > 0).explode(ITEM, _RETRIEVED)  # fmt: skip
    if recommender.ranking is None:
        rows = rows.select(USER, pl.col(_RETRIEVED).alias("rank"), ITEM)
    rows.write_parquet(target)
    return {"rows": rows.height}

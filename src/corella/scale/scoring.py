"""Score partitions of rows, or recommend to partitions of users, by workers; each file is made exactly once.

Where nothing may be routed, one stage scores each partition. Otherwise there are four. `conventional`: the conventional
models score everything, and the router says how much each row is worth asking about. One threshold over all partitions'
sketches spends the budget. `routed`: the rows that reach it, sorted by group; all rows of a user are in one group.
`asked`: the language model reads a group, so that each user's history is read once. `finished`: both are combined.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import TypeAdapter

from corella.columns import FILE_ROW, ITEM, TIME, USER
from corella.progress import Reporter
from corella.ranking.model import FittedRanking
from corella.ranking.results import Predictions
from corella.runs.score import Rows, predictions_frame, read_rows, taken_names
from corella.runs.train import load_run
from corella.scale.sketch import Sketch, merged, sketch, threshold
from corella.tasks.once import FINISHED, Entry, Facts, Output
from corella.tasks.running import Workers

_CHUNK = 250_000
_GROUP_ROWS = 2_000
_MOST_GROUPS = 1_024
_ROW_GROUP = 65_536
_PARTITION, _GROUP, _ANSWER = "partition", "group", "llm"

Shape = Callable[[pl.DataFrame, Predictions], pl.DataFrame]
"""The finished table of a partition, from its columns and what was predicted."""


@dataclass(frozen=True)
class Conventional:
    """Score one partition by the conventional models."""

    run: Path
    source: Path
    routes: bool
    """Whether anything may be routed; priorities are 0 where not."""


@dataclass(frozen=True)
class Route:
    """Keep the rows of one partition that reach the threshold."""

    scored: Path
    number: int
    """The partition's."""
    limit: float
    groups: int


@dataclass(frozen=True)
class Ask:
    """Ask the language model about one group of users, whatever partitions their rows are in."""

    run: Path
    routed: Path
    """Folder of the routed rows."""
    group: int


@dataclass(frozen=True)
class Finish:
    """Write one partition with what both said of it."""

    run: Path
    source: Path
    scored: Path | None
    """What the conventional models said; None: ask them now, nothing is routed."""
    answers: Path
    """Folder of the language model's answers."""
    number: int
    limit: float
    overwrite: bool
    shape: Shape
    """A function at the top of a module, or a callable dataclass."""


@dataclass(frozen=True)
class Spent:
    """What became of the budget."""

    rows: int
    routed: int
    unknown: dict[str, int]
    """Rows whose user, or item, the run does not know."""
    warnings: list[str]


@lru_cache(maxsize=1)
def model_of(run: Path) -> FittedRanking:
    """The ranking of a run, read once by each worker."""
    return load_run(run)


def score_partitions(
    output: Output,
    run: Path,
    sources: Mapping[str, Path],
    share: float,
    workers: Workers,
    reporter: Reporter,
    shape: Shape = predictions_frame,
    overwrite: bool = False,
) -> Spent:
    """Score partitions into the files of the same names of `output`; a partition is held in memory. At most `share` of
    all rows are asked about: those of the highest priority, or of the highest mean priority of a user in a partition
    where `routing.budget_unit` is requests. Raises `UserError` for rows that cannot be scored.
    """
    numbers = {name: n for n, name in enumerate(sources)}
    plain = replace(workers, gpus=0)
    answers, limit, scored = output.place("asked"), float("inf"), dict[str, Path]()
    if share > 0:
        tasks = {name: Conventional(run, source, True) for name, source in sources.items()}
        first = output.make("conventional", _conventional, tasks, plain, reporter)
        scored = {name: output.place("conventional") / name for name in sources}
        limit, groups = _budget(first, share)
        if limit < float("inf"):
            reporter.say(f"routed from a priority of {limit:.6g}: at most {share:.2%} of all rows")
            routes = {name: Route(scored[name], n, limit, groups) for name, n in numbers.items()}
            output.make("routed", _route, routes, plain, reporter)
            asks = {f"group-{g:05d}.parquet": Ask(run, output.place("routed"), g) for g in range(groups)}
            output.make("asked", _ask, asks, workers, reporter)
    ends = {
        name: Finish(run, source, scored.get(name), answers, numbers[name], limit, overwrite, shape)
        for name, source in sources.items()
    }
    return spent(output.make(FINISHED, _finish, ends, plain, reporter))


def spent(entries: Mapping[str, Entry]) -> Spent:
    """The sum of finished partitions."""
    facts = [entry.facts for entry in entries.values()]
    unknown = {name: sum(each["unknown"][name] for each in facts) for name in (USER, ITEM)}
    warnings = [said for each in facts for said in each["warnings"]]
    return Spent(sum(each["rows"] for each in facts), sum(each["routed"] for each in facts), unknown, warnings)


def _budget(first: Mapping[str, Entry], share: float) -> tuple[float, int]:
    """The threshold over all partitions, and in how many groups the language model is asked: whatever the workers."""
    sketches = [TypeAdapter(Sketch).validate_python(entry.facts["sketch"]) for entry in first.values()]
    expected = share * sum(entry.facts["rows"] for entry in first.values())
    return threshold(merged(sketches), share), min(_MOST_GROUPS, max(1, round(expected / _GROUP_ROWS)))


def _conventional(task: Conventional, target: Path) -> Facts:
    model = model_of(task.run)
    found = _said(model, _read(model, task.source), True)
    found.write_parquet(target, row_group_size=_ROW_GROUP)
    return {"rows": found.height, "sketch": TypeAdapter(Sketch).dump_python(sketch(found["compared"].to_numpy()))}


def _read(model: FittedRanking, source: Path) -> Rows:
    # Partitions are Parquet, of which nothing is copied into a folder first.
    return read_rows(source, model.config.data.interactions, model.dataset, source.parent)


def _said(model: FittedRanking, rows: Rows, routes: bool) -> pl.DataFrame:
    """Of each row what is asked (USER, ITEM, TIME, which is null where it is not read) and what the conventional models
    and the router say of it."""
    parts = []
    for start in range(0, max(rows.asked.height, 1), _CHUNK):
        samples = model.dataset.query(rows.asked.slice(start, _CHUNK))
        crm, priority = model.priorities(samples) if routes else model.decide(samples, 0.0)[:2]
        parts.append(pl.DataFrame({"user": samples.user, "item": samples.item, "crm": crm, "priority": priority}))
    said = pl.concat(parts)
    compared = model.compared(said["priority"].to_numpy(), said["user"].to_numpy())
    time = pl.col(TIME) if TIME in rows.asked.columns else pl.lit(None, pl.Datetime("us")).alias(TIME)
    asked = rows.asked.select(pl.col(USER, ITEM).cast(pl.String), time)
    return asked.hstack(said).with_columns(compared=pl.Series(compared))


def _route(task: Route, target: Path) -> Facts:
    user, row = pl.col("user"), pl.col(FILE_ROW)
    routed = (
        pl.scan_parquet(task.scored)
        .with_row_index(FILE_ROW)
        .filter(pl.col("compared") >= task.limit)
        .select(
            # Somebody unknown has no history to share.
            (pl.when(user >= 0).then(user).otherwise(row) % task.groups).cast(pl.Int32).alias(_GROUP),
            pl.lit(task.number, pl.Int32).alias(_PARTITION), FILE_ROW, USER, ITEM, TIME,
        )
        .sort(_GROUP, FILE_ROW)
        .collect()
    )  # fmt: skip
    routed.write_parquet(target, row_group_size=_GROUP_ROWS)
    return {"rows": routed.height}


def _ask(task: Ask, target: Path) -> Facts:
    rows = _rows_of(task.routed, pl.col(_GROUP) == task.group).sort(USER, _PARTITION, FILE_ROW)
    logits = np.zeros(0, dtype=np.float32)
    if rows.height:
        model = model_of(task.run)
        logits = model.llm_logits(model.dataset.query(rows.select(USER, ITEM, TIME)))
    answers = rows.select(_PARTITION, FILE_ROW, pl.Series(_ANSWER, logits)).sort(_PARTITION, FILE_ROW)
    answers.write_parquet(target, row_group_size=_GROUP_ROWS)
    return {"rows": rows.height}


def _finish(task: Finish, target: Path) -> Facts:
    model = model_of(task.run)
    rows = _read(model, task.source)
    taken = taken_names(rows, task.source, task.overwrite)
    said = _said(model, rows, False) if task.scored is None else pl.read_parquet(task.scored)
    routed = said["compared"].to_numpy() >= task.limit
    answered = np.full(said.height, np.nan, dtype=np.float32)
    if routed.any():
        answers = _rows_of(task.answers, pl.col(_PARTITION) == task.number)
        answered[answers[FILE_ROW].to_numpy()] = answers[_ANSWER].to_numpy()
    if (np.isfinite(answered) != routed).any():
        raise RuntimeError(f"{task.source}: the language model's answers are not those of the routed rows")
    predictions = model.combine(said["crm"].to_numpy(), answered, said["priority"].to_numpy(), routed)
    table = task.shape(rows.frame.drop(FILE_ROW, *taken).collect(), predictions)
    table.write_parquet(target, row_group_size=_ROW_GROUP)
    unknown = {USER: int((said["user"] < 0).sum()), ITEM: int((said["item"] < 0).sum())}
    warnings = [f"{task.source.name}: {warning}" for warning in rows.warnings]
    return {"rows": said.height, "routed": int(routed.sum()), "unknown": unknown, "warnings": warnings}


def _rows_of(folder: Path, wanted: pl.Expr) -> pl.DataFrame:
    """The wanted rows of all files of a stage; row groups that hold none of them are not read."""
    files: list[Any] = sorted(folder.rglob("*.parquet"))
    return pl.scan_parquet(files).filter(wanted).collect()

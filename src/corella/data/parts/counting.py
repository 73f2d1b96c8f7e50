"""Stages four to six: what all had said before each row, part by part of the log; then what its user had said, part by
part of the users."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from corella.columns import LABEL, SPLIT, TIME
from corella.config import DataConfig
from corella.data.parts.frames import CROWD, ROW, Desk, load_totals, read_between, save_totals, write_sorted
from corella.data.parts.texts import own_texts
from corella.data.rows import group_keys, times_of
from corella.features.counts import own, own_answers
from corella.features.everyone import Heard, Totals, heard
from corella.features.log import Keys, Log
from corella.features.ratings import RatingScale, answer_values
from corella.tasks.once import Facts

SHOWN = ("item_answers", "item_likes")
FEATURE, ABOVE = "count:", "above"
"""What names of count features begin with in files, and those of what answers were above the expected."""


@dataclass(frozen=True)
class Part:
    """A part of the log."""

    desk: Desk
    file: Path
    """Its rows in order."""
    scale: RatingScale | None
    start: int
    """The first row's place in the log."""
    samples: int
    """Samples before it."""
    cuts: tuple[float, float]
    """Where validation and test begin: by samples, or by seconds."""
    by_seconds: bool
    earlier: Path | None = None
    """`Totals` of all parts before it."""


def totals(task: Part, target: Path) -> Facts:
    """Write the `Totals` of a part alone."""
    config = task.desk.config()
    log = _log(pl.read_parquet(task.file), task.scale)
    save_totals(Totals.of(log, _keys(log, task.desk, config, by_user=False)), target)
    return {}


def all_said(task: Part, target: Path) -> Facts:
    """Write a part's rows with its features of what all had said before, dealt out by users."""
    config = task.desk.config()
    frame = with_split(pl.read_parquet(task.file), task)
    log = _log(frame, task.scale)
    earlier = None if task.earlier is None else load_totals(task.earlier)
    found = heard(log, _keys(log, task.desk, config, by_user=False), config.counts, earlier)
    extra = {"value": log.values, "average": found.average, ABOVE: found.above}
    columns = [pl.Series(f"{name} {place}", v) for name, of in extra.items() for place, v in enumerate(of.T)]
    columns += [pl.Series(name, v) for name, v in zip(SHOWN, found.popularity.T, strict=True)]
    columns += [pl.Series(f"{FEATURE}{name}", v) for name, v in found.columns.items()]
    rows = np.arange(task.start, task.start + frame.height)
    crowd = (frame["user"] % task.desk.cut.crowds).cast(pl.Int32)
    frame = frame.drop("sample").with_columns(pl.Series(ROW, rows), crowd.alias(CROWD), *columns)
    write_sorted(frame, CROWD, task.desk.cut.crowds, target)
    told = frame.group_by(SPLIT).agg(rows=pl.len(), liked=pl.col(LABEL).cast(pl.Int64).sum())
    return {kind: dict(zip(told[SPLIT], told[kind], strict=True)) for kind in ("rows", "liked")}


def with_split(frame: pl.DataFrame, task: Part) -> pl.DataFrame:
    """A part's rows with SPLIT; see `split_log`."""
    place = pl.col(TIME) if task.by_seconds else pl.col("sample").cast(pl.Int64).cum_sum() - 1 + task.samples
    late = pl.when(place < task.cuts[1]).then(pl.lit("valid")).otherwise(pl.lit("test"))
    part = pl.when(place < task.cuts[0]).then(pl.lit("train")).otherwise(late)
    return frame.with_columns(pl.when("sample").then(part).otherwise(pl.lit("history")).alias(SPLIT))


@dataclass(frozen=True)
class Own:
    """A part of the users."""

    desk: Desk
    files: tuple[Path, ...]
    """Of `all_said`."""
    number: int
    space: Path | None
    """Where the items' texts lie; None where they are not read."""


def own_said(task: Own, target: Path) -> Facts:
    """Write features of what the rows' users had said before, and residuals, in the order of the log."""
    config = task.desk.config()
    names = pl.read_parquet_schema(task.files[0])
    extra = [name for name in names if name.split()[0] in ("value", "average", ABOVE)]
    read = [ROW, "user", "item", SPLIT, *([TIME] if TIME in names else []), *extra]
    frame = read_between(task.files, CROWD, task.number, task.number + 1, read).sort(ROW)
    train = pl.col(SPLIT) == "train"
    learned = train | ((pl.col(SPLIT) == "history") & train.any().over("user"))
    values, average, above = (_together(frame, kind) for kind in ("value", "average", ABOVE))
    ones = np.ones(frame.height, np.int64)
    user, item = (frame[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    taught = frame.select(learned).to_series().to_numpy().astype(np.int64)
    log = Log(user, item, times_of(frame), values, ones, ones, taught)
    others = Heard({}, average, above, np.zeros((0, 2), np.int64))
    found = own(log, _keys(log, task.desk, config, by_user=True), config.counts, others)
    made = frame.select(ROW, "user", "item").with_columns(pl.Series(f"{FEATURE}{n}", v) for n, v in found.items())
    told = own_answers(log, config.counts, above[:, -1])
    made = made.with_columns(
        pl.Series("residual", told.residual), pl.Series("taught", told.taught), pl.Series("learned", taught)
    )
    if task.space is not None:
        made = made.with_columns(own_texts(log, told.residual, average[:, 0], task.space, config.text.history))
    write_sorted(made, ROW, task.desk.cut.parts, target)
    return {"rows": made.height}


def _together(frame: pl.DataFrame, kind: str) -> np.ndarray:
    columns = [name for name in frame.columns if name.split()[0] == kind]
    return frame.select(columns).to_numpy().astype(np.float64)


def _log(frame: pl.DataFrame, scale: RatingScale | None) -> Log:
    """All rows known, for no test of `data.parts` hides any."""
    ones = np.ones(frame.height, np.int64)
    user, item = (frame[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    return Log(user, item, times_of(frame), answer_values(frame, scale), ones, ones, ones)


def _keys(log: Log, desk: Desk, config: DataConfig, by_user: bool) -> list[Keys]:
    groups = [group for group in config.counts.groups if ("user" in group) is by_user]
    counts = config.counts.model_copy(update={"groups": groups})
    users, items = desk.catalogue(config)
    return group_keys(log.user, log.item, users, items, config.model_copy(update={"counts": counts}))

"""Stages two and three: repeated answers of a user are dropped, and all rows are put into their order."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from corella.columns import USER
from corella.data.parts.frames import CROWD, ROW, SLOT, Desk, read_between, write_sorted
from corella.data.parts.reading import KEY, crowd_of
from corella.tasks.once import Facts


@dataclass(frozen=True)
class Crowd:
    """A part of the users."""

    desk: Desk
    files: tuple[Path, ...]
    """Of the stage before."""
    number: int
    cuts: tuple[float, ...]
    """Where the parts of the log begin, but the first, by what orders it."""


def by_user(task: Crowd, target: Path) -> Facts:
    """Write the rows of a part of the users, once each, with the users' codes; the samples among them are marked."""
    config = task.desk.config()
    rows = read_between(task.files, CROWD, task.number, task.number + 1, None).sort(KEY, ROW)
    users = pl.scan_parquet(task.desk.users, glob=False).select(USER).with_row_index("user")
    mine = users.filter(crowd_of(pl.col(USER), task.desk.cut.crowds) == task.number).collect()
    rows = rows.join(mine, on=USER, how="left", maintain_order="left").drop(USER, CROWD)
    repeated, first = 0, -1
    if config.duplicates != "keep":
        pair = pl.struct("user", "item")
        again = rows.filter(~(pair.is_last_distinct() if config.duplicates == "last" else pair.is_first_distinct()))
        repeated, first = again.height, int(again[ROW].min() or 0) if again.height else -1  # type: ignore[arg-type]
        rows = rows.filter(~pl.col(ROW).is_in(again[ROW].implode())) if repeated else rows
    tied = int(rows.select(pl.struct("user", KEY).is_duplicated().sum()).item())
    rows = rows.with_columns(
        (pl.int_range(pl.len()).over("user") >= config.split.min_history).alias("sample"),
        pl.Series(SLOT, np.searchsorted(np.array(task.cuts), rows[KEY].to_numpy(), side="right").astype(np.int32)),
    )
    write_sorted(rows, SLOT, task.desk.cut.parts, target)
    return {"rows": rows.height, "repeated": repeated, "first": first, "tied": tied}


@dataclass(frozen=True)
class Slot:
    """A part of the log's time."""

    files: tuple[Path, ...]
    number: int


def in_order(task: Slot, target: Path) -> Facts:
    """Write the rows of a part in the order of the log."""
    rows = read_between(task.files, SLOT, task.number, task.number + 1, None).sort(KEY, ROW)
    last = rows[KEY][-1] if rows.height else None
    rows = rows.drop(ROW, SLOT, KEY)
    rows.write_parquet(target, compression="lz4")
    return {"rows": rows.height, "samples": int(rows["sample"].sum()), "last": last}

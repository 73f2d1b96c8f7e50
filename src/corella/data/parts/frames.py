"""Files between the stages: rows sorted by what the next stage asks for, so that it reads its own rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from corella.arrays import load_arrays, save_arrays
from corella.columns import USER
from corella.config import DataConfig
from corella.data.parts.cut import Cut
from corella.features.everyone import Tally, Totals
from corella.features.ratings import RatingScale
from corella.files import read_value

_GROUP = 8192
"""Rows at least that are read together."""
ROW, CROWD, SLOT = "row", "crowd", "slot"
"""The row's place in the files, later in the log; the part of its user; the part of its time."""


@dataclass(frozen=True)
class Desk:
    """What every task needs."""

    settings: Path
    users: Path
    """Parquet: the users' codes, ids and fields."""
    items: Path
    cut: Cut

    def config(self) -> DataConfig:
        """The settings of the data."""
        return read_value(self.settings, DataConfig)

    def catalogue(self, config: DataConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Users and items with what count groups read of them."""
        keys = {key for group in config.counts.groups for key in group}
        users = [USER, *(name for name in pl.read_parquet_schema(self.users) if name in keys and name != USER)]
        return pl.read_parquet(self.users, columns=users), pl.read_parquet(self.items)


@dataclass(frozen=True)
class State:
    """Where a log ends that may be continued."""

    rows: int
    last: float
    """Exact time of its last row."""
    scale: RatingScale | None


def write_sorted(frame: pl.DataFrame, by: str, parts: int, path: Path) -> None:
    """Write rows sorted by a column; `parts`: how many readers share them."""
    group = max(_GROUP, frame.height // max(parts, 1))
    frame.sort(by, maintain_order=True).write_parquet(path, row_group_size=group, compression="lz4")


def read_between(files: Sequence[Path], by: str, first: int, end: int, columns: Sequence[str] | None) -> pl.DataFrame:
    """The rows of files of `write_sorted` whose column lies from `first` to before `end`, file by file; `columns`:
    which are read, None: all."""
    rows = pl.scan_parquet(list(files), glob=False).filter(pl.col(by).is_between(first, end, closed="left"))
    return (rows if columns is None else rows.select(columns)).collect()


def save_totals(totals: Totals, path: Path) -> None:
    """Write `Totals`."""
    tallies = {"item": totals.item, "moment": totals.moment}
    tallies |= {f"group {n}": tally for n, tally in enumerate(totals.groups)}
    arrays: dict[str, np.ndarray] = {"whole": totals.whole}
    for name, tally in tallies.items():
        arrays |= {f"{name} code": tally.code, f"{name} total": tally.total}
    save_arrays(path, arrays)


def load_totals(path: Path) -> Totals:
    """Read what `save_totals` wrote."""
    found = load_arrays(path)

    def tally(name: str) -> Tally:
        return Tally(found[f"{name} code"], found[f"{name} total"])

    groups = sum(name.startswith("group") for name in found) // 2
    return Totals(found["whole"], tuple(tally(f"group {n}") for n in range(groups)), tally("item"), tally("moment"))

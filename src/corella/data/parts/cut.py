"""Into how many parts a log is cut, and which settings can be kept then."""

import math
from dataclasses import dataclass
from pathlib import Path

from corella.columns import TIME
from corella.config import DataConfig
from corella.config.data import CLICKS
from corella.errors import UserError

_GIB = 1 << 30
_LIBRARIES = 0.35 * _GIB
"""Bytes that a process takes before it reads a row."""
_ROW, _PAIR = 1600, 140
"""Bytes at most that a row takes while its part is at work, and a pair of answers."""
_UNEVEN = 1.25
"""How much larger than the others the largest part of the users may be."""
_LEAST = 1000


@dataclass(frozen=True)
class Cut:
    """Sizes of the parts."""

    rows: int
    """Of a part at most."""
    parts: int
    """In the order of time."""
    crowds: int
    """Parts of the users, all rows of a user in one."""
    slices: int
    """Into how many tasks a crowd is cut where answers are paired."""
    pairs: int
    """Parts of the pairs of items."""


def cut(rows: int, config: DataConfig, processes: int) -> Cut:
    """The parts of a log of so many rows, so that `processes` at once stay within `data.memory`."""
    room = (config.memory or math.inf) * _GIB / max(processes, 1) - _LIBRARIES
    if room < _LEAST * _ROW:
        raise UserError(
            f"data.memory: {config.memory or 0:g} GiB for {max(processes, 1)} processes is too little: the "
            f"libraries of each take {_LIBRARIES / _GIB:.2g} GiB; give more, or fewer workers"
        )
    part = int(min(room / _ROW, max(rows, 1)))
    crowds = max(1, math.ceil(_UNEVEN * rows / part))
    paired = rows * config.counts.neighbours * _PAIR / room
    return Cut(part, max(1, math.ceil(rows / part)), crowds, math.ceil(paired / crowds) or 1, math.ceil(paired) or 1)


def refuse(config: DataConfig) -> None:
    """Raise `UserError` for settings that need the whole log in memory."""
    split, interactions = config.split, config.interactions
    wrong = {
        "data.source": config.source != "tables",
        "data.split: only `by: time` without `within`": split.by != "time" or split.within is not None,
        "data.order": config.order not in ([], [TIME]),
        "data.split.dates beside data.order: []": split.dates is not None and not config.order,
        "data.core": config.core > 0,
        "data.max_rows": config.max_rows is not None,
        "data.only_likes": config.only_likes,
        "data.strict_time": config.strict_time,
        "data.counts.frozen": config.counts.frozen is True,
        f"data.label: {CLICKS}": config.label == CLICKS,
        "data.interactions.uri": interactions is not None and interactions.uri is not None,
        "data.interactions.lists": interactions is not None and bool(interactions.lists),
    }
    found = [name for name, is_wrong in wrong.items() if is_wrong]
    if found:
        raise UserError(
            f"with data.memory the log is prepared in parts, which these settings need whole: {'; '.join(found)}; "
            "change them, or leave data.memory out"
        )


def parquet_only(files: list[Path]) -> None:
    """Raise `UserError` for a file of interactions that is no Parquet."""
    for file in files:
        if file.suffix.lower() != ".parquet":
            raise UserError(
                f"{file}: with data.memory interactions are .parquet files; `polars.scan_csv(...).sink_parquet(...)` "
                "makes one of a text file without holding it in memory"
            )

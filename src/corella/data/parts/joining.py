"""The last stage: a part of the prepared log, with everything that is known of its rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from corella.columns import ITEM, LABEL, RATING, SPLIT, TIME, USER
from corella.data.parts.counting import ABOVE, FEATURE, SHOWN
from corella.data.parts.frames import ROW, Desk, read_between
from corella.data.parts.pairing import TERMS
from corella.data.parts.texts import TEXT
from corella.features.counts import feature_names
from corella.features.neighbours import NAMES
from corella.tasks.once import Facts


@dataclass(frozen=True)
class Joining:
    """A part of the log."""

    desk: Desk
    file: Path
    """Of `all_said`."""
    own: tuple[Path, ...]
    near: tuple[Path, ...]
    """Of `gather`."""
    start: int
    end: int
    """Rows of the log, from `start` to before `end`."""
    rated: bool
    texts: Path | None
    """Of `EverybodysTexts`; None where texts are not read."""


def join(task: Joining, target: Path) -> Facts:
    """Write the columns of a prepared log."""
    config = task.desk.config()
    frame = pl.read_parquet(task.file).sort(ROW)
    own = read_between(task.own, ROW, task.start, task.end, None).sort(ROW)
    features = {name: own[name] for name in own.columns if name.startswith(FEATURE)}
    features |= {name: frame[name] for name in frame.columns if name.startswith(FEATURE)}
    if config.counts.neighbours:
        features |= _near(task, config.counts.smoothing)
    names = [f"{FEATURE}{name}" for name in feature_names(config.counts, task.rated)]
    users, items = (
        pl.read_parquet(path, columns=[id_]) for path, id_ in ((task.desk.users, USER), (task.desk.items, ITEM))
    )
    made = frame.select(
        users[USER].gather(frame["user"]), items[ITEM].gather(frame["item"]),
        *(name for name in (LABEL, SPLIT, RATING, TIME) if name in frame.columns),
        pl.col("user", "item").cast(pl.Int64), *SHOWN,
    )  # fmt: skip
    if task.texts is not None:
        told = pl.read_parquet(task.texts)
        columns = {**{name: own[name] for name in own.columns}, **{name: told[name] for name in told.columns}}
        texts = {name: column for name, column in columns.items() if name.startswith(TEXT)}
        features |= texts
        names += texts
    above = frame.select(pl.col(f"^{ABOVE} .*$")).get_columns() if config.split.dates is not None else []
    made.with_columns(*(features[name].alias(name) for name in names), *above).write_parquet(target)
    return {"rows": made.height}


def _near(task: Joining, smoothing: float) -> dict[str, pl.Series]:
    found = read_between(task.near, ROW, task.start, task.end, None)
    place = found[ROW].to_numpy() - task.start
    agreement, total, together = (
        np.bincount(place, weights=found[name].to_numpy(), minlength=task.end - task.start) for name in TERMS
    )
    columns = (agreement, total / (together + smoothing))
    return {
        f"{FEATURE}{name}": pl.Series(column.astype(np.float32)) for name, column in zip(NAMES, columns, strict=True)
    }

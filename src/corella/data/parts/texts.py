"""What texts make of the rows, in parts: the user's own interactions by parts of the users; everybody's in the order of
the log, one part after the other, for what they add up to is carried along."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import long_texts
from corella.config import DataConfig
from corella.data.parts.frames import ROW, Desk, read_between, write_sorted
from corella.data.store import SPACE, TEXTS
from corella.features.log import Log
from corella.features.text.batch import BLOCK, Said, others_part, own_part
from corella.features.text.everybody import Everybody
from corella.features.text.items import read_items
from corella.features.text.kernels import text_names
from corella.features.text.space import Places, TextSpace, fit_space
from corella.progress import Reporter
from corella.tasks.once import Facts

Doubles = npt.NDArray[np.float64]

TEXT = "text:"
"""What names of text features begin with in files."""


def read_texts(items: pl.DataFrame, config: DataConfig, folder: Path, reporter: Reporter | None) -> Path | None:
    """Read the items' texts once and write where they lie; None where texts are not read."""
    space = folder / SPACE
    if config.text.encoder == "none":
        return None
    if not (space.is_file() and (folder / TEXTS).is_file()):
        texts = read_items(long_texts(items), config.text, reporter)
        assert texts is not None  # noqa: S101
        texts.save(folder / TEXTS)
        fit_space(texts.vectors, config.text.width, config.text.neighbours).save(space)
    return space


def own_texts(log: Log, residual: Doubles, average: Doubles, space: Path, last: int) -> list[pl.Series]:
    """Text features of what the rows' users had said before, for all rows of a part of the users."""
    places = TextSpace.load(space).with_unknown
    said = Said(log, last)
    rows = np.arange(len(log.user))
    blocks = [
        own_part(log, residual, average, places, said, rows[start : start + BLOCK]).astype(np.float32)
        for start in range(0, len(rows), BLOCK)
    ]
    names = text_names(places.vectors.shape[1])
    columns = np.concatenate(blocks).T if blocks else ()
    return [pl.Series(f"{TEXT}{name}", column) for name, column in zip(names, columns, strict=False)]


@dataclass(frozen=True)
class Telling:
    """A part of the log."""

    desk: Desk
    file: Path
    """Of `all_said`."""
    own: tuple[Path, ...]
    start: int
    end: int
    """Rows of the log, from `start` to before `end`."""


class EverybodysTexts:
    """Writes parts in the order of the log."""

    def __init__(self, parts: list[Telling], space: Path, users: int, config: DataConfig) -> None:
        self._parts, self._config = parts, config
        self._places: Places = TextSpace.load(space).with_unknown
        self._everybody = Everybody(users, self._places.vectors, apart=False)
        self._read = 0
        """Parts that were read."""

    def write(self, task: Telling, target: Path) -> Facts:
        """Write a part's text features of what everybody had said. Parts before it that this process has not read,
        since they were written before a kill, are read first."""
        while self._parts[self._read] != task:
            self._follow(self._parts[self._read])
        frame = self._told(task)
        log, average = self._log(frame), frame["average 0"].to_numpy()
        residual = frame["residual"].to_numpy()
        self._everybody.follow(log, residual, residual)
        blocks = []
        for start in range(0, len(log.user), BLOCK):
            block = (start, min(start + BLOCK, len(log.user)))
            smoothing = self._config.counts.smoothing
            found = others_part(self._everybody, log, average, self._places, smoothing, block, np.arange(*block))
            blocks.append(found.astype(np.float32))
        self._read += 1
        names = text_names(self._places.vectors.shape[1])
        columns = np.concatenate(blocks).T if blocks else np.zeros((len(names), 0), np.float32)
        named = {f"{TEXT}{n}": c for n, c in zip(names[len(names) - len(columns) :], columns, strict=True)}
        write_sorted(pl.DataFrame({ROW: frame[ROW], **named}), ROW, 1, target)
        return {"rows": frame.height}

    def _follow(self, part: Telling) -> None:
        frame = self._told(part)
        residual = frame["residual"].to_numpy()
        self._everybody.follow(self._log(frame), residual, residual)
        for start in range(0, frame.height, BLOCK):
            self._everybody.read(start, min(start + BLOCK, frame.height))
        self._read += 1

    def _told(self, part: Telling) -> pl.DataFrame:
        frame = pl.read_parquet(part.file, columns=[ROW, "user", "item", "value 0", "average 0"]).sort(ROW)
        left = read_between(part.own, ROW, part.start, part.end, [ROW, "residual"]).sort(ROW)
        return frame.with_columns(left["residual"])

    def _log(self, frame: pl.DataFrame) -> Log:
        ones = np.ones(frame.height, np.int64)
        user, item = (frame[name].to_numpy().astype(np.int64) for name in ("user", "item"))
        return Log(user, item, ones, frame["value 0"].to_numpy()[:, None], ones, ones, ones)

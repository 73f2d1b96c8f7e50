"""Features of a log's rows that stay on disk, in its parts, until they are asked for.

Whoever takes some of them gets a view; numpy reads the rows of a view when it needs them. Parts that were read lately
are kept, and `mixed` is an order for training in which few parts are needed at a time: parts come in random order,
some of them together, their rows mixed; those that come next are read meanwhile.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_BLOCK = 65_536


class Parts:
    """Some columns of the parts of a log."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str], most_bytes: float) -> None:
        """`most_bytes`: of parts in memory; four of them at least."""
        self.columns = list(columns)
        self._files = list(files)
        heights = [int(pl.scan_parquet(file, glob=False).select(pl.len()).collect().item()) for file in files]
        self.start: Ints = np.r_[0, np.cumsum(heights)].astype(np.int64)
        """[parts + 1]: where each part's rows begin."""
        largest = max(heights, default=1) * len(self.columns) * 4
        self._together = max(2, int(most_bytes / max(largest, 1) / 2))
        """Parts whose rows are mixed; as many are read ahead."""
        self._kept: OrderedDict[int, Future[Floats]] = OrderedDict()
        self._reader = ThreadPoolExecutor(1, "parts")
        self._next: dict[int, list[int]] = {}
        """Of a part, those that come after it and the parts mixed with it."""

    @property
    def folder(self) -> Path:
        """Of the files."""
        return self._files[0].parent

    def take(self, rows: Ints) -> Floats:
        """float32 [rows, columns]."""
        found = np.empty((len(rows), len(self.columns)), np.float32)
        part = np.searchsorted(self.start, rows, side="right") - 1
        for n in np.unique(part).tolist():
            here = np.flatnonzero(part == n)
            found[here] = self._read(n).result()[rows[here] - self.start[n]]
            for following in self._next.get(n, ()):
                self._read(following)
        return found

    def mixed(self, rows: Ints, rng: np.random.Generator) -> Ints:
        """Places of `rows` in an order for one pass over them."""
        part = np.searchsorted(self.start, rows, side="right") - 1
        parts = rng.permutation(np.unique(part))
        windows = [parts[first : first + self._together] for first in range(0, len(parts), self._together)]
        self._next = {int(n): later.tolist() for now, later in pairwise(windows) for n in now}
        by_part = np.argsort(part, kind="stable")
        begin, end = (np.searchsorted(part[by_part], parts, side=side) for side in ("left", "right"))
        order, place = [np.zeros(0, np.int64)], 0
        for window in windows:
            mine = [by_part[begin[n] : end[n]] for n in range(place, place + len(window))]
            order.append(rng.permutation(np.concatenate(mine)))
            place += len(window)
        return np.concatenate(order)

    def _read(self, part: int) -> Future[Floats]:
        if part not in self._kept:
            self._kept[part] = self._reader.submit(_columns, self._files[part], self.columns)
        self._kept.move_to_end(part)
        while len(self._kept) > 2 * self._together:
            self._kept.popitem(last=False)
        return self._kept[part]


def _columns(file: Path, columns: list[str]) -> Floats:
    return pl.read_parquet(file, columns=columns, glob=False).to_numpy().astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class OnDisk:
    """Rows of `Parts`, as an array that numpy reads when it needs it."""

    parts: Parts
    rows: Ints

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.parts.columns)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> "OnDisk":
        return OnDisk(self.parts, self.rows[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        found = self.parts.take(self.rows)
        return found if dtype is None else found.astype(dtype, copy=False)


Features = Floats | OnDisk
"""Of samples: held in memory, or on disk."""


def held(features: Features) -> Floats:
    """In memory, float32 [n, columns]."""
    return np.asarray(features)


def blocks(features: Features) -> Iterator[Floats]:
    """The same, some rows at a time."""
    for first in range(0, max(len(features), 1), _BLOCK):
        yield held(features[first : first + _BLOCK])


def mixed(features: Features, rng: np.random.Generator) -> Ints:
    """The order of one pass of training: any, of features in memory."""
    if isinstance(features, OnDisk):
        return features.parts.mixed(features.rows, rng)
    return rng.permutation(len(features))

"""The ordered log as arrays, and keys of its rows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from corella.features.grouping import Grouped, grouped

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEVER = np.iinfo(np.int64).min
"""No time at all."""


@dataclass(frozen=True)
class Keys:
    """Keys of one group: entry e says that row `row[e]` has key `code[e]`."""

    name: str
    row: Ints
    """Ascending; no key comes twice in a row, or a row would count its own answer."""
    code: Ints
    by_user: bool
    """Whether the user is part of the key; such counts stay up to date where others are frozen."""
    rows: int
    """Of the log; a row may have no key, and several."""

    def before(self, values: Ints | Doubles) -> Doubles:
        """For every row the sum of the values of its keys' earlier rows, float64 [rows]."""
        return self.by_row(self.grouped.before(values[self.row]))

    def by_row(self, entries: Doubles) -> Doubles:
        """For every row the sum of its entries, float64 [rows]."""
        if self._one_each:
            return entries
        return np.asarray(np.bincount(self.row, weights=entries, minlength=self.rows), dtype=np.float64)

    @cached_property
    def _one_each(self) -> bool:
        return len(self.row) == self.rows and bool((self.row == np.arange(self.rows)).all())

    @cached_property
    def grouped(self) -> Grouped:
        """The entries, key by key."""
        return grouped(self.code)


@dataclass(frozen=True)
class Log:
    """The ordered log as arrays, one entry a row. `known`: 0 where nobody may count the answer (a query)."""

    user: Ints
    item: Ints
    time: Ints
    values: Doubles
    """[rows, 1 or 2]: the answer, 0 or 1, and, where ratings are counted, the rating, from 0 to 1, on the grid."""
    known: Ints
    shared: Ints
    """1 where groups without the user may count the row too (fewer than `known` if counts are frozen)."""
    learned: Ints
    """1 for training rows and the histories of their users: what neighbours are learned from."""

    @cached_property
    def by_user(self) -> Grouped:
        """Rows of each user."""
        return grouped(self.user)

    @cached_property
    def by_item(self) -> Grouped:
        """Rows of each item."""
        return grouped(self.item)


def latest_before(by_key: Grouped, time: Ints, known: Ints) -> Ints:
    """The time of the key's last known row before each row, int64 [rows]; `NEVER` where there is none."""
    order = by_key.order
    position = np.where(known[order] == 1, np.arange(len(order)), -1)
    latest = np.r_[-1, np.maximum.accumulate(position)[:-1]] if len(order) else position
    moment = time[order]
    found: Ints = by_key.back(np.where(latest >= by_key.begin, moment[np.maximum(latest, 0)], NEVER))
    return found


def log_seconds(latest: Ints, time: Ints) -> Doubles:
    """log(1 + seconds since `latest`); -1 where that is `NEVER`."""
    there = latest != NEVER
    return np.where(there, np.log1p(np.maximum(time - np.where(there, latest, time), 0)), -1.0)

"""Count features of what all users said: of keys without the user.

A log may be read in parts: `totals` of the parts before make up for them, and since all that is summed stands on a
grid, the features are the same to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig
from corella.features.grids import VALUE, on_grid
from corella.features.log import NEVER, Keys, Log, latest_before, log_seconds

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """Totals by key."""

    code: Ints
    """Ascending."""
    total: Doubles
    """[keys, width]"""

    @classmethod
    def of(cls, code: Ints, values: Doubles) -> "Tally":
        """Sum the values [n, width] of equal codes."""
        known, place = np.unique(code, return_inverse=True)
        sums = [np.bincount(place, weights=column, minlength=len(known)) for column in values.T]
        return cls(known, np.stack(sums, axis=1).astype(np.float64) if sums else np.zeros((len(known), 0)))

    def __call__(self, code: Ints) -> Doubles:
        """The totals of keys, float64 [n, width]; 0 of those that are not there."""
        if not len(self.code):
            return np.zeros((len(code), self.total.shape[1]))
        place = np.minimum(np.searchsorted(self.code, code), len(self.code) - 1)
        return np.asarray(self.total[place] * (self.code[place] == code)[:, None])

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally.of(np.r_[self.code, other.code], np.concatenate([self.total, other.total]))


@dataclass(frozen=True)
class Totals:
    """What all had said before a row."""

    whole: Doubles
    """[1 + values]: number of answers, sum of each value."""
    groups: tuple[Tally, ...]
    """Of each group without the user: the same by key."""
    item: Tally
    """The same by item."""
    moment: Tally
    """[items, 2]: a one, and the time of the item's last answer."""

    @classmethod
    def of(cls, log: Log, keys: Sequence[Keys]) -> "Totals":
        """Those of all rows of a log; `keys` without the user."""
        said = np.concatenate([np.ones((len(log.user), 1)), log.values], axis=1) * log.shared[:, None].astype(
            np.float64
        )
        rows = np.flatnonzero(log.shared)
        item = log.item[rows]
        last = np.unique(item[::-1], return_index=True)
        return cls(
            said.sum(axis=0),
            tuple(Tally.of(group.code, said[group.row]) for group in keys),
            Tally.of(item, said[rows]),
            Tally(last[0], np.stack([np.ones(len(last[0])), log.time[rows[::-1][last[1]]]], axis=1)),
        )

    def then(self, later: "Totals") -> "Totals":
        """Those of this log with a later one behind it."""
        old = ~np.isin(self.moment.code, later.moment.code)
        times = Tally(self.moment.code[old], self.moment.total[old]).plus(later.moment)
        groups = tuple(mine.plus(theirs) for mine, theirs in zip(self.groups, later.groups, strict=True))
        return Totals(self.whole + later.whole, groups, self.item.plus(later.item), times)


@dataclass(frozen=True)
class Heard:
    """What all had said before each row of a log."""

    columns: dict[str, Floats]
    """Features by name."""
    average: Doubles
    """[rows, values]: the mean of each value, starting from a 1 and a 0; of clicks, which have no other value, 0."""
    above: Doubles
    """[rows, values]: each value less the item's mean at the time, on the grid; 0 where the answer is not known."""
    popularity: Ints
    """[rows, 2]: answers and positive answers of the row's item."""


def heard(log: Log, keys: Sequence[Keys], config: CountsConfig, earlier: Totals | None = None) -> Heard:
    """Features of every row from the groups without the user; `earlier`: the totals of all rows before the log."""
    k, said = config.smoothing, [log.shared, *(log.shared * value for value in log.values.T)]
    average = averages(log, config, earlier)
    columns: dict[str, Floats] = {}
    for place, group in enumerate(keys):
        known = None if earlier is None else earlier.groups[place](group.code)
        tallied = [group.before(values) for values in said]
        if known is not None:
            tallied = [t + group.by_row(more) for t, more in zip(tallied, known.T, strict=True)]
        columns[f"{group.name}_answers"] = np.log1p(tallied[0]).astype(np.float32)
        for name, total, mean in zip(("share", "rating"), tallied[1:], average.T, strict=False):
            columns[f"{group.name}_{name}"] = ((total + k * mean) / (tallied[0] + k)).astype(np.float32)
    answers, *totals = (log.by_item.before(values) for values in said)
    latest = latest_before(log.by_item, log.time, log.shared)
    if earlier is not None:
        more = earlier.item(log.item)
        answers, totals = answers + more[:, 0], [t + m for t, m in zip(totals, more[:, 1:].T, strict=True)]
        there, moment = earlier.moment(log.item).T
        latest = np.where((latest == NEVER) & (there > 0), moment.astype(np.int64), latest)
    columns["item_log_seconds"] = log_seconds(latest, log.time).astype(np.float32)
    expected = [(total + k * mean) / (answers + k) for total, mean in zip(totals, average.T, strict=True)]
    above = on_grid((log.values - np.stack(expected, axis=1)) * log.known[:, None], VALUE)
    popularity = np.stack([answers, totals[0]], axis=1).astype(np.int64)
    return Heard(columns, average, above, popularity)


def averages(log: Log, config: CountsConfig, earlier: Totals | None = None) -> Doubles:
    """`Heard.average`, float64 [rows, values]."""
    if config.clicks:
        return np.zeros(log.values.shape)
    whole = np.zeros(1 + log.values.shape[1]) if earlier is None else earlier.whole
    shared = log.shared[:, None]
    answers = np.cumsum(shared, axis=0) - shared + whole[0]
    said = log.values * shared
    return np.asarray((np.cumsum(said, axis=0) - said + whole[1:] + 1.0) / (answers + 2.0))


def above_expected(log: Log, config: CountsConfig) -> Doubles:
    """`Heard.above`, float64 [rows, values]."""
    return heard(log, [], config).above

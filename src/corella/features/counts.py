"""Count features: what was known of a key (user, item, user x genre) strictly before each row.

Two ways to the same numbers: `batch_counts` in one vectorised pass over the ordered log, and `CountState`,
kept up to date one event at a time (serving), but for what it is given of neighbours. A property test holds them equal.

For a group, a row's keys are the values of its columns (one list column multiplies them). With n answers and
s positives of all its keys before the row, and the running average answer r, the features are log(1+n) and
(s + k r) / (n + k). The user's bias is the smoothed mean of what each of the user's answers was above the share of
positives that its item had at the time: who likes what everybody likes is not easily pleased. Where the answers have
ratings, the same means are taken of them too: they say how much something was liked. What is left of an answer then,
its residual, speaks for items that the same users answered, see `neighbours.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig
from corella.features.grouping import Grouped, grouped
from corella.features.neighbours import NAMES as NEIGHBOURS
from corella.features.neighbours import Answers, PairTable, neighbour_features, on_grid

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


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
        said = self._grouped.before(values[self.row])
        if self._one_each:
            return said
        return np.asarray(np.bincount(self.row, weights=said, minlength=self.rows), dtype=np.float64)

    @cached_property
    def _one_each(self) -> bool:
        return len(self.row) == self.rows and bool((self.row == np.arange(self.rows)).all())

    @cached_property
    def _grouped(self) -> Grouped:
        return grouped(self.code)


def feature_names(config: CountsConfig, rated: bool) -> list[str]:
    """Names of the features, in the order of the columns; `rated`: with those of the ratings."""
    groups = ["_x_".join(group) for group in config.groups]
    names = [f"{group}_{what}" for group in groups for what in ("answers", "share")]
    names += [f"user_last_{k}_share" for k in config.last]
    names += ["user_bias", "user_log_seconds", "item_log_seconds"]
    if rated:
        names += [f"{group}_rating" for group in groups]
        names += [f"user_last_{k}_rating" for k in config.last]
        names.append("user_rating_bias")
    return names + list(NEIGHBOURS if config.neighbours else ())


@dataclass(frozen=True)
class Log:
    """The ordered log as arrays, one entry a row. `known`: 0 where nobody may count the answer (a query)."""

    user: Ints
    item: Ints
    time: Ints
    values: Doubles
    """[rows, 1 or 2]: the answer, 0 or 1, and, where ratings are counted, the rating, from 0 to 1."""
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


def running_average(value: Doubles, known: Ints, clicks: bool = False) -> Doubles:
    """The mean of a value before each row, starting from a 1 and a 0; of clicks, which have no other value, 0."""
    if clicks:
        return np.zeros(len(value))
    answers = np.cumsum(known) - known
    total = np.cumsum(value * known) - value * known
    return np.asarray((total + 1.0) / (answers + 2.0))


def batch_counts(log: Log, keys: Sequence[Keys], config: CountsConfig, pairs: PairTable | None = None) -> Floats:
    """Features of every row, float32 [rows, len(feature_names)]. With `pairs`, what all learned rows say of neighbours,
    those of the neighbours are right for queries behind all learned rows alone: a log need not be learned again."""
    columns: list[Floats] = []

    def add(*found: Doubles) -> None:
        columns.extend(column.astype(np.float32) for column in found)

    known = [log.known if group.by_user else log.shared for group in keys]
    numbers = [group.before(counted) for group, counted in zip(keys, known, strict=True)]
    above = np.zeros(0)
    for place, value in enumerate(log.values.T):
        average = running_average(value, log.shared, config.clicks)
        for group, counted, answers in zip(keys, known, numbers, strict=True):
            if place == 0:
                add(np.log1p(answers))
            total = group.before(counted * value)
            add((total + config.smoothing * average) / (answers + config.smoothing))
        above = above_expected(log, value, config)
        add(*_recent(log, value, average, config), _user_bias(log, above, log.known, config))
        if place == 0:
            add(_log_seconds(log.by_user, log.time, log.known), _log_seconds(log.by_item, log.time, log.shared))
    if config.neighbours and pairs is None:
        add(*neighbour_features(_answers(log, config, above), config.neighbours, config.smoothing))
    elif config.neighbours and pairs is not None:
        queries, found = np.flatnonzero(log.known == 0), np.zeros((len(log.user), 2))
        found[queries] = pairs.rows(_answers(log, config, above), queries, config.neighbours, config.smoothing)
        add(*found.T)
    return np.stack(columns, axis=1)


def before(code: Ints, value: Doubles, known: Ints) -> tuple[Doubles, Doubles]:
    """Number of answers and total of a value of each row's key before the row; float64 [rows] each."""
    by_key = grouped(code)
    return by_key.before(known), by_key.before(known * value)


def _recent(log: Log, value: Doubles, average: Doubles, config: CountsConfig) -> list[Doubles]:
    """Smoothed mean of a value over the user's last k answers."""
    order, first = log.by_user.order, log.by_user.begin
    known = log.known[order]
    answers = np.cumsum(known) - known
    total = np.r_[0, np.cumsum(value[order][known == 1])]
    columns = []
    for k in config.last:
        begin = np.maximum(answers - k, answers[first])
        mean = (total[answers] - total[begin] + average[order]) / (answers - begin + 1.0)
        columns.append(log.by_user.back(mean))
    return columns


def above_expected(log: Log, value: Doubles, config: CountsConfig) -> Doubles:
    """A value of every row less the item's mean at the time; 0 where the answer is not known."""
    answers, total = log.by_item.before(log.shared), log.by_item.before(log.shared * value)
    average = running_average(value, log.shared, config.clicks)
    expected = (total + config.smoothing * average) / (answers + config.smoothing)
    return np.asarray((value - expected) * log.known, dtype=np.float64)


def _user_bias(log: Log, above: Doubles, known: Ints, config: CountsConfig) -> Doubles:
    """Smoothed mean of what the user's earlier `known` answers were above their items' means then; of clicks 0."""
    if config.clicks:
        return np.zeros(len(log.user))
    return log.by_user.before(above * known) / (log.by_user.before(known) + config.smoothing)


def residuals(log: Log, config: CountsConfig) -> Answers:
    """What is left of every known answer (of its rating, where ratings are counted) without the item's mean and the
    user's bias at the time."""
    return _answers(log, config, above_expected(log, log.values[:, -1], config))


def _answers(log: Log, config: CountsConfig, above: Doubles) -> Answers:
    left, taught = (_left(log, known, config, above) for known in (log.known, log.learned))
    return Answers(log.user, log.item, left, taught, log.known, log.learned)


def residual(log: Log, known: Ints, config: CountsConfig) -> Doubles:
    """The same where only the answers marked in `known` count for the user's bias, 0 for others; float64 [rows]."""
    return _left(log, known, config, above_expected(log, log.values[:, -1], config))


def _left(log: Log, known: Ints, config: CountsConfig, above: Doubles) -> Doubles:
    return on_grid((above - _user_bias(log, above, known, config)) * known)


def _log_seconds(by_key: Grouped, time: Ints, known: Ints) -> Doubles:
    """log(1 + seconds since the key's last known row); -1 where there is none."""
    order, moment = by_key.order, time[by_key.order]
    position = np.where(known[order] == 1, np.arange(len(order)), -1)
    latest = np.r_[-1, np.maximum.accumulate(position)[:-1]] if len(order) else position
    elapsed = np.maximum(moment - moment[np.maximum(latest, 0)], 0)
    return by_key.back(np.where(latest >= by_key.begin, np.log1p(elapsed), -1.0))

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

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig
from corella.features.neighbours import NAMES as NEIGHBOURS
from corella.features.neighbours import Answers, PairTable, group_start, neighbour_features, on_grid

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


def running_average(value: Doubles, known: Ints) -> Doubles:
    """The mean of a value before each row, starting from a 1 and a 0."""
    answers = np.cumsum(known) - known
    total = np.cumsum(value * known) - value * known
    return np.asarray((total + 1.0) / (answers + 2.0))


def batch_counts(log: Log, keys: Sequence[Keys], config: CountsConfig, pairs: PairTable | None = None) -> Floats:
    """Features of every row, float32 [rows, len(feature_names)]. With `pairs`, what all learned rows say of neighbours,
    those of the neighbours are right for queries behind all learned rows alone: a log need not be learned again."""
    columns: list[Doubles] = []
    for place, value in enumerate(log.values.T):
        average = running_average(value, log.shared)
        for group in keys:
            answers, total = _before(group, value, log.known if group.by_user else log.shared)
            if place == 0:
                columns.append(np.log1p(answers))
            columns.append((total + config.smoothing * average) / (answers + config.smoothing))
        columns += _recent(log, value, average, config)
        columns.append(_user_bias(log, above_expected(log, value, config), log.known, config))
        if place == 0:
            columns += [_log_seconds(log.user, log.time, log.known), _log_seconds(log.item, log.time, log.shared)]
    if config.neighbours and pairs is None:
        columns += neighbour_features(residuals(log, config), config.neighbours, config.smoothing)
    elif config.neighbours and pairs is not None:
        queries, found = np.flatnonzero(log.known == 0), np.zeros((len(log.user), 2))
        found[queries] = pairs.rows(residuals(log, config), queries, config.neighbours, config.smoothing)
        columns += list(found.T)
    return np.stack(columns, axis=1).astype(np.float32)


def before(code: Ints, value: Doubles, known: Ints) -> tuple[Doubles, Doubles]:
    """Number of answers and total of a value of each row's key before the row; float64 [rows] each."""
    return _before(Keys("", np.arange(len(code)), code, by_user=True), value, known)


def _before(keys: Keys, value: Doubles, known: Ints) -> tuple[Doubles, Doubles]:
    order = np.argsort(keys.code, kind="stable")
    row = keys.row[order]
    first = group_start(keys.code[order])
    sums = []
    for weight in (known[row].astype(np.float64), known[row] * value[row]):
        exclusive = np.cumsum(weight) - weight
        entry = np.empty(len(order))
        entry[order] = exclusive - exclusive[first]
        sums.append(np.asarray(np.bincount(keys.row, weights=entry, minlength=len(value)), dtype=np.float64))
    return sums[0], sums[1]


def _recent(log: Log, value: Doubles, average: Doubles, config: CountsConfig) -> list[Doubles]:
    """Smoothed mean of a value over the user's last k answers."""
    order = np.argsort(log.user, kind="stable")
    known = log.known[order]
    first = group_start(log.user[order])
    answers = np.cumsum(known) - known
    total = np.r_[0, np.cumsum(value[order][known == 1])]
    columns = []
    for k in config.last:
        begin = np.maximum(answers - k, answers[first])
        mean = (total[answers] - total[begin] + average[order]) / (answers - begin + 1.0)
        column = np.empty(len(order))
        column[order] = mean
        columns.append(column)
    return columns


def above_expected(log: Log, value: Doubles, config: CountsConfig) -> Doubles:
    """A value of every row less the item's mean at the time; 0 where the answer is not known."""
    answers, total = before(log.item, value, log.shared)
    average = running_average(value, log.shared)
    expected = (total + config.smoothing * average) / (answers + config.smoothing)
    return np.asarray((value - expected) * log.known, dtype=np.float64)


def _user_bias(log: Log, above: Doubles, known: Ints, config: CountsConfig) -> Doubles:
    """Smoothed mean of what the user's earlier `known` answers were above their items' means at the time."""
    order = np.argsort(log.user, kind="stable")
    above, known = (above * known)[order], known[order]
    first = group_start(log.user[order])
    answers, total = np.cumsum(known) - known, np.cumsum(above) - above
    column = np.empty(len(order))
    column[order] = (total - total[first]) / (answers - answers[first] + config.smoothing)
    return column


def residuals(log: Log, config: CountsConfig) -> Answers:
    """What is left of every known answer (of its rating, where ratings are counted) without the item's mean and the
    user's bias at the time."""
    left, taught = (residual(log, known, config) for known in (log.known, log.learned))
    return Answers(log.user, log.item, left, taught, log.known, log.learned)


def residual(log: Log, known: Ints, config: CountsConfig) -> Doubles:
    """The same where only the answers marked in `known` count for the user's bias, 0 for others; float64 [rows]."""
    above = above_expected(log, log.values[:, -1], config)
    return on_grid((above - _user_bias(log, above, known, config)) * known)


def _log_seconds(code: Ints, time: Ints, known: Ints) -> npt.NDArray[np.float64]:
    """log(1 + seconds since the key's last known row); -1 where there is none."""
    order = np.argsort(code, kind="stable")
    first = group_start(code[order])
    position = np.where(known[order] == 1, np.arange(len(order)), -1)
    latest = np.r_[-1, np.maximum.accumulate(position)[:-1]] if len(order) else position
    seen = latest >= first
    elapsed = np.maximum(time[order] - time[order][np.maximum(latest, 0)], 0)
    column = np.empty(len(order))
    column[order] = np.where(seen, np.log1p(elapsed), -1.0)
    return column


class CountState:
    """The same features, one event at a time.

    Keys are given by the caller as hashable values, a sequence for each group, in the order of `config.groups`; items
    are numbers, None an unknown one. Where a number of answers and totals of the values are kept, they are a list
    `[n, total, ...]`.
    """

    def __init__(self, config: CountsConfig, rated: bool, pairs: PairTable | None) -> None:
        """`rated`: whether an answer's values are its label and its rating, or the label alone. `pairs`: what is known
        of neighbours, by the numbers that stand for items here; None where `config.neighbours` is 0."""
        self.config, self.rated, self.pairs = config, rated, pairs
        none = [0.0] * (3 if rated else 2)
        self.tallies: list[dict[object, list[float]]] = [defaultdict(none.copy) for _ in config.groups]
        self.total = none.copy()
        self.last: dict[object, deque[Sequence[float]]] = defaultdict(lambda: deque(maxlen=max(config.last, default=1)))
        self.bias: dict[object, list[float]] = defaultdict(none.copy)
        """Totals of what the values were above the item's mean at the time."""
        self.item: dict[object, list[float]] = defaultdict(none.copy)
        self.said: dict[object, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=config.neighbours))
        """Items and residuals of the user's last answers."""
        self.user_time: dict[object, int] = {}
        self.item_time: dict[object, int] = {}
        self.frozen = False
        """When true, events still count for the user's own keys but for nothing else."""

    def _average(self, place: int) -> float:
        return (self.total[1 + place] + 1.0) / (self.total[0] + 2.0)

    def with_visitor(self) -> "CountState":
        """The same state with room for one more user, who leaves no trace in it: what shares this one's totals is read
        only."""
        other = CountState(self.config, self.rated, self.pairs)
        groups = zip(self.tallies, other.tallies, self.config.groups, strict=True)
        other.tallies = [new if "user" in columns else old for old, new, columns in groups]
        other.total, other.item, other.item_time = self.total, self.item, self.item_time
        other.frozen = True
        return other

    def features(
        self, user: object, items: Sequence[int | None], time: int, keys: Sequence[Sequence[Sequence[object]]]
    ) -> Floats:
        """Features of samples of one user at `time`, float32 [items, features]; changes nothing. `keys`: for each item,
        for each group its keys."""
        smoothing = self.config.smoothing
        none = [0.0] * len(self.total)
        tallied = []
        for groups in keys:
            for tally, group in zip(self.tallies, groups, strict=True):
                if len(group) == 1:
                    tallied.append(tally.get(group[0], none))
                else:
                    all_keys = [tally.get(key, none) for key in set(group)]
                    tallied.append([sum(column) for column in zip(none, *all_keys, strict=True)])
        found = np.array(tallied).reshape(len(items), len(self.tallies), len(none))
        answers = found[:, :, 0]
        ages = [[_elapsed(self.item_time.get(item), time)] for item in items]
        columns = []
        for place in range(len(self.total) - 1):
            average = self._average(place)
            means = (found[:, :, 1 + place] + smoothing * average) / (answers + smoothing)
            own = self._own(user, place, average)
            if place == 0:
                means = np.stack([np.log1p(answers), means], axis=2).reshape(len(items), 2 * len(self.tallies))
                own.append(_elapsed(self.user_time.get(user), time))
            columns += [means, np.tile(own, (len(items), 1))]
            if place == 0:
                columns.append(np.array(ages).reshape(-1, 1))
        if self.pairs is not None:
            columns.append(self.pairs.features(items, self.said.get(user, ()), smoothing))
        return np.concatenate(columns, axis=1).astype(np.float32)

    def _own(self, user: object, place: int, average: float) -> list[float]:
        """Means of a value over the user's last answers, and its bias."""
        recent = [values[place] for values in self.last.get(user, ())]
        own = []
        for k in self.config.last:
            newest = recent[-k:]
            own.append((sum(newest) + average) / (len(newest) + 1.0))
        return [*own, self._bias(user, place)]

    def _bias(self, user: object, place: int) -> float:
        known = self.bias.get(user)
        return 0.0 if known is None else known[1 + place] / (known[0] + self.config.smoothing)

    def update(
        self, user: object, item: int, time: int, values: Sequence[float], keys: Sequence[Sequence[object]]
    ) -> float:
        """Count one answer: its label, 0 or 1, and, where ratings are counted, its rating, from 0 to 1. Returns its
        residual."""
        one = (1, *values)
        for tally, group, columns in zip(self.tallies, keys, self.config.groups, strict=True):
            if self.frozen and "user" not in columns:
                continue
            for key in set(group):
                _add(tally[key], one)
        known = self.item.get(item, [0.0] * len(one))
        smoothing = self.config.smoothing
        expected = [
            (known[1 + place] + smoothing * self._average(place)) / (known[0] + smoothing)
            for place in range(len(values))
        ]
        above = [value - e for value, e in zip(values, expected, strict=True)]
        left = float(on_grid(np.float64(above[-1] - self._bias(user, len(above) - 1))))
        if self.pairs is not None:
            self.said[user].append((item, left))
        _add(self.bias[user], (1, *above))
        self.last[user].append(values)
        self.user_time[user] = time
        if not self.frozen:
            _add(self.total, one)
            _add(self.item[item], one)
            self.item_time[item] = time
        return left


def _add(total: list[float], more: Sequence[float]) -> None:
    for place, value in enumerate(more):
        total[place] += value


def _elapsed(last: int | None, now: int) -> float:
    """log(1 + seconds since `last`); -1 where there is none."""
    return -1.0 if last is None else math.log1p(max(now - last, 0))

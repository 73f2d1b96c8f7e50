"""Counting features: what was known of a key (user, item, user x genre) strictly before each row.

Two ways to the same numbers: `batch_counts` in one vectorised pass over the ordered log, and `CountState`,
kept up to date one event at a time (serving). A property test holds them equal.

For a group, a row's keys are the values of its columns (one list column multiplies them). With n answers and
s positives of all its keys before the row, and the running average answer r, the features are log(1+n) and
(s + k r) / (n + k). The user's bias is the smoothed mean of what each of the user's answers was above the share of
positives that its item had at the time: who likes what everybody likes is not easily pleased.
"""

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig

Floats = npt.NDArray[np.float32]
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


def feature_names(config: CountsConfig) -> list[str]:
    """Names of the features, in the order of the columns."""
    names = []
    for group in config.groups:
        key = "_x_".join(group)
        names += [f"{key}_answers", f"{key}_share"]
    names += [f"user_last_{k}_share" for k in config.last]
    return [*names, "user_bias", "user_log_seconds", "item_log_seconds"]


@dataclass(frozen=True)
class Log:
    """The ordered log as arrays, one entry a row. `known`: 0 where nobody may count the answer (a query)."""

    user: Ints
    item: Ints
    time: Ints
    label: Ints
    known: Ints
    shared: Ints
    """1 where groups without the user may count the row too (fewer than `known` if counts are frozen)."""


def running_average(label: Ints, known: Ints) -> npt.NDArray[np.float64]:
    """The share of positives before each row, starting from one positive and one negative answer."""
    answers = np.cumsum(known) - known
    positives = np.cumsum(label * known) - label * known
    return (positives + 1.0) / (answers + 2.0)


def batch_counts(log: Log, keys: Sequence[Keys], config: CountsConfig) -> Floats:
    """Features of every row, float32 [rows, len(feature_names)]."""
    rows = len(log.user)
    average = running_average(log.label, log.shared)
    columns: list[npt.NDArray[np.float64]] = []
    for group in keys:
        known = log.known if group.by_user else log.shared
        answers, positives = _before(group, rows, log.label, known)
        columns.append(np.log1p(answers))
        columns.append((positives + config.smoothing * average) / (answers + config.smoothing))
    columns += _recent(log, average, config)
    columns.append(_user_bias(log, config))
    for code, known in ((log.user, log.known), (log.item, log.shared)):
        columns.append(_log_seconds(code, log.time, known))
    return np.stack(columns, axis=1).astype(np.float32)


def before(code: Ints, label: Ints, known: Ints) -> tuple[Ints, Ints]:
    """Answers and positives of each row's key before the row; int64 [rows] each."""
    keys = Keys("", np.arange(len(code)), code, by_user=True)
    return _before(keys, len(code), label, known)


def _before(keys: Keys, rows: int, label: Ints, known: Ints) -> tuple[Ints, Ints]:
    order = np.argsort(keys.code, kind="stable")
    row = keys.row[order]
    first = _group_start(keys.code[order])
    sums = []
    for weight in (known[row], known[row] * label[row]):
        exclusive = np.cumsum(weight) - weight
        entry = np.empty(len(order), dtype=np.int64)
        entry[order] = exclusive - exclusive[first]
        sums.append(np.bincount(keys.row, weights=entry, minlength=rows).astype(np.int64))
    return sums[0], sums[1]


def _group_start(sorted_code: Ints) -> Ints:
    """For every entry of a sorted array, the position of its key's first entry."""
    if len(sorted_code) == 0:
        return np.zeros(0, dtype=np.int64)
    new = np.r_[True, sorted_code[1:] != sorted_code[:-1]]
    return np.maximum.accumulate(np.where(new, np.arange(len(sorted_code)), 0))


def _recent(log: Log, average: npt.NDArray[np.float64], config: CountsConfig) -> list[npt.NDArray[np.float64]]:
    """Smoothed share of positives among the user's last k answers."""
    order = np.argsort(log.user, kind="stable")
    known, label = log.known[order], log.label[order] * log.known[order]
    first = _group_start(log.user[order])
    answers = np.cumsum(known) - known
    events = np.r_[0, np.cumsum(label[known == 1])]
    columns = []
    for k in config.last:
        begin = np.maximum(answers - k, answers[first])
        share = (events[answers] - events[begin] + average[order]) / (answers - begin + 1.0)
        column = np.empty(len(order))
        column[order] = share
        columns.append(column)
    return columns


def above_expected(log: Log, config: CountsConfig) -> npt.NDArray[np.float64]:
    """For every row its answer less the item's share of positives at the time; 0 where the answer is not known."""
    answers, positives = before(log.item, log.label, log.shared)
    average = running_average(log.label, log.shared)
    expected = (positives + config.smoothing * average) / (answers + config.smoothing)
    return np.asarray((log.label - expected) * log.known, dtype=np.float64)


def _user_bias(log: Log, config: CountsConfig) -> npt.NDArray[np.float64]:
    """Smoothed mean of the user's earlier answers less their items' shares of positives at the time."""
    order = np.argsort(log.user, kind="stable")
    known = log.known[order]
    above = above_expected(log, config)[order]
    first = _group_start(log.user[order])
    answers, total = np.cumsum(known) - known, np.cumsum(above) - above
    column = np.empty(len(order))
    column[order] = (total - total[first]) / (answers - answers[first] + config.smoothing)
    return column


def _log_seconds(code: Ints, time: Ints, known: Ints) -> npt.NDArray[np.float64]:
    """log(1 + seconds since the key's last known row); -1 where there is none."""
    order = np.argsort(code, kind="stable")
    first = _group_start(code[order])
    position = np.where(known[order] == 1, np.arange(len(order)), -1)
    latest = np.r_[-1, np.maximum.accumulate(position)[:-1]] if len(order) else position
    seen = latest >= first
    elapsed = np.maximum(time[order] - time[order][np.maximum(latest, 0)], 0)
    column = np.empty(len(order))
    column[order] = np.where(seen, np.log1p(elapsed), -1.0)
    return column


class CountState:
    """The same features, one event at a time.

    Keys are given by the caller as hashable values, a sequence for each group, in the order of
    `config.groups`.
    """

    def __init__(self, config: CountsConfig) -> None:
        self.config = config
        self.tallies: list[dict[object, list[int]]] = [defaultdict(lambda: [0, 0]) for _ in config.groups]
        self.total = [0, 0]
        self.last: dict[object, deque[int]] = defaultdict(lambda: deque(maxlen=max(config.last, default=1)))
        self.bias: dict[object, list[float]] = defaultdict(lambda: [0, 0.0])
        self.item: dict[object, list[int]] = defaultdict(lambda: [0, 0])
        self.user_time: dict[object, int] = {}
        self.item_time: dict[object, int] = {}
        self.frozen = False
        """When true, events still count for the user's own keys but for nothing else."""

    @property
    def _average(self) -> float:
        return (self.total[1] + 1.0) / (self.total[0] + 2.0)

    def with_visitor(self) -> "CountState":
        """The same state with room for one more user, who leaves no trace in it: what shares this one's totals is read
        only."""
        other = CountState(self.config)
        groups = zip(self.tallies, other.tallies, self.config.groups, strict=True)
        other.tallies = [new if "user" in columns else old for old, new, columns in groups]
        other.total, other.item, other.item_time = self.total, self.item, self.item_time
        other.frozen = True
        return other

    def features(
        self, user: object, items: Sequence[object], time: int, keys: Sequence[Sequence[Sequence[object]]]
    ) -> Floats:
        """Features of samples of one user at `time`, float32 [items, features]; changes nothing. `keys`: for each item,
        for each group its keys."""
        average, smoothing = self._average, self.config.smoothing
        found = np.zeros((len(items), len(self.tallies), 2))
        for row, groups in zip(found, keys, strict=True):
            for place, (tally, group) in enumerate(zip(self.tallies, groups, strict=True)):
                for key in group if len(group) == 1 else set(group):
                    known = tally.get(key)
                    if known is not None:
                        row[place, 0] += known[0]
                        row[place, 1] += known[1]
        answers, positives = found[:, :, 0], found[:, :, 1]
        shares = (positives + smoothing * average) / (answers + smoothing)
        tallied = np.stack([np.log1p(answers), shares], axis=2).reshape(len(items), -1)
        recent = list(self.last.get(user, ()))
        own: list[float] = []
        for k in self.config.last:
            newest = recent[-k:]
            own.append((sum(newest) + average) / (len(newest) + 1.0))
        number, above = self.bias.get(user, (0, 0.0))
        own += [above / (number + smoothing), _elapsed(self.user_time.get(user), time)]
        ages = [[_elapsed(self.item_time.get(item), time)] for item in items]
        columns = [tallied, np.tile(own, (len(items), 1)), np.array(ages).reshape(-1, 1)]
        return np.concatenate(columns, axis=1).astype(np.float32)

    def update(self, user: object, item: object, time: int, label: int, keys: Sequence[Sequence[object]]) -> None:
        """Count one answer (label 0 or 1)."""
        for tally, group, columns in zip(self.tallies, keys, self.config.groups, strict=True):
            if self.frozen and "user" not in columns:
                continue
            for key in set(group):
                tally[key][0] += 1
                tally[key][1] += label
        answers, positives = self.item.get(item, (0, 0))
        expected = (positives + self.config.smoothing * self._average) / (answers + self.config.smoothing)
        self.bias[user][0] += 1
        self.bias[user][1] += label - expected
        self.last[user].append(label)
        self.user_time[user] = time
        if not self.frozen:
            self.total[0] += 1
            self.total[1] += label
            self.item[item][0] += 1
            self.item[item][1] += label
            self.item_time[item] = time


def _elapsed(last: int | None, now: int) -> float:
    """log(1 + seconds since `last`); -1 where there is none."""
    return -1.0 if last is None else math.log1p(max(now - last, 0))

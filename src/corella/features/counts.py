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
    columns: list[Doubles] = []
    for place, value in enumerate(log.values.T):
        average = running_average(value, log.shared, config.clicks)
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
    average = running_average(value, log.shared, config.clicks)
    expected = (total + config.smoothing * average) / (answers + config.smoothing)
    return np.asarray((value - expected) * log.known, dtype=np.float64)


def _user_bias(log: Log, above: Doubles, known: Ints, config: CountsConfig) -> Doubles:
    """Smoothed mean of what the user's earlier `known` answers were above their items' means then; of clicks 0."""
    if config.clicks:
        return np.zeros(len(log.user))
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

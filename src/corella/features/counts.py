"""Count features: what was known of a key (user, item, user x genre) strictly before each row.

Two ways to the same numbers: `batch_counts` in one vectorised pass over the ordered log, and `CountState`,
kept up to date one event at a time (serving), but for what it is given of neighbours. A property test holds them equal.

For a group, a row's keys are the values of its columns (one list column multiplies them). With n answers and
s positives of all its keys before the row, and the running average answer r, the features are log(1+n) and
(s + k r) / (n + k). The user's bias is the smoothed mean of what each of the user's answers was above the share of
positives that its item had at the time: who likes what everybody likes is not easily pleased. Where the answers have
ratings, the same means are taken of them too: they say how much something was liked. What is left of an answer then,
its residual, speaks for items that the same users answered, see `neighbours.py`.

What all users said is in `everyone.py`; here is what a user's own rows say, which needs no other row than those.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig
from corella.features.everyone import Heard, above_expected, heard
from corella.features.grids import RESIDUAL, on_grid
from corella.features.grouping import grouped
from corella.features.log import Keys, Log, latest_before, log_seconds
from corella.features.neighbours import NAMES as NEIGHBOURS
from corella.features.neighbours import Answers, PairTable, neighbour_features

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


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


def batch_counts(log: Log, keys: Sequence[Keys], config: CountsConfig, pairs: PairTable | None = None) -> Floats:
    """Features of every row, float32 [rows, len(feature_names)]. With `pairs`, what all learned rows say of neighbours,
    those of the neighbours are right for queries behind all learned rows alone: a log need not be learned again."""
    others = heard(log, [group for group in keys if not group.by_user], config)
    columns = {**others.columns, **own(log, [group for group in keys if group.by_user], config, others)}
    if config.neighbours:
        answers = own_answers(log, config, others.above[:, -1])
        found = np.zeros((len(log.user), 2))
        if pairs is None:
            found[:] = np.stack(neighbour_features(answers, config.neighbours, config.smoothing), axis=1)
        else:
            queries = np.flatnonzero(log.known == 0)
            found[queries] = pairs.rows(answers, queries, config.neighbours, config.smoothing)
        columns |= dict(zip(NEIGHBOURS, found.T.astype(np.float32), strict=True))
    return np.stack([columns[name] for name in feature_names(config, log.values.shape[1] > 1)], axis=1)


def own(log: Log, keys: Sequence[Keys], config: CountsConfig, others: Heard) -> dict[str, Floats]:
    """Features of every row from the earlier rows of its user, by name; `keys` with the user."""
    k, found = config.smoothing, dict[str, Doubles]()
    for group in keys:
        answers = group.before(log.known)
        found[f"{group.name}_answers"] = np.log1p(answers)
        for name, value, average in zip(("share", "rating"), log.values.T, others.average.T, strict=False):
            found[f"{group.name}_{name}"] = (group.before(log.known * value) + k * average) / (answers + k)
    values = zip(("share", "rating"), log.values.T, others.average.T, others.above.T, strict=False)
    for name, value, average, above in values:
        for last, mean in zip(config.last, _recent(log, value, average, config), strict=True):
            found[f"user_last_{last}_{name}"] = mean
        found["user_bias" if name == "share" else "user_rating_bias"] = _user_bias(log, above, log.known, config)
    found["user_log_seconds"] = log_seconds(latest_before(log.by_user, log.time, log.known), log.time)
    return {name: column.astype(np.float32) for name, column in found.items()}


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


def _user_bias(log: Log, above: Doubles, known: Ints, config: CountsConfig) -> Doubles:
    """Smoothed mean of what the user's earlier `known` answers were above their items' means then; of clicks 0."""
    if config.clicks:
        return np.zeros(len(log.user))
    return log.by_user.before(above * known) / (log.by_user.before(known) + config.smoothing)


def residuals(log: Log, config: CountsConfig) -> Answers:
    """What is left of every known answer (of its rating, where ratings are counted) without the item's mean and the
    user's bias at the time."""
    return own_answers(log, config, above_expected(log, config)[:, -1])


def own_answers(log: Log, config: CountsConfig, above: Doubles) -> Answers:
    """The same, of `Heard.above` of the last value."""
    left, taught = (_left(log, known, config, above) for known in (log.known, log.learned))
    return Answers(log.user, log.item, left, taught, log.known, log.learned)


def residual(log: Log, known: Ints, config: CountsConfig) -> Doubles:
    """The same where only the answers marked in `known` count for the user's bias, 0 for others; float64 [rows]."""
    return _left(log, known, config, above_expected(log, config)[:, -1])


def _left(log: Log, known: Ints, config: CountsConfig, above: Doubles) -> Doubles:
    return on_grid((above - _user_bias(log, above, known, config)) * known, RESIDUAL)

"""The count features of a moment: what the log said, and interactions since, one at a time. A property test holds them
equal to those of a whole log."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig
from corella.features.grids import RESIDUAL, VALUE, on_grid
from corella.features.neighbours import PairTable
from corella.features.recent import Recent

Floats = npt.NDArray[np.float32]

_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Counted:
    """What an answer was counted as, so that it can be taken out again."""

    values: Sequence[float]
    """Its label, 0 or 1, and, where ratings are counted, its rating, from 0 to 1."""
    above: Sequence[float]
    """Each value less the item's mean at the time."""
    residual: float
    """What is left of the last one without the user's bias."""


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
        self.last = Recent(len(none) - 1, max(config.last, default=1))
        """Values of the user's last answers."""
        self.bias: dict[object, list[float]] = defaultdict(none.copy)
        """Totals of what the values were above the item's mean at the time."""
        self.item: dict[object, list[float]] = defaultdict(none.copy)
        self.said = Recent(2, config.neighbours)
        """Items and residuals of the user's last answers."""
        self.user_time: dict[object, int] = {}
        self.item_time: dict[object, int] = {}
        self.frozen = False
        """When true, events still count for the user's own keys but for nothing else."""

    def _average(self, place: int) -> float:
        return 0.0 if self.config.clicks else (self.total[1 + place] + 1.0) / (self.total[0] + 2.0)

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
            columns.append(self.pairs.features(items, self.said.last(user), smoothing))
        return np.concatenate(columns, axis=1).astype(np.float32)

    def _own(self, user: object, place: int, average: float) -> list[float]:
        """Means of a value over the user's last answers, and its bias."""
        recent = self.last.last(user)[:, place].tolist()
        own = []
        for k in self.config.last:
            newest = recent[-k:]
            own.append((sum(newest) + average) / (len(newest) + 1.0))
        return [*own, self._bias(user, place)]

    def _bias(self, user: object, place: int) -> float:
        known = self.bias.get(user)
        return 0.0 if known is None or self.config.clicks else known[1 + place] / (known[0] + self.config.smoothing)

    def update(
        self,
        user: object,
        item: int,
        time: int,
        values: Sequence[float],
        keys: Sequence[Sequence[object]],
        share: float = 1.0,
    ) -> Counted:
        """Count one answer, see `Counted.values`. `share`: how much it counts for others than the user, from 0 to 1."""
        share = 0.0 if self.frozen else share
        one = (1, *values)
        self._tally(keys, one, share)
        known = self.item.get(item, [0.0] * len(one))
        smoothing = self.config.smoothing
        expected = [
            (known[1 + place] + smoothing * self._average(place)) / (known[0] + smoothing)
            for place in range(len(values))
        ]
        above = [float(on_grid(np.float64(value - e), VALUE)) for value, e in zip(values, expected, strict=True)]
        left = float(on_grid(np.float64(above[-1] - self._bias(user, len(above) - 1)), RESIDUAL))
        if self.pairs is not None:
            self.said.add(user, (item, left))
        _add(self.bias[user], (1, *above))
        self.last.add(user, values)
        self.user_time[user] = time
        if share:
            _add(self.total, one, share)
            _add(self.item[item], one, share)
            self.item_time[item] = time
        return Counted(values, above, left)

    def remove(
        self, user: object, item: int, counted: Counted, keys: Sequence[Sequence[object]], share: float = 1.0
    ) -> None:
        """Take out an answer that was counted with these keys and this share. What later answers were compared with
        stays as it was. `reset` has to follow with the answers of the user that stay."""
        one = (1, *counted.values)
        self._tally(keys, one, share, -1)
        _add(self.bias[user], (1, *counted.above), -1)
        if share:
            _add(self.total, one, -share)
            _add(self.item[item], one, -share)

    def reset(self, user: object, answers: Iterable[tuple[int, int, Counted]]) -> None:
        """Set what is known of a user's last answers: item, time and what each was counted as, the oldest first."""
        self.said.pop(user)
        self.last.pop(user)
        self.user_time.pop(user, None)
        empty = True
        for item, time, counted in answers:
            empty = False
            if self.pairs is not None:
                self.said.add(user, (item, counted.residual))
            self.last.add(user, counted.values)
            self.user_time[user] = max(time, self.user_time.get(user, time))
        if empty:
            self.bias.pop(user, None)

    def _tally(self, keys: Sequence[Sequence[object]], one: Sequence[float], share: float, sign: int = 1) -> None:
        for tally, group, columns in zip(self.tallies, keys, self.config.groups, strict=True):
            part = sign * (1.0 if "user" in columns else share)
            if not part:
                continue
            for key in set(group):
                _add(tally[key], one, part)
                if sign < 0 and abs(tally[key][0]) < _NOTHING:
                    del tally[key]


def _add(total: list[float], more: Sequence[float], times: float = 1.0) -> None:
    for place, value in enumerate(more):
        total[place] += times * value


def _elapsed(last: int | None, now: int) -> float:
    """log(1 + seconds since `last`); -1 where there is none."""
    return -1.0 if last is None else math.log1p(max(now - last, 0))

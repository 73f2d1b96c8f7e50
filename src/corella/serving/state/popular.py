"""What is popular now: how much was done with each item, by the hour."""

import time
from array import array
from typing import Literal

import numpy as np
import numpy.typing as npt

from corella.data.dataset import Dataset

Doubles = npt.NDArray[np.float64]

HOUR = 3600
Window = Literal["1h", "24h", "7d", "30d"]
HOURS: dict[Window, int] = {"1h": 1, "24h": 24, "7d": 7 * 24, "30d": 30 * 24}
_SECONDS, _CHANGED_SECONDS = 10.0, 1.0
"""How old scores may be; and where something was added since."""
_DAYS = 30
_MOST = 2_000_000
"""Entries that are kept before those of the same hour and item become one."""


class Popular:
    """Weights of what was done in the last 30 days. What is taken back is added once more, below zero."""

    def __init__(self, dataset: Dataset, weight: float) -> None:
        """`weight`: of a like of the log; other answers of it have none."""
        self._hours, self._items, self._weights = array("q"), array("q"), array("d")
        self._kept: dict[Window, tuple[float, int, Doubles]] = {}
        self._changes = 0
        if "timestamp" not in dataset.log.columns or not dataset.log.height:
            return
        time, label = dataset.log["timestamp"].to_numpy().astype(np.int64), dataset.label
        recent = (time > time.max() - _DAYS * 24 * HOUR) & (label == 1)
        self._hours.frombytes((time[recent] // HOUR).astype(np.int64).tobytes())
        self._items.frombytes(dataset.item[recent].astype(np.int64).tobytes())
        self._weights.frombytes(np.full(int(recent.sum()), weight).tobytes())

    def add(self, item: int, time: int, weight: float) -> None:
        """Something was done with an item; `time` in seconds since 1970."""
        if weight:
            self._changes += 1
            self._hours.append(time // HOUR)
            self._items.append(item)
            self._weights.append(weight)
            if len(self._hours) > _MOST:
                self._compact()

    def scores(self, items: int, now: int, window: Window) -> Doubles:
        """By item code: the weight of what was done in the window before `now`; float64 [items]. Kept for a while, for
        looking at all entries takes milliseconds."""
        moment = time.monotonic()
        kept = self._kept.get(window)
        old = kept is None or moment - kept[0] > (_SECONDS if self._changes == kept[1] else _CHANGED_SECONDS)
        if kept is None or old or len(kept[2]) < items:
            kept = self._kept[window] = (moment, self._changes, self._computed(items, now, HOURS[window]))
        return kept[2][:items]

    def _computed(self, items: int, now: int, hours: int) -> Doubles:
        at, item = (np.frombuffer(column, np.int64) for column in (self._hours, self._items))
        if not len(at):
            return np.zeros(items)
        last = now // HOUR
        inside = (at > last - hours) & (at <= last)
        weights = np.frombuffer(self._weights, np.float64)[inside]
        return np.asarray(np.bincount(item[inside], weights=weights, minlength=items)[:items], dtype=np.float64)

    def _compact(self) -> None:
        at, item = (np.frombuffer(column, np.int64) for column in (self._hours, self._items))
        kept = at > at.max() - _DAYS * 24
        size = int(item.max()) + 1
        key, place = np.unique(at[kept] * size + item[kept], return_inverse=True)
        weights = np.bincount(place, weights=np.frombuffer(self._weights, np.float64)[kept])
        columns = ((key // size).tobytes(), (key % size).tobytes(), weights.tobytes())
        del at, item  # an array that is looked at cannot grow
        self._hours, self._items, self._weights = array("q", columns[0]), array("q", columns[1]), array("d", columns[2])

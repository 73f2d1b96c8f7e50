"""The last minutes of traffic, for the operators' page: counted by slots of time, so memory is bounded."""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_SLOTS = 60
_PATHS = ("crm", "llm")
_RATIO = 1.05
"""Latencies are counted in bins whose edges grow by this: percentiles are right to 5 % from a tenth of a millisecond to
a hundred seconds."""
_EDGES = 0.1 * _RATIO ** np.arange(284)
"""In milliseconds: from a tenth to a hundred thousand."""


@dataclass(frozen=True)
class Request:
    """One scored request."""

    moment: float
    milliseconds: float
    items: int
    routed: int
    answered: int
    fallbacks: tuple[str, ...]

    @property
    def by(self) -> str:
        """Who answered: the language model, if it answered at all."""
        return "llm" if self.answered else "crm"


@dataclass(frozen=True)
class Latency:
    """Of the requests that took one path, in milliseconds."""

    requests: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Summary:
    """A window of requests."""

    seconds: float
    """Its length."""
    requests: int
    items: int
    share_routed: float
    """Of the items, 0 to 1."""
    share_answered: float
    """Of the items, those that the language model answered in time."""
    latency: dict[str, Latency]
    """By path: `crm` or `llm`; a path that nobody took is missing."""
    fallbacks: dict[str, int]
    """Routed prompts without an answer, by reason."""
    slots: dict[str, list[int]]
    """By path: requests in each sixtieth of the window, the oldest first."""


def _no_latencies() -> npt.NDArray[np.int64]:
    return np.zeros((len(_PATHS), len(_EDGES) + 1), np.int64)


@dataclass
class _Slot:
    """What was counted in one slot of time."""

    number: int
    items: int = 0
    routed: int = 0
    answered: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)
    latencies: npt.NDArray[np.int64] = field(default_factory=_no_latencies)
    """[paths, bins]: requests."""


class Traffic:
    """A window of requests."""

    def __init__(self, seconds: float = 600.0, clock: Callable[[], float] = time.time) -> None:
        self._seconds, self._clock = seconds, clock
        self._slots: deque[_Slot] = deque(maxlen=_SLOTS)

    def add(self, request: Request) -> None:
        """Count a request; one older than the last is counted beside it."""
        number = self._number(request.moment)
        if self._slots and number < self._slots[-1].number - _SLOTS:  # the clock was set back
            self._slots.clear()
        if not self._slots or self._slots[-1].number < number:
            self._slots.append(_Slot(number))
        slot = self._slots[-1]
        slot.items += request.items
        slot.routed += request.routed
        slot.answered += request.answered
        slot.fallbacks.update(request.fallbacks)
        slot.latencies[_PATHS.index(request.by), np.searchsorted(_EDGES, request.milliseconds)] += 1

    def summary(self) -> Summary:
        """Of the window. The last slot has only begun, so it is up to a sixtieth shorter than it says."""
        first = self._number(self._clock()) - _SLOTS + 1
        recent = [slot for slot in self._slots if slot.number >= first]
        items = sum(slot.items for slot in recent)
        bins = np.sum([_no_latencies(), *(slot.latencies for slot in recent)], axis=0)
        latency = {}
        slots: dict[str, list[int]] = {}
        for n, path in enumerate(_PATHS):
            total = int(bins[n].sum())
            if total:
                latency[path] = Latency(total, *(_percentile(bins[n], q) for q in (50, 95, 99)))
            slots[path] = [0] * _SLOTS
            for slot in recent:
                slots[path][min(slot.number - first, _SLOTS - 1)] += int(slot.latencies[n].sum())
        return Summary(
            self._seconds, int(bins.sum()), items,
            sum(slot.routed for slot in recent) / items if items else 0.0,
            sum(slot.answered for slot in recent) / items if items else 0.0,
            latency, dict(sum((slot.fallbacks for slot in recent), Counter[str]())), slots,
        )  # fmt: skip

    def _number(self, moment: float) -> int:
        return int(moment * _SLOTS / self._seconds)


def _percentile(bins: npt.NDArray[np.int64], q: int) -> float:
    """The middle of the bin that holds the percentile."""
    place = int(np.searchsorted(np.cumsum(bins), q / 100 * bins.sum()))
    return float(_EDGES[min(place, len(_EDGES) - 1)] / _RATIO**0.5)

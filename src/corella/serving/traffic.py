"""The last minutes of traffic, for the operators' page."""

import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

_KEPT = 20_000
_SLOTS = 60


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
        """Which path it took."""
        return "llm" if self.routed else "crm"


class Traffic:
    """A window of requests."""

    def __init__(self, seconds: float = 600.0) -> None:
        self._seconds = seconds
        self._requests: deque[Request] = deque(maxlen=_KEPT)

    def add(self, request: Request) -> None:
        """Count a request."""
        self._requests.append(request)

    def summary(self) -> dict[str, Any]:
        """JSON-able: totals, latency by path, fallbacks, and requests a slot of the window, the oldest first."""
        now = time.time()
        recent = [r for r in self._requests if r.moment > now - self._seconds]
        items = sum(r.items for r in recent)
        latency = {}
        for path in ("crm", "llm"):
            each = [r.milliseconds for r in recent if r.by == path]
            if each:
                p50, p95, p99 = np.percentile(each, [50, 95, 99]).tolist()
                latency[path] = {"requests": len(each), "p50": p50, "p95": p95, "p99": p99}
        width = self._seconds / _SLOTS
        slots: dict[str, list[int]] = {"crm": [0] * _SLOTS, "llm": [0] * _SLOTS}
        for r in recent:
            slots[r.by][min(int((r.moment - now + self._seconds) / width), _SLOTS - 1)] += 1
        return {
            "seconds": self._seconds, "requests": len(recent), "items": items,
            "share_routed": sum(r.routed for r in recent) / items if items else 0.0,
            "share_answered": sum(r.answered for r in recent) / items if items else 0.0,
            "latency": latency, "fallbacks": dict(Counter(reason for r in recent for reason in r.fallbacks)),
            "slots": slots,
        }  # fmt: skip

"""What keeps one caller from taking the service away from the others: a rate, and a lag of the loop."""

import asyncio
import contextlib
import time
from collections import OrderedDict

_CALLERS = 10_000


class RateLimit:
    """A bucket of tokens for each caller; the callers not seen for longest are forgotten."""

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, caller: str, units: float = 1.0, now: float | None = None) -> bool:
        """Whether the caller may ask for so much now. What is more than a whole bucket takes all of it, and what comes
        next waits longer. `now`: seconds of any clock that does not go back."""
        moment = time.monotonic() if now is None else now
        full = max(self._rate, 1.0)
        level, last = self._buckets.pop(caller, (full, moment))
        level = min(level + (moment - last) * self._rate, full)
        allowed = level >= min(units, full)
        self._buckets[caller] = (level - units if allowed else level, moment)
        while len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        return allowed


class Lag:
    """How late the event loop runs: the sign that even the conventional model cannot keep up."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._measure())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _measure(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.02)
            self.seconds = time.monotonic() - began - 0.02

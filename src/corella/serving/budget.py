"""How much the language model may read for this server: its part of what all servers on one store may spend together.

The store keeps one bucket. Nobody waits for it: a server spends from what it knew last, and settles with the store a
few times a second. What was spent too much is a debt that is paid before anything else is read. [ours]
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from corella.serving.store.records import StoreError
from corella.serving.store.spending import BURST_SECONDS, Spending

_SETTLE_SECONDS = 0.2


class Budget:
    """Tokens, refilled at a rate."""

    def __init__(self, rate: float, shared: Spending | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate`: tokens a second, of all servers; `shared` None: there is no other server."""
        self._rate, self._shared, self._clock = rate, shared, clock
        self._server = secrets.token_hex(8)
        self._servers = 1
        self._level, self._moment = rate * BURST_SECONDS, clock()
        self._unsettled = 0.0
        self._thread = ThreadPoolExecutor(1, "budget")
        self._task: asyncio.Task[None] | None = None

    def room(self) -> float:
        """Tokens that may be spent now: an equal part of what is left."""
        return max(self._now(), 0.0)

    def spend(self, tokens: float) -> None:
        """They are read."""
        self._level, self._moment = self._now() - tokens, self._clock()
        self._unsettled += tokens

    async def start(self) -> None:
        """Begin to settle, in the running loop."""
        if self._shared is not None:
            self._task = asyncio.get_running_loop().create_task(self._settle_again_and_again(self._shared))

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._thread.shutdown()
        if self._shared is not None:
            self._shared.close()

    async def settle(self, shared: Spending) -> None:
        """Tell the store what was spent. Where it does not answer, this server goes on with its equal part of the
        rate."""
        told = self._unsettled
        loop = asyncio.get_running_loop()
        try:
            left = await loop.run_in_executor(self._thread, shared.exchange, self._server, self._rate, told)
        except StoreError:
            return
        self._unsettled -= told  # what is left of it was spent meanwhile
        self._servers = left.servers
        self._level, self._moment = left.tokens / left.servers - self._unsettled, self._clock()

    async def _settle_again_and_again(self, shared: Spending) -> None:
        while True:
            await self.settle(shared)
            await asyncio.sleep(_SETTLE_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - not all at once

    def _now(self) -> float:
        part = self._rate / self._servers
        return min(self._level + (self._clock() - self._moment) * part, part * BURST_SECONDS)

"""What was shown, kept behind the requests: a page of recommendations does not wait for the store."""

import asyncio
import logging
from collections.abc import Callable

from corella.serving.feed import Feed
from corella.serving.store.records import Shown, StoreError

log = logging.getLogger("corella")

_SECONDS, _MOST, _AT_ONCE = 0.5, 10_000, 500


class Impressions:
    """A queue of pages on their way to the store. Those that the store does not take in time are lost, and counted."""

    def __init__(self, feed: Callable[[], Feed]) -> None:
        """`feed`: of the service that is in charge now."""
        self._feed, self._queue = feed, list[Shown]()
        self._task: asyncio.Task[None] | None = None
        self.lost = 0

    def add(self, shown: Shown) -> None:
        """Keep a page soon."""
        if len(self._queue) >= _MOST:
            self.lost += 1
            return
        self._queue.append(shown)

    async def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._again_and_again())

    async def stop(self) -> None:
        """Keep what is there, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.flush()

    async def flush(self) -> None:
        """Keep what is there."""
        while self._queue:
            some, self._queue = self._queue[:_AT_ONCE], self._queue[_AT_ONCE:]
            try:
                await self._feed().append(some)
            except StoreError as error:
                self.lost += len(some)
                log.warning("%d pages that were shown are not kept: %s", len(some), error)
                return

    async def _again_and_again(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS)
            await self.flush()

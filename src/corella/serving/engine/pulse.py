"""Whether a server elsewhere can be asked: looked at again and again, less often the longer it cannot."""

import asyncio
import random
from collections.abc import Awaitable, Callable

_FIRST_SECONDS, _LONGEST_SECONDS = 0.2, 5.0
"""Pauses between two looks at a server that does not answer; each is twice the one before."""


class Pulse:
    """Of one server."""

    def __init__(self, look: Callable[[], Awaitable[str]], every: float | None, up: bool) -> None:
        """`look`: what is wrong with the server; empty where nothing is. `every`: seconds between two looks while all
        is well; None: only when somebody doubts it. `up`: what holds until the first look."""
        self._look, self._every, self.up = look, every, up
        self.why = ""
        """What was wrong at last; empty where nothing was."""
        self.on_change: Callable[[], None] = lambda: None
        self._doubted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._beat())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def failed(self, why: str) -> None:
        """It was asked and is not there."""
        self._set(why)
        self._doubted.set()

    def doubt(self) -> None:
        """It did not answer in time: look at it now."""
        self._doubted.set()

    def _set(self, why: str) -> None:
        changed = self.up != (not why) or self.why != why
        self.up, self.why = not why, why
        if changed:
            self.on_change()

    async def _beat(self) -> None:
        pause = _FIRST_SECONDS
        while True:
            self._doubted.clear()
            self._set(await self._look())
            pause = _FIRST_SECONDS if self.up else min(2 * pause, _LONGEST_SECONDS)
            await asyncio.sleep(_FIRST_SECONDS)
            if not self.up:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all look at once
            else:
                await self._quiet()

    async def _quiet(self) -> None:
        """Until it is time for the next look, or somebody doubts."""
        try:
            async with asyncio.timeout(self._every):
                await self._doubted.wait()
        except TimeoutError:
            return

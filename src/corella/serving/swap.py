"""Another version of the model put in service while requests come: none of them is dropped."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path

from fastapi import FastAPI

from corella.errors import UserError
from corella.serving.http.context import Context
from corella.serving.service import Service
from corella.serving.versions.folder import Versions

log = logging.getLogger("corella")

_LOOK_SECONDS, _DRAIN_SECONDS, _READY_SECONDS = 2.0, 30.0, 60.0
"""How often the pointer is looked at; how long requests at work may take to end; how long the new language model may
load before the swap: until then the conventional model would answer for it."""


@dataclass(frozen=True)
class Built:
    """A service that is made, and what answers call its model."""

    service: Service
    version: str


class Swapper:
    """Watches which version of a run is to serve, and puts it in service."""

    def __init__(
        self, app: FastAPI, run: Path, build: Callable[[str], Built], attach: Callable[[Context], None]
    ) -> None:
        """`build`: the service of a version, on its own connection to the store; runs on another thread. `attach`: ties
        a new service's news to the application."""
        self._app, self._versions, self._build, self._attach = app, Versions(run), build, attach
        self._name = self._versions.serving
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to watch, in the running loop; SIGHUP looks at once."""
        loop = asyncio.get_running_loop()
        self._spawn(self._watch())
        try:
            loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self.look()))
        except (NotImplementedError, RuntimeError, ValueError):  # not the main thread, or not this system
            log.debug("SIGHUP is not listened to")

    async def stop(self) -> None:
        """End."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def choose(self, name: str) -> None:
        """Let a version serve. Raises `UserError` where there is none, or it cannot serve; then nothing changes."""
        await asyncio.to_thread(self._versions.version, name)
        async with self._lock:  # or the watch, which finds the pointer as it was, would swap back
            await self._swap(name)
            await asyncio.to_thread(self._versions.serve, name)

    async def look(self) -> None:
        """Put the version in service that is to serve, if it is another one."""
        context: Context = self._app.state.context
        try:
            async with self._lock:
                await self._swap(await asyncio.to_thread(lambda: self._versions.serving))
            context.note("versions", "")
        except UserError as error:
            if self._app.state.context.note("versions", f"version {self._name} goes on: {error}"):
                log.warning("versions: version %s goes on: %s", self._name, error)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.look()

    async def _swap(self, name: str) -> None:
        if name == self._name:
            return
        built = await asyncio.to_thread(self._build, name)
        old: Context = self._app.state.context
        new = replace(old, service=built.service, version=built.version, at_work=0)
        self._attach(new)
        engine = built.service.engine
        if engine is not None:
            await engine.start()
            for _ in range(int(_READY_SECONDS / 0.1)):
                if engine.ready:
                    break
                await asyncio.sleep(0.1)
        await built.service.warm()
        await built.service.feed.sync(5.0)
        self._app.state.context = new
        self._name = name
        log.info("version %s serves (%s)", name, built.version)
        self._spawn(_retire(old))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _retire(old: Context) -> None:
    """Let go of a service when its requests have ended."""
    for _ in range(int(_DRAIN_SECONDS / 0.1)):
        if not old.at_work:
            break
        await asyncio.sleep(0.1)
    if old.service.engine is not None:
        await old.service.engine.stop()
    await asyncio.to_thread(old.service.close)


class Companion:
    """A service of another version, which runs as long as the application does."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def start(self) -> None:
        """Start its language model."""
        if self._service.engine is not None:
            await self._service.engine.start()

    async def stop(self) -> None:
        """End it."""
        if self._service.engine is not None:
            await self._service.engine.stop()
        self._service.close()


class Retraining:
    """Retrains in a process of its own, again and again; the watch finds a version that passes."""

    def __init__(self, run: Path, store: str, seconds: float, repeats: str) -> None:
        self._command = (
            sys.executable, "-m", "corella", "retrain", str(run), "--store", store, "--repeats", repeats,
        )  # fmt: skip
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._again_and_again())

    async def stop(self) -> None:
        """End; a retraining that is under way resumes the next time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            log.info("retraining begins")
            pipe, merged = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
            process = await asyncio.create_subprocess_exec(*self._command, stdout=pipe, stderr=merged)
            try:
                told, _ = await process.communicate()
            except asyncio.CancelledError:
                process.terminate()
                await process.wait()
                raise
            last = "".join(told.decode("utf-8", "replace").strip().splitlines()[-1:])
            level = logging.INFO if process.returncode == 0 else logging.WARNING
            log.log(level, "retraining ended with %s: %s", process.returncode, last)

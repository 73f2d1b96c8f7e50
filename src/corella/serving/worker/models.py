"""Which versions of a run's language model are loaded: those that somebody asks for."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corella.config.loading import load_config
from corella.errors import UserError
from corella.files import verify_manifest
from corella.runs.folder import RunFolder
from corella.serving.engine.process import ProcessEngine
from corella.serving.engine.wanted import Wanted, manifest_hash
from corella.serving.versions.folder import Versions
from corella.serving.worker.settings import WorkerSettings
from corella.threads import usable_threads

log = logging.getLogger("corella")

_IDLE_SECONDS = 60.0
"""How long a version stays that nobody asks for, where another one is asked for."""
_LOOK_SECONDS = 1.0
"""How often a version that is not there is looked for."""


@dataclass
class Loaded:
    """A version, and when it was asked for last (in seconds of `time.monotonic`)."""

    engine: ProcessEngine
    retrieval: str
    """The hash of its retrieval's manifest; empty where it has none that is served."""
    asked: float


class Models:
    """By the hash of a ranking's manifest, which the services send with what they ask."""

    def __init__(self, run: Path, settings: WorkerSettings) -> None:
        self._versions, self._settings = Versions(run), settings
        self._loaded: dict[str, Loaded] = {}
        self._lock = asyncio.Lock()
        self._missing: dict[str, tuple[float, str]] = {}
        """Why a version is not served, and since when."""
        self.on_problem: Callable[[str], None] = lambda why: None
        """Called with what is wrong, or that nothing is any more."""

    def check(self) -> Wanted:
        """The version that serves. Raises `UserError` where it cannot."""
        return _check(self._versions.folder(self._versions.serving))

    async def start(self) -> None:
        """Begin to load the version that serves."""
        await self._load(await asyncio.to_thread(self.check))

    async def stop(self) -> None:
        """End the processes."""
        for loaded in self._loaded.values():
            await loaded.engine.stop()

    @property
    def engines(self) -> list[ProcessEngine]:
        """Of the versions that are loaded, or being loaded."""
        return [loaded.engine for loaded in self._loaded.values()]

    async def find(self, ranking: str) -> Loaded | str:
        """A version that services ask for, which may still be loading; or why there is none."""
        found = self._loaded.get(ranking)
        if found is None:
            async with self._lock:
                told = await self._begin(ranking)
            if isinstance(told, str):
                return told
            found = told
        found.asked = time.monotonic()
        if len(self._loaded) > 1:
            await self._let_go(found)
        return found

    async def _begin(self, ranking: str) -> Loaded | str:
        """Load a version that is not loaded; one at a time."""
        if ranking in self._loaded:  # meanwhile
            return self._loaded[ranking]
        since, why = self._missing.get(ranking, (0.0, ""))
        if why and time.monotonic() - since < _LOOK_SECONDS:
            return why
        try:
            if len(self._loaded) >= self._settings.versions:
                raise UserError(f"{len(self._loaded)} versions are loaded and asked for (versions)")
            return await self._load(await asyncio.to_thread(self._named, ranking))
        except UserError as error:
            self._missing = {ranking: (time.monotonic(), str(error))}
            return str(error)

    async def _let_go(self, asked: Loaded) -> None:
        """Of versions that nobody has asked for lately, while another one is."""
        idle = asked.asked - _IDLE_SECONDS
        for name in [name for name, loaded in self._loaded.items() if loaded.asked < idle]:
            await self._loaded.pop(name).engine.stop()

    def _named(self, ranking: str) -> Wanted:
        folders = (self._versions.folder(name) for name in reversed(self._versions.names()))
        for folder in folders:
            if manifest_hash(RunFolder(folder).model) == ranking:
                return _check(folder)
        raise UserError(f"{self._versions.run} has no version of the model {ranking[:8]}: other files lie here")

    async def _load(self, wanted: Wanted) -> Loaded:
        settings = self._settings
        engine = ProcessEngine(
            wanted, settings.prefix_cache_mib << 20, settings.batch_tokens, settings.batch_wait_ms / 1000,
            settings.llm_threads or usable_threads(), settings.load_seconds,
        )  # fmt: skip
        engine.on_ready = lambda: self.on_problem("")
        engine.on_fault = self._fault
        await engine.start()
        self._loaded[wanted.ranking] = Loaded(engine, wanted.retrieval, time.monotonic())
        return self._loaded[wanted.ranking]

    def _fault(self, why: str) -> None:
        self.on_problem(why)


def _check(run: Path) -> Wanted:
    """What is to be loaded of a version. Raises `UserError` where it is broken, or cannot be asked per request."""
    folder = RunFolder(run)
    folder.check_ranking()
    verify_manifest(folder.model)
    llm = load_config(folder.model / "config.yaml").llm
    if llm.prompt != "timeline" or llm.crm_tokens:
        raise UserError(
            f"{run}: its language model reads pointwise prompts or soft tokens, which are not served; train one with "
            "llm.prompt=timeline and without llm.crm_tokens"
        )
    retrieval = manifest_hash(folder.retrieval) if folder.has_retrieval else ""
    try:
        if retrieval:
            verify_manifest(folder.retrieval)
    except UserError as error:  # services find the same, and ask for none
        log.warning("retrieval: not served: %s", error)
        retrieval = ""
    return Wanted(run, manifest_hash(folder.model), retrieval)

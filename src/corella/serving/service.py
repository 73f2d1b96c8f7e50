"""One request from start to end: conventional scores, the router, the language model while there is time, an answer.

Everything but the language model and the store runs on the event loop's thread: it is quick, and nothing needs a lock.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from corella.calibration import probability
from corella.data.samples import Samples
from corella.data.scope import Described
from corella.errors import UserError
from corella.llm.prefix import SharedPrompt
from corella.ranking.model import FittedRanking
from corella.ranking.views import request_view
from corella.routing.policies import entropy
from corella.serving.asking import Engine
from corella.serving.live import Event, HistoryEntry, Live
from corella.serving.settings import ServingSettings
from corella.serving.store import PAGE, Store, StoreError

_SYNC_SECONDS, _ADDED_SECONDS, _RETRY_SECONDS = 0.02, 2.0, 1.0
_APPEND_SECONDS, _MOST_APPENDS = 5.0, 1000
"""How long an answer may wait for its turn to be kept, and how many may."""
_AT_ONCE = 100
"""Answers taken in before requests get their turn."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Asker:
    """Who asks: a user id, or a described somebody with a history."""

    user_id: str | None
    profile: Described | None = None
    history: Sequence[HistoryEntry] = ()


@dataclass(frozen=True)
class Scored:
    """What a request gets: for each item, arrays of length n."""

    probability: Floats
    crm: Floats
    entropy: Floats
    """Of the conventional model's probability, in nats."""
    llm: Floats
    """nan where the language model did not answer."""
    priority: Floats
    routed: npt.NDArray[np.bool_]
    """Whom the router chose."""
    fallback: list[str]
    """Why a routed item has the conventional model's score only: `deadline`, `overload`, `loading`, `fault`; else
    empty."""
    threshold: float
    whole_requests: bool
    """Whether the budget counts requests, so that the router decides on all items of one together."""
    seconds: dict[str, float]
    """`crm` and `llm`, where each was asked."""


class Service:
    """A trained ranking, live state, a store of answers and a language model."""

    def __init__(self, model: FittedRanking, store: Store, engine: Engine | None, settings: ServingSettings) -> None:
        """`engine` None: the conventional model alone. Reads the whole store."""
        self.model, self.store, self.engine, self.settings = model, store, engine, settings
        self.live = Live(model.dataset)
        self.healthy = True
        """Whether the store answered the last time."""
        self._cursor = ""
        self._clock: int | None = self.live.last_time if settings.clock == "log" else None
        self._reading, self._writing = (ThreadPoolExecutor(1, name) for name in ("store-read", "store-append"))
        self._sync: asyncio.Task[None] | None = None
        self._failed = 0.0
        self._appends = 0
        """Answers on their way to the store."""
        try:
            more = True
            while more:
                events, self._cursor = store.since(self._cursor)
                self._take(events)
                more = len(events) == PAGE
        except StoreError as error:
            raise UserError(f"the store cannot be read: {error}") from None

    async def sync(self, most: float = _SYNC_SECONDS) -> None:
        """Take in what any server has added to the store; requests wait for it `most` seconds. Where the store is slow
        or does not answer, what is known stays."""
        if self._sync is None or self._sync.done():
            if not self.healthy and time.monotonic() - self._failed < _RETRY_SECONDS:
                return
            self._sync = asyncio.get_running_loop().create_task(self._read_store())
        await asyncio.wait([self._sync], timeout=most)

    async def _read_store(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            more = True
            while more:
                events, self._cursor = await loop.run_in_executor(self._reading, self.store.since, self._cursor)
                for start in range(0, len(events), _AT_ONCE):
                    self._take(events[start : start + _AT_ONCE])
                    await asyncio.sleep(0)  # requests have their turn
                more = len(events) == PAGE
            self.healthy = True
        except StoreError:
            self.healthy, self._failed = False, time.monotonic()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if event.item_id in self.live.items:  # a store may serve several catalogues
                self.live.add(event if self._clock is None else replace(event, timestamp=self._clock))

    async def add(self, event: Event) -> None:
        """Keep an answer. Raises `StoreError`; then it may not be kept."""
        if self._appends >= _MOST_APPENDS:
            raise StoreError(f"{self._appends} answers wait to be kept")
        self._appends += 1
        try:
            until = time.monotonic() + _APPEND_SECONDS
            await asyncio.get_running_loop().run_in_executor(self._writing, self._append, event, until)
        finally:
            self._appends -= 1
        if self._sync is not None and not self._sync.done():
            await asyncio.wait([self._sync])  # that one may have begun before the answer was there
        await self.sync(_ADDED_SECONDS)

    def _append(self, event: Event, until: float) -> None:
        """On the thread that writes: what has waited for too long is not kept any more."""
        if time.monotonic() > until:
            raise StoreError("an answer has waited for too long to be kept")
        self.store.append(event)

    def close(self) -> None:
        """Close the store."""
        for executor in (self._reading, self._writing):
            executor.shutdown()
        self.store.close()

    async def candidates(self, asker: Asker, count: int, deadline: float) -> list[str]:
        """Ids of items that the asker has not answered: what the retrieval finds, or, where there is none or it has no
        time, what most people like. Half of the time goes to retrieval at most."""
        await self.sync()
        described = [(answer.item_id, answer.label) for answer in asker.history]
        answered = described if asker.user_id is None else self.live.answered(asker.user_id)
        seen = {item for item, _ in answered}
        found: list[str] = []
        if self.engine is not None:
            now = time.monotonic()
            liked = [item for item, label in answered if label == 1]
            half = now + (deadline - now) / 2
            found = await self.engine.retrieve(asker.user_id or "", liked, sorted(seen), count, half)
        return [item for item in found if item in self.live.items] or self.live.most_liked(count, seen)

    async def score(
        self, asker: Asker, items: Sequence[str | Described], share: float | None = None, deadline: float | None = None
    ) -> Scored:
        """Score items for somebody. `share`: see `ServingSettings.share`; `deadline`: in seconds of `time.monotonic`.

        Raises `UserError` for an unknown item in the asker's history; one to score is scored as any unknown item.
        """
        began = time.monotonic()
        settings = self.settings
        if deadline is None:
            deadline = began + settings.deadline_ms / 1000
        await self.sync()
        scope, samples = self.live.scope(asker.user_id, items, asker.profile, asker.history, self._clock)
        model = request_view(self.model, scope)
        wanted = settings.share if share is None else share
        if wanted is None:
            wanted = self.model.share
        crm, priority, routed = model.decide(samples, wanted)
        seconds = {"crm": time.monotonic() - began}
        z_llm, fallback = np.full(len(samples), np.nan, dtype=np.float32), [""] * len(samples)
        if routed.any():
            asked = time.monotonic()
            await asyncio.sleep(0)  # others first: what follows takes a few milliseconds too
            await self._ask(model, asker.user_id or "", samples, priority, routed, deadline, z_llm, fallback)
            seconds["llm"] = time.monotonic() - asked
        answered = routed & ~np.isnan(z_llm)
        said = model.combine(crm, model.corrected(samples, z_llm), priority, answered)
        p_crm = probability(said.crm)
        return Scored(
            said.probability, p_crm, entropy(p_crm), probability(said.llm), priority, routed, fallback,
            self.model.router.threshold(wanted), self.model.config.routing.budget_unit == "requests", seconds,
        )  # fmt: skip

    async def _ask(
        self, model: FittedRanking, user: str, samples: Samples, priority: Floats, routed: npt.NDArray[np.bool_],
        deadline: float, z_llm: npt.NDArray[np.float32], fallback: list[str],
    ) -> None:  # fmt: skip
        """Ask for the routed samples, the most urgent first, as many as there is time for; fills in `z_llm` and
        `fallback`."""
        index = np.flatnonzero(routed)
        sharing = model.llm.prompts.sharing
        if self.engine is None or not self.engine.ready or sharing is None:
            for i in index:
                fallback[i] = "loading" if self.engine is not None and self.engine.loading else "fault"
            return
        llm = self.model.config.llm
        index = index[np.argsort(-priority[index], kind="stable")]
        shared = sharing.shared(samples.take(index), llm.eval_context_share, llm.eval_window_tokens)
        room = self.engine.room(deadline - time.monotonic())
        main = max(shared, key=lambda prompt: len(prompt.branches))  # one prefix of a user is kept
        jobs: list[tuple[str, SharedPrompt, npt.NDArray[np.int64]]] = []
        for prompt in shared:
            key = user if prompt is main else ""
            unread = self.engine.unread(key, prompt.prefix)
            cut, room = _within(prompt, unread, room)
            places = index[prompt.sample]
            if cut.branches:
                jobs.append((key, cut, places[: len(cut.branches)]))
            for i in places[len(cut.branches) :]:
                fallback[i] = "overload"
            if not cut.branches:
                self.engine.warm(key, prompt.prefix)
        asked = (self.engine.ask(key, [prompt], deadline) for key, prompt, _ in jobs)
        answers = [answer for (answer,) in await asyncio.gather(*asked)]
        for (_, _, places), answer in zip(jobs, answers, strict=True):
            if answer.logits is not None:
                z_llm[places] = answer.logits
            for i in places:
                if np.isnan(z_llm[i]):  # also where an answer says nothing of one branch
                    fallback[i] = answer.reason or "fault"


def _within(prompt: SharedPrompt, unread: int, room: float) -> tuple[SharedPrompt, float]:
    """The prompt's first branches whose tokens, with `unread` ones of the prefix, fit into `room`; and what is left."""
    lengths = np.cumsum([len(branch) for branch in prompt.branches]) + unread
    count = int(np.searchsorted(lengths, room, side="right"))
    left = room - float(lengths[count - 1]) if count else room
    return SharedPrompt(prompt.prefix, prompt.branches[:count], prompt.sample[:count]), left

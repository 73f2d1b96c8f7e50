"""One request from start to end: conventional scores, the router, the language model while there is time, an answer.

State is read and changed on the event loop's thread only, so nothing needs a lock; models, texts and the store have
threads of their own.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from corella.calibration import probability
from corella.crm.trees import feature_names
from corella.data.samples import Samples
from corella.data.scope import Described
from corella.llm.prefix import SharedPrompt
from corella.ranking.model import FittedRanking
from corella.ranking.views import request_view
from corella.retrieval.live import Reason
from corella.routing.policies import entropy
from corella.serving.engine.asking import Allowed, Because, Candidates, Engine, Similar
from corella.serving.feed import Feed
from corella.serving.kinds import kinds_of
from corella.serving.settings import ServingSettings
from corella.serving.state.filters import Filters
from corella.serving.state.live import HistoryEntry, Live
from corella.serving.state.popular import Popular, Window
from corella.serving.state.search import Search
from corella.serving.store.log import Store

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_TIE = 1e-6
"""How much all likes ever count beside what was done lately: only where that is equal."""


@dataclass(frozen=True)
class Asker:
    """Who asks: a user id, or a described somebody with a history."""

    user_id: str | None
    profile: Described | None = None
    history: Sequence[HistoryEntry] = ()


@dataclass(frozen=True)
class Scored:
    """What a request gets: for each item, arrays of length n."""

    probability: Doubles
    crm: Doubles
    entropy: Doubles
    """Of the conventional model's probability, in nats."""
    llm: Doubles
    """nan where the language model did not answer."""
    priority: Doubles
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


@dataclass(frozen=True)
class Alike:
    """Items like another."""

    items: list[tuple[str, float]]
    """Ids and how much alike, most first."""
    by: Literal["behaviour", "text"]
    """`behaviour`: what people liked together, and texts as far as the retrieval was trained on them."""


class Service:
    """A trained ranking, what is known now, and a language model."""

    def __init__(self, model: FittedRanking, store: Store, engine: Engine | None, settings: ServingSettings) -> None:
        """`engine` None: the conventional model alone. Reads the whole store."""
        self.model, self.engine, self.settings = model, engine, settings
        kinds = kinds_of(model.dataset.config, settings.events)
        self.live = Live(model.dataset, settings.repeats)
        self.popular = Popular(self.live.dataset, kinds["like"].weight)
        self.feed = Feed(store, self.live, self.popular, kinds, engine, settings.clock == "log")
        self.filters = Filters(self.live.dataset, list(self.live.catalogue.fields))
        self.search = Search(self.live.dataset.items["text"].to_list())
        self._scoring = ThreadPoolExecutor(1, "score")
        """Models run beside the event loop, one request at a time."""

    def close(self) -> None:
        """Close the store."""
        self._scoring.shutdown()
        self.feed.close()

    async def read(self, texts: Sequence[str]) -> None:
        """Read texts that a request describes, so that scoring finds them read."""
        if texts:
            await asyncio.to_thread(self.live.reader.read, texts)

    def answered(self, asker: Asker) -> list[tuple[str, int]]:
        """What somebody said, oldest first: item ids and labels."""
        if asker.user_id is not None:
            return self.live.answered(asker.user_id)
        return [(answer.item_id, answer.label) for answer in asker.history]

    async def candidates(
        self, asker: Asker, count: int, deadline: float, without: Sequence[str] = (), allowed: Bools | None = None
    ) -> list[str]:
        """Ids of items that the asker has not answered: what the retrieval finds, or, where there is none, it has no
        time or nobody knows what the asker likes, what is popular now. Half of the time goes to retrieval at most.
        `without`: items that must not come; `allowed`: by code, the only ones that may."""
        await self.feed.sync()
        live, catalogue = self.live, self.live.catalogue
        answered = self.answered(asker)
        seen = {item for item, _ in answered} | set(without)
        liked = [item for item, label in answered if label == 1]
        open_now = catalogue.open if allowed is None else catalogue.open & allowed[: len(catalogue)]
        found: list[str] = []
        if self.engine is not None and self.engine.retrieves and liked:
            now = time.monotonic()
            question = Candidates(asker.user_id or "", liked, sorted(seen), count, self._allowed(open_now))
            told = await self.engine.retrieve(question, now + (deadline - now) / 2)
            found = [one.item_id for one in told[0]] if told else []
            found = [item for item in found if item in catalogue]
        if found:
            return found
        return live.best(self.popularity(), count, seen, open_now)

    def popularity(self, window: Window = "30d") -> Doubles:
        """By item code: how popular it is now, and among equally popular ones how many ever liked it."""
        likes = self.live.likes()
        recent = self.popular.scores(len(likes), self.feed.now, window)
        return np.asarray(recent + likes / (likes.max(initial=0) + 1) * _TIE)

    def _allowed(self, open_now: Bools) -> Allowed:
        trained, ids = self.live.catalogue.trained, self.live.catalogue.ids
        return Allowed(open_now[:trained], [ids[trained + n] for n in np.flatnonzero(open_now[trained:]).tolist()])

    async def similar(self, item_id: str, count: int, deadline: float, allowed: Bools | None = None) -> Alike:
        """Items like one of the catalogue: by behaviour and text, or, where there is no retrieval or it has no time, by
        their texts alone; none without either."""
        await self.feed.sync()
        catalogue = self.live.catalogue
        open_now = catalogue.open if allowed is None else catalogue.open & allowed[: len(catalogue)]
        if self.engine is not None and self.engine.retrieves:
            told = await self.engine.retrieve(Similar(item_id, count, self._allowed(open_now)), deadline)
            if told and told[0]:
                return Alike([(one.item_id, one.part) for one in told[0] if one.item_id in catalogue], "behaviour")
        text, code = self.live.text, catalogue.code(item_id)
        if text is None or code is None:
            return Alike([], "text")
        open_now = open_now.copy()
        open_now[code] = False
        vectors = text.vectors[: len(open_now)]
        near = await asyncio.to_thread(lambda: (vectors @ vectors[code]).astype(np.float64))
        best = self.live.best(near, count, set(), open_now)
        return Alike([(item, float(near[catalogue.codes[item]])) for item in best], "text")

    async def because(self, asker: Asker, items: Sequence[str], deadline: float) -> list[list[Reason]]:
        """For each item what liked items add to its linear retrieval score, the largest first; empty where there is no
        retrieval, or it has no time."""
        liked = [item for item, label in self.answered(asker) if label == 1]
        if self.engine is None or not self.engine.retrieves or not liked or not items:
            return [[] for _ in items]
        told = await self.engine.retrieve(Because(liked, list(items)), deadline)
        return told if told is not None and len(told) == len(items) else [[] for _ in items]

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
        await self.feed.sync()
        await self.read([item.text for item in items if not isinstance(item, str)])
        scope, samples = self.live.scope(asker.user_id, items, asker.profile, asker.history, self.feed.now)
        model = request_view(self.model, scope)
        wanted = settings.share if share is None else share
        if wanted is None:
            wanted = self.model.share
        loop = asyncio.get_running_loop()
        crm, priority, routed = await loop.run_in_executor(self._scoring, model.decide, samples, wanted)
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

    async def contributions(self, asker: Asker, items: Sequence[str]) -> tuple[list[str], Doubles]:
        """What the trees of the served models looked at: names of features, and what each adds to the log-odds of each
        item, float64 [items, features]; no names where there are no trees."""
        scope, samples = self.live.scope(asker.user_id, items, asker.profile, asker.history, self.feed.now)
        base = request_view(self.model, scope).base
        if base.ensemble is None:
            return [], np.zeros((len(items), 0))
        names = feature_names(base.encoder, self.model.dataset.count_names, self.model.dataset.text_names)
        compute = partial(base.ensemble.trees.contributions, base.encoder, samples)
        return names, await asyncio.get_running_loop().run_in_executor(self._scoring, compute)

    async def _ask(
        self, model: FittedRanking, user: str, samples: Samples, priority: Doubles, routed: npt.NDArray[np.bool_],
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

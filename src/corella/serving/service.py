"""One request from start to end: conventional scores, the router, the language model while there is time, an answer.

State is read and changed on the event loop's thread only, so nothing needs a lock; large requests, texts and the store
have threads of their own.
"""

import asyncio
import gc
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
from corella.data.scope import Described
from corella.errors import UserError, suggest
from corella.llm.bound import bounded, ordinary_texts
from corella.ranking.model import FittedRanking
from corella.ranking.views import request_view
from corella.retrieval.live import Reason
from corella.routing.policies import entropy
from corella.serving.budget import Budget
from corella.serving.engine.asking import Allowed, Because, Candidates, Engine, Similar
from corella.serving.feed import Feed
from corella.serving.kinds import kinds_of
from corella.serving.question import Asked, ask
from corella.serving.settings import ServingSettings
from corella.serving.state.filters import Filters
from corella.serving.state.live import HistoryEntry, Live
from corella.serving.state.popular import Popular, Window
from corella.serving.state.search import Search
from corella.serving.store.log import Store
from corella.serving.trial.tracker import Tracker

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_FEW = 128
"""Items that are scored on the event loop's thread."""
_REASONS = 2
"""Liked items that are told as a reason."""
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
    """Why a routed item has the conventional model's score only: `deadline`, `overload`, `budget`, `loading`,
    `fault`; else empty."""
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

    def __init__(
        self, model: FittedRanking, store: Store, engine: Engine | None, settings: ServingSettings, included: str = "",
        budget: Budget | None = None,
    ) -> None:  # fmt: skip
        """`engine` None: the conventional model alone. Reads the whole store; `included`: see `Feed`; `budget`: of what
        the language model reads, None: as much as there is time for."""
        self.model, self.engine, self.settings, self.budget = model, engine, settings, budget
        tracker = None if settings.experiment is None else Tracker(settings.experiment)
        kinds = kinds_of(model.dataset.config, settings.events)
        for outcome in settings.experiment.outcomes if settings.experiment is not None else ():
            if outcome not in kinds:  # it would count nothing, without a word
                raise UserError(f"experiment.outcomes: no kind of event '{outcome}'; {suggest(outcome, kinds)}")
        self.live = Live(model.dataset, settings.repeats)
        self.popular = Popular(self.live.dataset, kinds["like"].weight)
        self.feed = Feed(store, self.live, self.popular, kinds, engine, settings.clock == "log", included, tracker)
        self.filters = Filters(self.live.dataset, list(self.live.catalogue.fields))
        self.search = Search(self.live.dataset.items["text"].to_list())
        self._ordinary = [Described(text) for text in ordinary_texts(self.live.dataset.items["text"].to_list())]
        self._scoring = ThreadPoolExecutor(1, "score")
        """Large requests are scored beside the event loop, one at a time."""

    def close(self) -> None:
        """Close the store."""
        self._scoring.shutdown()
        self.feed.close()

    async def warm(self) -> None:
        """Answer once for nobody, so that the first caller does not wait for what is loaded at first use."""
        nobody, some = Asker(None), self.live.catalogue.ids[:2]
        await self.score(nobody, some, share=0.0)
        await self.contributions(nobody, some)
        gc.freeze()  # what is there stays: looking through it again and again would hold everybody up

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
        told = await self.engine.retrieve(Because(liked, list(items), _REASONS), deadline)
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
        wanted = settings.share if share is None else share
        if wanted is None:
            wanted = self.model.share
        foreign = np.array([self._foreign(item) for item in items])
        routes = self.model.router.threshold(wanted) < float("inf")
        # What strangers write is compared with ordinary texts, see `bounded`; only where it may be asked about.
        asked_too = self._ordinary if routes and foreign.any() else []
        everything = [*items, *asked_too]
        scope, all_samples = self.live.scope(asker.user_id, everything, asker.profile, asker.history, self.feed.now)
        samples = all_samples.take(np.arange(len(items)))
        if len(items) <= _FEW and not foreign.any():  # some milliseconds: changing threads would take as long
            model = request_view(self.model, scope)
            crm, priority, routed = model.decide(samples, wanted)
        else:
            loop = asyncio.get_running_loop()
            model = await loop.run_in_executor(self._scoring, request_view, self.model, scope)
            crm, priority, routed = await loop.run_in_executor(self._scoring, model.decide, samples, wanted)
        seconds = {"crm": time.monotonic() - began}
        z_llm, fallback = np.full(len(samples), np.nan, dtype=np.float32), [""] * len(samples)
        if routed.any():
            asked = time.monotonic()
            await asyncio.sleep(0)  # others first: what follows takes a few milliseconds too
            compared = asked_too if (routed & foreign).any() else []
            first = np.r_[priority, np.full(len(compared), np.inf)]
            chosen = np.r_[routed, np.ones(len(compared), dtype=bool)]
            question = Asked(model, asker.user_id or "", all_samples.take(np.arange(len(chosen))), first, chosen)
            told, why = await ask(self.engine, question, deadline, self.budget)
            z_llm, fallback = told[: len(items)], why[: len(items)]
            if compared:
                z_llm[foreign] = bounded(z_llm[foreign], told[len(items) :])
                unsaid = routed & foreign & np.isnan(z_llm)
                fallback = [why or "overload" if bare else why for why, bare in zip(fallback, unsaid, strict=True)]
            seconds["llm"] = time.monotonic() - asked
        answered = routed & ~np.isnan(z_llm)
        said = model.combine(crm, model.corrected(samples, z_llm), priority, answered)
        p_crm = probability(said.crm)
        return Scored(
            said.probability, p_crm, entropy(p_crm), probability(said.llm), priority, routed, fallback,
            self.model.router.threshold(wanted), self.model.config.routing.budget_unit == "requests", seconds,
        )  # fmt: skip

    def _foreign(self, item: str | Described) -> bool:
        """Whether the training data do not have its text: a request describes it, or somebody has put it."""
        if not isinstance(item, str):
            return True
        code = self.live.catalogue.code(item)
        return code is not None and self.live.catalogue.described(code) is not None

    async def contributions(self, asker: Asker, items: Sequence[str]) -> tuple[list[str], Doubles]:
        """What the trees of the served models looked at: names of features, and what each adds to the log-odds of each
        item, float64 [items, features]; no names where there are no trees."""
        scope, samples = self.live.scope(asker.user_id, items, asker.profile, asker.history, self.feed.now)
        loop = asyncio.get_running_loop()
        base = (await loop.run_in_executor(self._scoring, request_view, self.model, scope)).base
        if base.ensemble is None:
            return [], np.zeros((len(items), 0))
        names = feature_names(base.encoder, self.model.dataset.count_names, self.model.dataset.text_names)
        compute = partial(base.ensemble.trees.contributions, base.encoder, samples)
        return names, await loop.run_in_executor(self._scoring, compute)

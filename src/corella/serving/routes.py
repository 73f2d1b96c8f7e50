"""Version 1 of the API, and what operators and machines ask for."""

import asyncio
import time
from collections.abc import Sequence
from itertools import islice
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from corella.data.dataset import Dataset
from corella.data.scope import Described
from corella.data.times import read_time
from corella.errors import UserError
from corella.features.ratings import answer_label
from corella.serving.answers import answer_of, asker_of, deadline_of
from corella.serving.catalogue import unknown
from corella.serving.context import Context
from corella.serving.keys import Key, find_key
from corella.serving.live import Event
from corella.serving.schema import (
    Accepted,
    Answered,
    Asking,
    Curve,
    FoundItem,
    History,
    HistoryRow,
    NewEvent,
    Readiness,
    RecommendRequest,
    ScoreRequest,
    Timing,
    TrafficNow,
)
from corella.serving.service import Scored
from corella.serving.traffic import Request as Counted

router = APIRouter()
"""For everybody with a key."""
unguarded = APIRouter(include_in_schema=False)
"""For machines that watch the service: no key."""


# Everything is `async`, dependencies too: what is not, would run on other threads, and live state is for one.


async def _context(request: Request) -> Context:
    found: Context = request.app.state.context
    return found


Shared = Annotated[Context, Depends(_context)]


async def may_read(request: Request, context: Shared) -> None:
    """Let callers with a key of any scope pass, as long as neither they nor all together ask for too much."""
    _admit(request, context, "read")


async def may_write(request: Request, context: Shared) -> None:
    """The same for keys that may write."""
    _admit(request, context, "write")


def _admit(request: Request, context: Context, scope: str) -> None:
    caller = address(request)
    if context.keys:
        key: Key | None = getattr(request.state, "key", None)  # set for whoever is let in
        if key is None:
            raise HTTPException(401, NO_KEY, {"WWW-Authenticate": "Bearer"})
        if scope == "write" and key.scope != "write":
            raise HTTPException(403, f"the key '{key.name}' may only read")
        caller = key.name
    if not context.limit.allows(caller):
        raise HTTPException(429, "too many requests with this key or address", {"Retry-After": "1"})
    if context.lag.seconds * 1000 > context.service.settings.overload_ms:
        raise HTTPException(429, "the service cannot keep up", {"Retry-After": "1"})


NO_KEY = "send a key: Authorization: Bearer KEY"


def key_of(request: Request, keys: list[Key]) -> Key | None:
    """The key that the caller has sent."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return find_key(keys, token.strip()) if scheme.lower() == "bearer" else None


def address(request: Request) -> str:
    """Where the caller is."""
    return request.client.host if request.client else ""


_FUTURE_SECONDS = 86_400
READ, WRITE = [Depends(may_read)], [Depends(may_write)]


@router.post("/v1/score", dependencies=READ, summary="Score items for somebody", response_model=Answered)
async def score(asking: ScoreRequest, context: Shared) -> Response:
    """The items in the order asked, each with both models' opinions, and who decided."""
    began = time.monotonic()
    most = context.service.settings.max_candidates
    if len(asking.items) > most:
        raise UserError(f"items: {len(asking.items)}; at most {most}")
    known = context.catalogue.item_fields
    items = [item if isinstance(item, str) else unknown(item.text, item.fields, known) for item in asking.items]
    deadline = deadline_of(context, asking, began)
    found = await _scored(context, asking, items, began, deadline)
    return answer_of(context.catalogue, found, items, range(len(items)), began, deadline)


@router.post("/v1/recommend", dependencies=READ, summary="The best items for somebody", response_model=Answered)
async def recommend(asking: RecommendRequest, context: Shared) -> Response:
    """The best items that the user has not answered, best first, among retrieved candidates (the most liked items,
    where the run has no retrieval or it has no time)."""
    began = time.monotonic()
    wanted = min(max(asking.candidates, asking.k), context.service.settings.max_candidates)
    who, deadline = asker_of(context, asking), deadline_of(context, asking, began)
    items: list[str | Described] = list(await context.service.candidates(who, wanted, deadline))
    if not items:  # there is nothing that the user has not answered
        waits = 1000 * (deadline - began)
        nothing = Timing(total=1000 * (time.monotonic() - began), crm=0.0, llm=None, deadline=waits)
        body = Answered(items=[], share_routed=0.0, milliseconds=nothing)
        return Response(body.model_dump_json(), media_type="application/json")
    found = await _scored(context, asking, items, began, deadline)
    order = np.argsort(-found.probability, kind="stable")[: asking.k]
    return answer_of(context.catalogue, found, items, order.tolist(), began, deadline)


@router.post("/v1/events", dependencies=WRITE, summary="Add an answer", status_code=201)
async def events(new: NewEvent, context: Shared) -> Accepted:
    """Kept when this returns; the next request sees it."""
    live = context.service.live
    if new.item_id not in live.items:
        raise UserError(f"no item_id '{new.item_id}' in the catalogue")
    moment = int(time.time()) if new.timestamp is None else _moment(new.timestamp, live.dataset)
    if moment > time.time() + _FUTURE_SECONDS:
        raise UserError(f"timestamp: {moment} is in the future")
    scale = live.dataset.rating_scale
    if scale is not None and new.rating is not None and not scale.low <= new.rating <= scale.high:
        raise UserError(
            f"rating: {new.rating:g} is beyond the scale of the training data, {scale.low:g} to {scale.high:g}"
        )
    label = answer_label(live.dataset.config, new.liked, new.rating)
    counted = live.counts_once_more(new.user_id, new.item_id)
    await context.service.add(Event(new.user_id, new.item_id, label, moment, new.rating))
    context.metrics.events.inc()
    return Accepted(user_id=new.user_id, answers=len(live.answered(new.user_id)), counted=counted)


@router.get("/v1/items/search", dependencies=READ, summary="Find items by their text")
async def search(
    context: Shared,
    q: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[FoundItem]:
    """Items whose text has every word, the most liked first; without words the most liked."""
    likes = context.service.live.likes().copy()  # on another thread: a large catalogue takes a while
    found = await asyncio.to_thread(context.catalogue.search, q, likes, limit)
    return [FoundItem(item_id=item, text=text) for item, text in found]


@router.get("/v1/users/search", dependencies=READ, summary="Find users by the beginning of their id")
async def users(
    context: Shared,
    q: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[str]:
    """Ids of users of the training data."""
    return list(islice((name for name in context.service.live.users if name.startswith(q)), limit))


@router.get("/v1/users/{user_id:path}/history", dependencies=READ, summary="What a user has answered")
async def history(user_id: str, context: Shared, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> History:
    """The newest answers first, and the user's text; empty for somebody unknown."""
    await context.service.sync()
    live = context.service.live
    past = live.answered(user_id)[::-1]
    rows = [HistoryRow(item_id=i, text=context.catalogue.text(i), liked=bool(label)) for i, label in past[:limit]]
    return History(user_id=user_id, text=live.user_text(user_id), answers=len(past), history=rows)


@router.get("/v1/curve", dependencies=READ, summary="What the language model's budget buys")
async def curve(context: Shared) -> Curve:
    """AUC on test rows by the share routed, as the run's evaluation measured it, and what an item costs."""
    service = context.service
    share = service.model.share if service.settings.share is None else service.settings.share
    return Curve(
        share=share, deadline_ms=service.settings.deadline_ms,
        milliseconds_per_item=service.model.facts.milliseconds_per_sample, curve=context.curve,
    )  # fmt: skip


@router.get("/v1/traffic", dependencies=READ, summary="The last ten minutes")
async def traffic(context: Shared) -> TrafficNow:
    """Requests, latency by path, share routed, fallbacks."""
    engine = context.service.engine
    trust = None if engine is None else engine.trust
    return TrafficNow(
        window=context.traffic.summary(), engine="off" if engine is None else "ready" if engine.ready else "not ready",
        trust=trust, store=context.service.healthy, lag=context.lag.seconds,
    )  # fmt: skip


@unguarded.get("/healthz")
async def healthy() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@unguarded.get("/readyz")
async def ready(response: Response, context: Shared) -> Readiness:
    """Ready as soon as the conventional model can answer; the language model may still be loading."""
    service = context.service
    await service.sync()
    response.status_code = 200 if service.healthy else 503
    return Readiness(store=service.healthy, language_model=service.engine is not None and service.engine.ready)


@unguarded.get("/metrics")
async def prometheus(context: Shared) -> Response:
    """In Prometheus' text format."""
    context.metrics.lag.set(context.lag.seconds)
    engine = context.service.engine
    if engine is not None and engine.trust is not None:
        context.metrics.trust.set(engine.trust)
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _moment(given: int | float | str, dataset: Dataset) -> int:
    """A time as the training data's were read, in seconds since 1970. Raises `UserError` for what is none."""
    found = read_time(given, dataset.time_range)
    if found is None:
        raise UserError(
            f"timestamp: {given!r} is no time; write seconds since 1970 or a date like 2020-09-13T12:47:33Z, or leave "
            "it out where it is not known"
        )
    return int(found // 1)


async def _scored(
    context: Context, asking: Asking, items: Sequence[str | Described], began: float, deadline: float
) -> Scored:
    """Score, and count what happened."""
    found = await context.service.score(asker_of(context, asking), items, asking.share, deadline)
    took = time.monotonic() - began
    answered = int((found.routed & ~np.isnan(found.llm)).sum())
    reasons = tuple(reason for reason in found.fallback if reason)
    for name, count in (("llm", answered), ("crm", len(items) - answered)):
        context.metrics.items.labels(name).inc(count)
    for reason in reasons:
        context.metrics.fallbacks.labels(reason).inc()
    context.traffic.add(Counted(time.time(), 1000 * took, len(items), int(found.routed.sum()), answered, reasons))
    context.metrics.seconds.labels("llm" if found.routed.any() else "crm").observe(took)
    return found

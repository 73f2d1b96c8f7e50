"""Items that the service finds: for somebody, like another, popular, or looked for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from corella.errors import UserError
from corella.serving.http.access import READ, Shared, charge, charge_for
from corella.serving.http.answers import asker_of, deadline_of, longest, scored_items, timing
from corella.serving.http.cards import card
from corella.serving.http.context import Context
from corella.serving.http.lines import NDJSON, lines_of
from corella.serving.http.routes.scoring import scored
from corella.serving.http.schema import Wrong
from corella.serving.http.schema_listing import (
    Alike,
    Feature,
    Filter,
    Liked,
    ListedItem,
    PopularItem,
    PopularItems,
    PopularRequest,
    Recommended,
    RecommendRequest,
    SearchHit,
    SearchResults,
    SimilarItems,
    SimilarRequest,
    Why,
)  # fmt: skip
from corella.serving.http.shown import Page, drawn, in_its_arm, keep_page
from corella.serving.listing import Cap, Wishes, arranged
from corella.serving.reasons import aspects, liked_parts, sentence
from corella.serving.service import Asker
from corella.serving.settings import MOST

Bools = npt.NDArray[np.bool_]

router = APIRouter()

_LONGEST = 20_000
"""Bytes of a line."""


@router.post("/v1/recommend", dependencies=READ, summary="The best items for somebody", response_model=Recommended)
async def recommend(asking: RecommendRequest, request: Request, context: Shared) -> Response:
    """The best items that the user has not answered, best first, among retrieved candidates. Popular ones, where
    the run has no retrieval, it has no time, or nothing is known that the user likes."""
    charge_for(request, context, asking.candidates, len(asking.history), [])
    found = await _recommended(asking, context)
    return Response(found.model_dump_json(), media_type="application/json")


@router.post(
    "/v1/recommend/bulk", dependencies=READ, summary="The best items for many", response_class=StreamingResponse,
    openapi_extra=NDJSON,
)  # fmt: skip
async def recommend_bulk(request: Request, context: Shared) -> StreamingResponse:
    """NDJSON in, NDJSON out: a line of the answer for each line of the request, which is one of `/v1/recommend`. A line
    that is not right is answered by its error. Lines are worked on one after the other, behind the requests of
    others."""
    lines: list[tuple[int, bytes]] = []
    async for line in lines_of(request, _LONGEST):  # all of them: once an answer has begun nothing more is received
        lines.append(line)
        if len(lines) > MOST:
            raise HTTPException(413, f"more than {MOST:,} lines")

    async def answers() -> AsyncIterator[bytes]:
        for number, text in lines:
            try:
                asking = RecommendRequest.model_validate_json(text)
                await _wait_for(request, context, 1 + len(asking.history) / 100)
                body = (await _recommended(asking, context)).model_dump_json()
            except ValidationError as error:
                first = error.errors()[0]
                wrong = Wrong(where=[str(part) for part in first["loc"]], what=first["msg"])
                body = json.dumps({"line": number, "error": wrong.what, "where": wrong.where})
            except UserError as error:
                body = json.dumps({"line": number, "error": str(error)})
            yield body.encode("utf-8", "replace") + b"\n"

    return StreamingResponse(answers(), media_type="application/x-ndjson")


@router.post("/v1/similar", dependencies=READ, summary="Items like another")
async def similar(asking: SimilarRequest, context: Shared) -> SimilarItems:
    """By what people liked together and by text; by text alone, where the run has no retrieval or it has no time."""
    catalogue = context.service.live.catalogue
    if asking.item_id not in catalogue:
        raise HTTPException(404, "there is no such item")
    allowed = await allowed_items(context, asking.filters)
    until = time.monotonic() + longest(context) / 1000
    unwanted = set(asking.exclude)
    found = await context.service.similar(asking.item_id, min(asking.k + len(unwanted), 1000), until, allowed)
    rows = [Alike(**vars(card(context, item)), score=score) for item, score in found.items if item not in unwanted]
    return SimilarItems(items=rows[: asking.k], by=found.by, version=context.version)


@router.post("/v1/popular", dependencies=READ, summary="What is popular now")
async def popular(asking: PopularRequest, context: Shared) -> PopularItems:
    """By the weight of what was done with items in a window; among equal ones those that more people ever liked."""
    await context.service.feed.sync()
    allowed = await allowed_items(context, asking.filters)
    scores = context.service.popularity(asking.window)
    live = context.service.live
    best = live.best(scores, asking.k, set(asking.exclude), allowed)
    rows = [PopularItem(**vars(card(context, item)), score=float(scores[live.catalogue.codes[item]])) for item in best]
    return PopularItems(items=rows, window=asking.window)


@router.get("/v1/items/search", dependencies=READ, summary="Find items by their text")
async def search(
    context: Shared,
    q: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> SearchResults:
    """Items whose text has every word, the most liked first; where none has, those whose text is written most alike.
    Without words the most liked."""
    service, catalogue = context.service, context.service.live.catalogue
    likes = np.where(catalogue.open, service.live.likes(), -1.0)
    changed = {code: catalogue.texts[code] for code in catalogue.changed()}
    hits = await asyncio.to_thread(service.search.find, q, changed, likes, limit)
    rows = [SearchHit(**vars(card(context, catalogue.ids[code]))) for code in hits.codes]
    said = "" if hits.exact else f"No item has all words of “{q}”."
    if not hits.exact:
        said += " These are written alike." if rows else " None is written alike."
    elif not rows:
        said = "There are no items."
    return SearchResults(items=rows, exact=hits.exact, said=said)


async def allowed_items(context: Context, filters: Sequence[Filter]) -> Bools | None:
    """By item code: whether the filters hold; None without filters. Raises `UserError` for one that is not right."""
    return await _holding(context, filters) if filters else None


async def _holding(context: Context, filters: Sequence[Filter]) -> Bools:
    service = context.service
    conditions = [one.condition for one in filters]
    catalogue = service.live.catalogue
    put = [(code, catalogue.item(code)) for code in catalogue.changed()]
    count = len(catalogue)

    def compute() -> Bools:
        service.filters.check(conditions)
        return service.filters.mask(conditions, count, put)

    return await asyncio.to_thread(compute)


async def _wait_for(request: Request, context: Context, units: float) -> None:
    """Until the caller may ask for so much: a stream waits, where a request is refused."""
    while True:
        try:
            return charge(request, context, units)
        except HTTPException:
            await asyncio.sleep(0.1)


async def _recommended(asking: RecommendRequest, context: Context) -> Recommended:
    began = time.monotonic()
    asking, context, arm = in_its_arm(asking, context)
    service, catalogue = context.service, context.service.live.catalogue
    deadline = deadline_of(context, asking, began)
    who = asker_of(context, asking)
    allowed = await allowed_items(context, asking.filters)
    for pin in asking.pins:
        if pin not in catalogue:
            raise UserError(f"pins: no item_id '{pin}' in the catalogue")
    last = asking.offset + asking.k
    wanted = min(max(asking.candidates, last + 1), service.settings.max_candidates)
    found = await service.candidates(who, wanted, deadline, [*asking.exclude, *asking.pins], allowed)
    items = [*dict.fromkeys(asking.pins), *found][: service.settings.max_candidates]
    liked = any(label == 1 for _, label in service.answered(who))
    by: Literal["user", "popular"] = "user" if liked or who.profile is not None else "popular"
    if not items:  # there is nothing that the user has not answered
        nothing = timing(None, began, deadline)
        return Recommended(items=[], more=False, by=by, share_routed=0.0, milliseconds=nothing, version=context.version)
    score = await scored(context, asking, items, began, deadline)
    order = arranged(items, score.probability, await _wishes(asking, context, items))
    page, chance = drawn(order[asking.offset : last], context, by_lot=not (asking.offset or asking.pins))
    keep_page(context, asking.user_id, arm, Page([items[n] for n in page], page, chance, score))
    rows = scored_items(context, score, items, page)
    reasons: list[Why | None] = [None] * len(rows)
    if asking.explain:
        reasons = list(await _reasons(context, who, [items[n] for n in page], deadline))
    pins = set(asking.pins)
    listed = []
    for row, reason in zip(rows, reasons, strict=True):
        shown = card(context, str(row.item_id))
        listed.append(
            ListedItem.model_construct(
                **vars(row), image=shown.image, link=shown.link, pinned=row.item_id in pins, reason=reason
            )
        )
    return Recommended.model_construct(
        items=listed, more=len(order) > last, by=by, share_routed=float(score.routed.mean()),
        milliseconds=timing(score, began, deadline), version=context.version, arm=arm,
    )  # fmt: skip


async def _wishes(asking: RecommendRequest, context: Context, items: Sequence[str]) -> Wishes:
    catalogue = context.service.live.catalogue
    codes = np.array([catalogue.codes[item] for item in items])
    odds = np.ones(len(items))
    for boost in asking.boosts:
        odds[(await _holding(context, [boost.where]))[codes]] *= boost.by
    context.service.filters.check_fields([cap.field for cap in asking.caps], "caps")
    values = [[_values(catalogue.item(code).fields.get(cap.field)) for code in codes.tolist()] for cap in asking.caps]
    caps = [Cap(mine, cap.most) for mine, cap in zip(values, asking.caps, strict=True)]
    return Wishes(asking.pins, odds, caps)


def _values(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [] if value is None else [str(value)]


async def _reasons(context: Context, who: Asker, items: Sequence[str], deadline: float) -> list[Why]:
    service, text = context.service, context.service.live.catalogue.text
    because = await service.because(who, items, max(deadline, time.monotonic() + _REASON_SECONDS))
    names, contributions = await service.contributions(who, items)
    found = []
    for n, parts in enumerate(because):
        liked, looked_at = liked_parts(parts), aspects(names, contributions[n])
        found.append(
            Why(
                sentence=sentence(liked, looked_at, text),
                because=[Liked(item_id=one.item_id, text=text(one.item_id), share=one.share) for one in liked],
                features=[Feature(what=one.what, adds=one.adds) for one in looked_at],
            )
        )
    return found


_REASON_SECONDS = 0.1
"""What reasons may take beyond the deadline, which is the language model's."""

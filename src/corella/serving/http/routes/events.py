"""What users do."""

import time
import uuid

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import TypeAdapter, ValidationError

from corella.data.times import read_time
from corella.errors import UserError
from corella.serving.http.access import WRITE, Shared, charge, key_of
from corella.serving.http.context import Context
from corella.serving.http.lines import NDJSON, lines_of
from corella.serving.http.schema import Identifier
from corella.serving.http.schema_feed import Acknowledged, Ingested, Line, NewEvent, Undone
from corella.serving.kinds import meaning
from corella.serving.store import records
from corella.serving.store.records import Event

router = APIRouter()

_FUTURE_SECONDS = 86_400
LINES_A_UNIT = 200
"""Lines of a stream that count as one request."""
_AT_ONCE, _TOLD = 1000, 20
"""Lines that are kept together, and refused ones that are told of."""
_LONGEST = 10_000
_NEW = TypeAdapter(NewEvent)


@router.post("/v1/events", dependencies=WRITE, summary="Say what somebody did", status_code=201)
async def add_event(new: NewEvent, request: Request, response: Response, context: Shared) -> Acknowledged:
    """Kept when this returns; the next request sees it."""
    event = event_of(context, new, _weight(request))
    (outcome,) = await context.service.feed.add([event])
    response.status_code = 201 if outcome.what in ("recorded", "replaced") else 200
    context.metrics.events.labels(event.kind).inc()
    answers = context.service.live.people.count(event.user_id)
    return Acknowledged(
        event_id=event.event_id, outcome=outcome.what, why=outcome.why, user_id=event.user_id, answers=answers
    )


@router.delete("/v1/events/{event_id}", dependencies=WRITE, summary="Take an event back")
async def undo_event(event_id: Identifier, context: Shared) -> Undone:
    """It counts no more when this returns. An answer that it had replaced does not come back."""
    feed, live = context.service.feed, context.service.live
    event = await feed.read(lambda: feed.store.find(event_id))
    if event is None:
        raise HTTPException(404, "there is no such event")
    counted = event.label is None or live.people.place_of(event.user_id, event_id) is not None
    undone = records.Undone(event_id, event.user_id, event.item_id, event.kind, event.weight, event.timestamp)
    new = await feed.put(undone)
    outcome, why = ("recorded", "") if counted else ("ignored", "it did not count any more")
    if not new:
        outcome, why = "repeated", "it was taken back before"
    return Undone.model_validate({
        "event_id": event_id, "outcome": outcome, "why": why, "user_id": event.user_id,
        "answers": live.people.count(event.user_id),
    })  # fmt: skip


@router.post("/v1/events/bulk", dependencies=WRITE, summary="Say what many did", openapi_extra=NDJSON)
async def add_events(request: Request, context: Shared) -> Ingested:
    """NDJSON: on each line one of `/v1/events`. All right lines are kept when this returns, and count soon after; wrong
    ones are told of. With an `event_id` on each line a stream can be sent again."""
    weight, told = _weight(request), Ingested(lines=0, recorded=0, repeated=0, refused=0, problems=[])
    batch: list[Event] = []
    async for number, line in lines_of(request, _LONGEST):
        told.lines += 1
        try:
            batch.append(event_of(context, _NEW.validate_json(line), weight))
        except ValidationError as error:
            refuse(told, number, said(error))
        except UserError as error:
            refuse(told, number, str(error))
        if len(batch) >= _AT_ONCE:
            await _keep(request, context, batch, told)
            batch = []
    if batch:
        await _keep(request, context, batch, told)
    return told


async def _keep(request: Request, context: Context, batch: list[Event], told: Ingested) -> None:
    charge(request, context, len(batch) / LINES_A_UNIT)
    new = await context.service.feed.append(batch)
    told.recorded += sum(new)
    told.repeated += len(new) - sum(new)
    for event in batch:
        context.metrics.events.labels(event.kind).inc()
    await context.service.feed.sync()


def refuse(told: Ingested, number: int, what: str) -> None:
    """Count a line that is not taken, and tell of it if it is one of the first."""
    told.refused += 1
    if len(told.problems) < _TOLD:
        told.problems.append(Line(line=number, what=what.encode("utf-8", "replace").decode()[:500]))


def said(error: ValidationError) -> str:
    """The first thing that is wrong."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def event_of(context: Context, new: NewEvent, weight: float) -> Event:
    """An event as it is kept. Raises `UserError` for an item that there is not, and for what contradicts itself or the
    training data."""
    live, kinds = context.service.live, context.service.feed.kinds
    if new.item_id not in live.catalogue:
        raise UserError(f"no item_id '{new.item_id}' in the catalogue")
    moment = int(time.time()) if new.timestamp is None else _moment(context, new.timestamp)
    if moment > time.time() + _FUTURE_SECONDS:
        raise UserError(f"timestamp: {moment} is in the future")
    scale = live.dataset.rating_scale
    if scale is not None and new.rating is not None and not scale.low <= new.rating <= scale.high:
        raise UserError(
            f"rating: {new.rating:g} is beyond the scale of the training data, {scale.low:g} to {scale.high:g}"
        )
    meant = meaning(live.dataset.config, kinds, new.kind, new.liked, new.rating)
    event_id = new.event_id or uuid.uuid4().hex
    return Event(new.user_id, new.item_id, meant.label, moment, new.rating, meant.kind, weight, event_id)


def _weight(request: Request) -> float:
    key = key_of(request)
    return 1.0 if key is None else key.weight


def _moment(context: Context, given: int | float | str) -> int:
    """A time as the training data's were read, in seconds since 1970. Raises `UserError` for what is none."""
    found = read_time(given, context.service.live.dataset.time_range)
    if found is None:
        raise UserError(
            f"timestamp: {given!r} is no time; write seconds since 1970 or a date like 2020-09-13T12:47:33Z, or leave "
            "it out where it is not known"
        )
    return int(found // 1)

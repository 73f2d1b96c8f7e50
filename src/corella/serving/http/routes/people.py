"""Users: what they said, what is said of them, all that is held on them, and how it is erased."""

import json
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query

from corella.serving.http.access import READ, WRITE, Shared
from corella.serving.http.context import Context
from corella.serving.http.schema import Identifier
from corella.serving.http.schema_feed import Erased, HeldEvent, HeldUser, History, HistoryRow, NewUser, Stored
from corella.serving.store.records import Person, to_row

router = APIRouter()

_EXPORTED = 20_000


@router.get("/v1/users/search", dependencies=READ, summary="Find users by the beginning of their id")
async def search_users(
    context: Shared,
    q: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[str]:
    """Ids of users of the training data."""
    return list(islice((name for name in context.service.live.users if name.startswith(q)), limit))


@router.get("/v1/users/{user_id:path}/history", dependencies=READ, summary="What a user has answered")
async def history(user_id: Identifier, context: Shared, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> History:
    """The newest answers first, and the user's text; empty for somebody unknown."""
    await context.service.feed.sync()
    live = context.service.live
    person = live.person(user_id)
    return History(
        user_id=user_id, text="" if person is None else person.text, answers=live.people.count(user_id),
        history=_rows(context, user_id, limit),
    )  # fmt: skip


@router.get("/v1/users/{user_id:path}", dependencies=READ, summary="All that is held on a user")
async def get_user(user_id: Identifier, context: Shared) -> HeldUser:
    """For an answer to somebody who asks what is held on them."""
    feed, live = context.service.feed, context.service.live
    await feed.sync()
    held = await feed.read(lambda: feed.store.of_user(user_id))
    person = live.person(user_id)
    rows = [to_row(record) for record in held]
    return HeldUser(
        user_id=user_id, text="" if person is None else person.text,
        fields={} if person is None else dict(person.fields), trained=live.trained(user_id),
        history=_rows(context, user_id, _EXPORTED),
        records=[HeldEvent(kind=row.kind, body=json.loads(row.body)) for row in rows],
        models=_models(context, user_id),
    )  # fmt: skip


@router.put("/v1/users/{user_id:path}", dependencies=WRITE, summary="Say something of a user")
async def put_user(user_id: Identifier, new: NewUser, context: Shared) -> Stored:
    """The next request reads it."""
    person = Person(user_id, new.text, new.fields)
    context.service.live.check_person(person)
    known = context.service.live.person(user_id) is not None
    await context.service.feed.put(person)
    return Stored(outcome="replaced" if known else "recorded")


@router.delete("/v1/users/{user_id:path}", dependencies=WRITE, summary="Erase a user")
async def erase_user(user_id: Identifier, context: Shared) -> Erased:
    """From the store, histories, counts and caches, here and on all servers of the store. Counts of items lose what the
    user gave to them. Files of trained models stay as they are: those that hold the id are named."""
    models = _models(context, user_id)
    gone = await context.service.feed.erase(user_id)
    return Erased(records=gone, models=models)


def _rows(context: Context, user_id: str, count: int) -> list[HistoryRow]:
    live = context.service.live
    return [
        HistoryRow(item_id=live.catalogue.ids[i], text=live.catalogue.texts[i], liked=bool(label), event_id=event_id)
        for i, label, event_id in live.people.recent(user_id, count)
    ]


def _models(context: Context, user_id: str) -> list[str]:
    """Trained models that hold the id in their files: whoever is in the training data is."""
    return [context.version] if context.service.live.trained(user_id) else []

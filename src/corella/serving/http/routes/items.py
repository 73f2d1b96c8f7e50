"""The catalogue: items are put, changed, deleted while the service runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter, ValidationError

from corella.errors import UserError
from corella.serving.http.access import READ, WRITE, Shared, charge
from corella.serving.http.context import Context
from corella.serving.http.lines import NDJSON, lines_of
from corella.serving.http.routes.events import LINES_A_UNIT, refuse, said
from corella.serving.http.schema import Identifier
from corella.serving.http.schema_feed import (
    BulkItem,
    Deleted,
    HeldItem,
    Ingested,
    ItemField,
    ItemFields,
    NewItem,
    Stored,
)
from corella.serving.store.records import Item, ItemDeleted

router = APIRouter()

_AT_ONCE = 100
_BULK = TypeAdapter(BulkItem)


@router.get("/v1/items", dependencies=READ, summary="Export the catalogue", response_class=StreamingResponse)
async def export_items(context: Shared) -> StreamingResponse:
    """NDJSON, an item a line, as `/v1/items/bulk` takes them."""
    catalogue = context.service.live.catalogue

    async def rows() -> AsyncIterator[bytes]:
        for code in range(len(catalogue)):
            if catalogue.code(catalogue.ids[code]) is not None:
                item = catalogue.item(code)
                yield json.dumps({**vars(item), "fields": dict(item.fields)}).encode() + b"\n"

    return StreamingResponse(rows(), media_type="application/x-ndjson")


@router.get("/v1/items/fields", dependencies=READ, summary="What items can be filtered by")
async def item_fields(context: Shared) -> ItemFields:
    """The fields of the training data's items, and their commonest values."""
    filters, fields = context.service.filters, context.service.live.catalogue.fields
    values = await asyncio.to_thread(lambda: [filters.values(name) for name in fields])
    pairs = zip(fields.items(), values, strict=True)
    return ItemFields(fields=[ItemField(field=name, several=several, values=known) for (name, several), known in pairs])


@router.get("/v1/items/{item_id:path}", dependencies=READ, summary="An item")
async def get_item(item_id: Identifier, context: Shared) -> HeldItem:
    """What the catalogue has of it."""
    await context.service.feed.sync()
    live = context.service.live
    code = live.catalogue.code(item_id)
    if code is None:
        raise HTTPException(404, "there is no such item")
    item, (answers, likes) = live.catalogue.item(code), live.popularity(code)
    return HeldItem(
        item_id=item_id, text=item.text, fields=dict(item.fields), image=item.image, link=item.link,
        available=item.available, trained=code < live.catalogue.trained, answers=answers, likes=likes,
    )  # fmt: skip


@router.put("/v1/items/{item_id:path}", dependencies=WRITE, summary="Add or change an item")
async def put_item(item_id: Identifier, new: NewItem, request: Request, context: Shared) -> Stored:
    """Kept when this returns; the next request finds and ranks it by its text."""
    item = _item(context, BulkItem(item_id=item_id, **dict(new)))
    charge(request, context, 1)
    known = item_id in context.service.live.catalogue
    await context.service.feed.put(item)
    return Stored(outcome="replaced" if known else "recorded")


@router.delete("/v1/items/{item_id:path}", dependencies=WRITE, summary="Take an item out")
async def delete_item(item_id: Identifier, context: Shared) -> Deleted:
    """It is not recommended or found any more when this returns; what users said of it stays in their histories."""
    if item_id not in context.service.live.catalogue:
        raise HTTPException(404, "there is no such item")
    await context.service.feed.put(ItemDeleted(item_id))
    return Deleted(item_id=item_id)


@router.post("/v1/items/bulk", dependencies=WRITE, summary="Add or change many items", openapi_extra=NDJSON)
async def put_items(
    request: Request,
    context: Shared,
    replace: Annotated[
        bool, Query(description="Whether items that are not in the stream leave the catalogue.")
    ] = False,
) -> Ingested:
    """NDJSON, an item a line. All right lines are kept when this returns; wrong ones are told of, and then nothing
    leaves the catalogue."""
    told, batch, kept = Ingested(lines=0, recorded=0, repeated=0, refused=0, problems=[]), [], set[str]()
    async for number, line in lines_of(request, context.service.settings.max_body_bytes):
        told.lines += 1
        try:
            batch.append(_item(context, _BULK.validate_json(line)))
            kept.add(batch[-1].item_id)
        except ValidationError as error:
            refuse(told, number, said(error))
        except UserError as error:
            refuse(told, number, str(error))
        if len(batch) >= _AT_ONCE:
            await _keep(request, context, batch, told)
            batch = []
    if batch:
        await _keep(request, context, batch, told)
    if replace and kept and not told.refused:
        gone = [
            ItemDeleted(item.item_id) for item in context.service.live.catalogue.items() if item.item_id not in kept
        ]
        await context.service.feed.append(gone)
    await context.service.feed.sync(_SYNC_SECONDS)
    return told


_SYNC_SECONDS = 2.0


async def _keep(request: Request, context: Context, batch: list[Item], told: Ingested) -> None:
    charge(request, context, len(batch) / LINES_A_UNIT)
    await context.service.feed.append(batch)
    told.recorded += len(batch)
    await context.service.feed.sync()


def _item(context: Context, new: BulkItem) -> Item:
    """Raises `UserError` for fields that the training data do not have."""
    item = Item(new.item_id, new.text, new.fields, new.image, new.link, new.available)
    context.service.live.catalogue.check(item)
    return item

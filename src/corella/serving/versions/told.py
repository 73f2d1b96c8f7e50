"""What a store holds, as tables: the events in force, the items and people that were put, who was erased."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from corella.columns import ITEM, LABEL, RATING, TIME, USER
from corella.errors import UserError
from corella.files import atomic_path
from corella.serving.store.log import PAGE, Store
from corella.serving.store.records import Erased, Event, Item, ItemDeleted, Person, StoreError, Undone

_SCHEMA = {
    USER: pl.String, ITEM: pl.String, LABEL: pl.Int8, RATING: pl.Float64, TIME: pl.Int64, "kind": pl.String,
    "weight": pl.Float64, "event_id": pl.String,
}  # fmt: skip


@dataclass
class Told:
    """All that a service was told, up to a cursor."""

    events: dict[int, Event] = field(default_factory=dict)
    """By their place in the log; undone ones are left out."""
    items: dict[str, Item] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    people: dict[str, Person] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    """Digests."""
    cursor: str = ""

    def frame(self, *, labelled: bool = False) -> pl.DataFrame:
        """The events as a table, in the order they came; `labelled`: only those that say like or dislike."""
        rows = [
            (e.user_id, e.item_id, e.label, e.rating, e.timestamp, e.kind, e.weight, e.event_id)
            for _, e in sorted(self.events.items())
            if e.label is not None or not labelled
        ]
        return pl.DataFrame(rows, schema=_SCHEMA, orient="row")

    def item_rows(self) -> pl.DataFrame:
        """The items that were put: id, text, and their fields."""
        rows: list[dict[str, Any]] = [
            {ITEM: item.item_id, "text": item.text, **item.fields} for item in self.items.values()
        ]
        return _frame(rows, ITEM)

    def people_rows(self) -> pl.DataFrame:
        """The people that were put: id, text, and their fields."""
        return _frame([{USER: one.user_id, "text": one.text, **one.fields} for one in self.people.values()], USER)


def told(store: Store) -> Told:
    """Read a whole store. Raises `UserError` where it cannot be read."""
    found, places, number = Told(), dict[str, int](), 0
    try:
        more = True
        while more:
            records, found.cursor = store.since(found.cursor)
            for record in records:
                number += 1
                match record:
                    case Event(event_id=event_id):
                        found.events[number] = record
                        places[event_id] = number
                    case Undone(event_id=event_id):
                        found.events.pop(places.get(event_id, -1), None)
                    case Item(item_id=item_id):
                        found.items[item_id] = record
                        found.deleted.discard(item_id)
                    case ItemDeleted(item_id=item_id):
                        found.items.pop(item_id, None)
                        found.deleted.add(item_id)
                    case Person(user_id=user_id):
                        found.people[user_id] = record
                    case Erased(digest=digest):
                        found.erased.add(digest)
            more = len(records) == PAGE
    except StoreError as error:
        raise UserError(f"the store cannot be read: {error}") from None
    return found


def export_events(store: Store, path: Path) -> int:
    """Write the events in force as a table: .parquet, .csv or .jsonl; how many. Raises `UserError` for another ending,
    or a store that cannot be read."""
    frame = told(store).frame()
    if path.suffix not in (".parquet", ".csv", ".jsonl"):
        raise UserError(f"{path}: events are written as .parquet, .csv or .jsonl")
    with atomic_path(path) as temporary:
        match path.suffix:
            case ".parquet":
                frame.write_parquet(temporary)
            case ".csv":
                frame.write_csv(temporary)
            case _:
                frame.write_ndjson(temporary)
    return frame.height


def _frame(rows: list[dict[str, Any]], key: str) -> pl.DataFrame:
    if not rows:
        return pl.DataFrame(schema={key: pl.String, "text": pl.String})
    return pl.DataFrame(rows, infer_schema_length=None, strict=False)

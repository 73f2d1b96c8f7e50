"""What a service is told, as records of one log: the order is the same for every server that reads it.

An event may be undone; items and people are put and deleted; what was shown is kept for experiments. State is what all
records say, read in order.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple


class StoreError(Exception):
    """The store did not answer; what was being appended is not acknowledged."""


FieldValue = str | int | float | list[str]


@dataclass(frozen=True)
class Event:
    """Somebody did something with an item."""

    user_id: str
    item_id: str
    label: int | None
    """1 liked, 0 not liked, None where the kind says neither (a view)."""
    timestamp: int
    """Seconds since 1970."""
    rating: float | None = None
    """On the scale of the training data, where the user gave one."""
    kind: str = "like"
    """`view`, `click`, `buy`, `like`, `dislike`, `rating`, or one of the service's own."""
    weight: float = 1.0
    """How much it counts for others than the user, from 0 to 1: what the sender's key is trusted with."""
    event_id: str = ""


@dataclass(frozen=True)
class Undone:
    """An event was taken back; told once more is what it was."""

    event_id: str
    user_id: str
    item_id: str
    kind: str
    weight: float
    timestamp: int


@dataclass(frozen=True)
class Item:
    """An item of the catalogue, put since the training or changed."""

    item_id: str
    text: str
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    """Columns of the training data."""
    image: str = ""
    link: str = ""
    available: bool = True
    """Whether it may be recommended."""


@dataclass(frozen=True)
class ItemDeleted:
    """An item left the catalogue."""

    item_id: str


@dataclass(frozen=True)
class Person:
    """What is said of a user."""

    user_id: str
    text: str
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Erased:
    """All that was held on a user is gone; only a digest of the id is kept (see `Store.digest`)."""

    digest: str


@dataclass(frozen=True)
class Shown:
    """An impression: a page of recommendations."""

    user_id: str
    """Empty for somebody without an id."""
    items: list[str]
    """In the order shown; so the lists below."""
    propensity: list[float]
    """The chance that each stood first, by the policy in force; empty for a page behind the first."""
    crm: list[float]
    """The conventional model's probability of each."""
    final: list[float]
    """The probability that it was ranked by."""
    priority: list[float]
    """The router's."""
    version: str
    """Of the model."""
    experiment: str
    arm: str
    timestamp: int
    request_id: str


Record = Event | Undone | Item | ItemDeleted | Person | Erased | Shown
_KINDS: dict[str, type[Record]] = {
    kind.__name__: kind for kind in (Event, Undone, Item, ItemDeleted, Person, Erased, Shown)
}


class Row(NamedTuple):
    """A record as stores keep it."""

    kind: str
    user_id: str
    """Empty where it is about nobody."""
    key: str
    """Of two rows with the same key the first counts; empty for a row that may come again."""
    body: str
    """JSON."""


def an_event(record: Record) -> Event | None:
    """The record, if it is an event."""
    return record if isinstance(record, Event) else None


def to_row(record: Record) -> Row:
    """A record as stores keep it.

    >>> to_row(ItemDeleted("i1"))
    Row(kind='ItemDeleted', user_id='', key='', body='{"item_id": "i1"}')
    """
    key = record.event_id if isinstance(record, Event) else ""
    if isinstance(record, Undone):
        key = f"\x01undone:{record.event_id}"  # no event has such an id
    return Row(type(record).__name__, getattr(record, "user_id", ""), key, json.dumps(_fields(record)))


def _fields(record: Record) -> dict[str, Any]:
    """The fields of a record; an event's are read quickly, for most records are events."""
    return dict(vars(record)) if isinstance(record, Event) else asdict(record)


def from_row(kind: str, body: str) -> Record:
    """What `to_row` wrote. Raises `StoreError` for one that this version does not know.

    >>> from_row("ItemDeleted", '{"item_id": "i1"}')
    ItemDeleted(item_id='i1')
    """
    try:
        return _KINDS[kind](**json.loads(body))
    except (KeyError, TypeError, ValueError):
        raise StoreError(f"the store holds a record of the kind {kind} that this version cannot read") from None

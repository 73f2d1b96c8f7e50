"""Store and state in step: what is sent is kept first, then taken in, in the order that all servers see."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from corella.errors import UserError
from corella.serving.engine.asking import Engine, NewItem
from corella.serving.kinds import EventKind
from corella.serving.state import apply
from corella.serving.state.apply import Outcome
from corella.serving.state.live import Live
from corella.serving.state.popular import Popular
from corella.serving.store.log import PAGE, Store
from corella.serving.store.records import (
    Erased,
    Event,
    Item,
    ItemDeleted,
    Person,
    Record,
    StoreError,
    Undone,
)  # fmt: skip
from corella.serving.trial.tracker import Tracker

_SYNC_SECONDS, _ADDED_SECONDS, _RETRY_SECONDS = 0.02, 2.0, 1.0
_APPEND_SECONDS, _MOST_APPENDS = 5.0, 1000
"""How long a record may wait for its turn to be kept, and how many requests may."""
_AT_ONCE = 20
"""Records taken in before requests get their turn."""

_END = "end"

T = TypeVar("T")


@dataclass
class Health:
    """Whether the store reads and keeps; what is wrong is said in words, empty where nothing is."""

    reading: str = ""
    keeping: str = ""

    @property
    def cause(self) -> str:
        """What is wrong; empty where nothing is."""
        return "; ".join(filter(None, (self.reading, self.keeping)))


class Feed:
    """Records on their way: to the store, from the store, into the state."""

    def __init__(
        self, store: Store, live: Live, popular: Popular, kinds: Mapping[str, EventKind], engine: Engine | None,
        log_clock: bool, included: str = "", tracker: Tracker | None = None,
    ) -> None:  # fmt: skip
        """Reads the whole store. `log_clock`: whether it is always the end of the training log; `included`: a cursor up
        to which the training data hold the events."""
        self.store, self.live, self.popular, self.kinds, self.engine = store, live, popular, kinds, engine
        self.health = Health()
        self.on_health: Callable[[str], None] = lambda cause: None
        """Called with what is wrong, or that nothing is any more."""
        self.tracker = tracker
        """Of the experiment; None where there is none."""
        self._clock = live.last_time if log_clock else None
        self._cursor = ""
        self._reading, self._writing = (ThreadPoolExecutor(1, name) for name in ("store-read", "store-append"))
        self._sync: asyncio.Task[None] | None = None
        self._failed = 0.0
        self._appends = 0
        self._waiting: dict[str, Outcome | None] = {}
        """By event id: what an event did that a request waits for."""
        self._people: dict[str, str] | None = None
        """Digest -> id of the training data's users, once somebody was erased."""
        try:
            for until in filter(None, (included, _END)):
                self._read_all(until)
        except StoreError as error:
            raise UserError(f"the store cannot be read: {error}") from None

    def _read_all(self, until: str) -> None:
        more = True
        while more:
            records, self._cursor = self.store.since(self._cursor, "" if until is _END else until)
            self._read_texts(records)
            for record in records:
                if until is _END or not isinstance(record, Event | Undone):
                    self._take(record)
                elif self.tracker is not None:
                    self.tracker.take(record)
            more = len(records) == PAGE

    @property
    def now(self) -> int:
        """What time it is, in seconds since 1970."""
        return int(time.time()) if self._clock is None else self._clock

    # From the store.

    async def sync(self, most: float = _SYNC_SECONDS) -> None:
        """Take in what any server has added to the store; requests wait for it `most` seconds. Where the store is slow
        or does not answer, what is known stays."""
        if self._sync is None or self._sync.done():
            if self.health.reading and time.monotonic() - self._failed < _RETRY_SECONDS:
                return
            self._sync = asyncio.get_running_loop().create_task(self._read_store())
        done, _ = await asyncio.wait([self._sync], timeout=most)
        for task in done:
            task.result()  # a fault of ours is not passed over

    async def _read_store(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            more = True
            while more:
                records, self._cursor = await loop.run_in_executor(self._reading, self._page)
                for place, record in enumerate(records):
                    if isinstance(record, Erased):
                        await self._erased(record)
                    else:
                        self._take(record)
                    if place % _AT_ONCE == _AT_ONCE - 1:
                        await asyncio.sleep(0)  # requests have their turn
                more = len(records) == PAGE
            self._healthy(reading="")
        except StoreError as error:
            self._failed = time.monotonic()
            self._healthy(reading=f"the store cannot be read: {error}")

    def _page(self) -> tuple[list[Record], str]:
        records, cursor = self.store.since(self._cursor)
        self._read_texts(records)
        return records, cursor

    def _read_texts(self, records: Sequence[Record]) -> None:
        """On another thread, so that nobody waits for it."""
        self.live.reader.read([record.text for record in records if isinstance(record, Item)])

    def _take(self, record: Record) -> None:
        live = self.live
        if self.tracker is not None:
            self.tracker.take(record)
        match record:
            case Event():
                told = record if self._clock is None else replace(record, timestamp=self._clock)
                outcome = apply.add(live, told, self.popular, self._weight(record.kind))
                if record.event_id in self._waiting:
                    self._waiting[record.event_id] = outcome
            case Undone():
                taken = record if self._clock is None else replace(record, timestamp=self._clock)
                apply.undo(live, taken, self.popular, self._weight(record.kind))
            case Item():
                apply.put_item(live, record)
                code = live.catalogue.codes[record.item_id]
                read = live.catalogue.read.get(code)
                if self.engine is not None and read is not None and code >= live.catalogue.trained:
                    self.engine.put([NewItem(record.item_id, read.vector)])
            case ItemDeleted():
                apply.delete_item(live, record)
            case Person():
                apply.put_person(live, record)
            case Erased(digest):
                self._forget(self._named(digest))

    def _weight(self, kind: str) -> float:
        known = self.kinds.get(kind)
        return 0.0 if known is None else known.weight

    async def _erased(self, record: Erased) -> None:
        """Digests of many ids take a while: they are looked for on another thread."""
        known = [*self.live.users, *self.live.people, *self.live.persons]
        found = await asyncio.to_thread(lambda: [name for name in known if self.store.digest(name) == record.digest])
        self._forget(found)

    def _named(self, digest: str) -> list[str]:
        if self._people is None:
            self._people = {self.store.digest(name): name for name in self.live.users}
        name = self._people.get(digest)
        return [] if name is None else [name]

    def _forget(self, names: Sequence[str]) -> None:
        for name in names:
            apply.erase(self.live, name)
            if self.tracker is not None:
                self.tracker.forget(name)
            if self.engine is not None:
                self.engine.forget(name)

    # To the store.

    async def add(self, events: Sequence[Event]) -> list[Outcome]:
        """Keep events, and take them in. Raises `StoreError`; then they may not be kept."""
        self._waiting.update((event.event_id, None) for event in events)
        try:
            new = await self.append(events)
            await self._taken_in()
            told = [self._waiting.get(event.event_id) for event in events]
        finally:
            for event in events:
                self._waiting.pop(event.event_id, None)
        later = Outcome("recorded", "it is kept, and will count in a moment")
        return [
            (outcome or later) if is_new else Outcome("repeated", "an event of this id is kept already")
            for outcome, is_new in zip(told, new, strict=True)
        ]

    async def put(self, record: Record) -> bool:
        """Keep a record, and take it in; whether it was new. Raises `StoreError`."""
        (new,) = await self.append([record])
        await self._taken_in()
        return new

    async def append(self, records: Sequence[Record]) -> list[bool]:
        """Keep records; they are taken in when there is time. Whether each was new. Raises `StoreError`."""
        return await self._write(partial(self.store.append, records))

    async def erase(self, user_id: str) -> int:
        """Remove all that is held on a user, here and, as soon as they read the store, on all servers; how many records
        that were. Raises `StoreError`."""
        gone = await self._write(partial(self.store.erase, user_id))
        await self._taken_in()
        self._forget([user_id])
        return gone

    async def read(self, ask: Callable[[], T]) -> T:
        """Ask the store something. Raises `StoreError`."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, ask)

    async def _taken_in(self) -> None:
        if self._sync is not None and not self._sync.done():
            await asyncio.wait([self._sync])  # that one may have begun before the record was there
        await self.sync(_ADDED_SECONDS)

    async def _write(self, write: Callable[[], T]) -> T:
        if self._appends >= _MOST_APPENDS:
            raise StoreError(f"{self._appends} requests wait to be kept")
        self._appends += 1
        until = time.monotonic() + _APPEND_SECONDS
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._writing, self._in_time, write, until)
        except StoreError as error:
            self._healthy(keeping=f"the store keeps nothing: {error}")
            raise
        finally:
            self._appends -= 1
        self._healthy(keeping="")
        return found

    def _in_time(self, write: Callable[[], T], until: float) -> T:
        """On the thread that writes: what has waited for too long is not kept any more."""
        if time.monotonic() > until:
            raise StoreError("it has waited for too long")
        return write()

    def _healthy(self, reading: str | None = None, keeping: str | None = None) -> None:
        before = self.health.cause
        if reading is not None:
            self.health.reading = reading
        if keeping is not None:
            self.health.keeping = keeping
        if self.health.cause != before:
            self.on_health(self.health.cause)

    def close(self) -> None:
        """Close the store."""
        for executor in (self._reading, self._writing):
            executor.shutdown()
        self.store.close()

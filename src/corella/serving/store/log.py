"""One log for all servers: what a store promises.

`append` returns once the records are safe: a process that is killed after that has lost nothing. `since` gives what any
process appended behind a cursor, in one order for all; at most `PAGE` records at a time. One thread may append while
another reads.
"""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from corella.errors import UserError
from corella.serving.store.records import Event, Record, StoreError

PAGE = 10_000


class Store(Protocol):
    """A log of records. A cursor is opaque; the first is ''. Every method may raise `StoreError`."""

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Keep records for good, all or none. For each: whether it is new (False: an event whose id is there already,
        of which the first stays)."""
        ...

    def since(self, cursor: str, until: str = "") -> tuple[list[Record], str]:
        """Records behind a cursor, and the cursor behind them; the empty cursor is the beginning. `until`: a cursor
        behind which nothing is read; empty: the end."""
        ...

    def find(self, event_id: str) -> Event | None:
        """The event of an id; None where there is none."""
        ...

    def of_user(self, user_id: str) -> list[Record]:
        """All that is held on a user, in order."""
        ...

    def erase(self, user_id: str) -> int:
        """Remove all records of a user, and append `Erased` with the digest of the id. How many were removed."""
        ...

    def digest(self, user_id: str) -> str:
        """A keyed hash of an id; the key never leaves the store, so without it nobody finds the id by trying."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


def all_records(store: Store) -> list[Record]:
    """All that a store holds, in order. Raises `UserError` where it cannot be read."""
    found: list[Record] = []
    cursor, more = "", True
    try:
        while more:
            records, cursor = store.since(cursor)
            found += records
            more = len(records) == PAGE
    except StoreError as error:
        raise UserError(f"the store cannot be read: {error}") from None
    return found


def keyed_digest(secret: str, user_id: str) -> str:
    """See `Store.digest`."""
    return hmac.new(secret.encode(), user_id.encode(), hashlib.sha256).hexdigest()


def open_store(url: str) -> Store:
    """A path or `sqlite:///path`, `redis://...`, `postgresql://...`. Raises `UserError` where it cannot be opened."""
    from corella.serving.store.sqlite import SQLiteStore

    kind = urlsplit(url).scheme
    try:
        if kind in ("redis", "rediss", "unix"):
            from corella.serving.store.redis import RedisStore

            return RedisStore(url)
        if kind in ("postgresql", "postgres"):
            from corella.serving.store.postgres import PostgresStore

            return PostgresStore(url)
        if kind in ("", "sqlite"):
            return SQLiteStore(Path(url.removeprefix("sqlite://").replace("//", "/", 1) if kind else url))
    except ImportError as error:
        raise UserError(
            f"the store {kind} needs: pip install 'corella-rec[stores]' ({error.name} is missing)"
        ) from None
    except StoreError as error:
        raise UserError(f"the store cannot be opened: {error}") from None
    raise UserError(f"no store '{kind}'; valid: a path, sqlite:///path, redis://host, postgresql://host/name")

"""Where answers are kept: SQLite by default, Redis or PostgreSQL by URL; the same behaviour in all three.

`append` returns once the answer is safe: a process that is killed after that has lost nothing. `since` gives what any
process appended behind a cursor, in one order for all, so several servers on one store see the same answers; at most
`PAGE` of them at a time. One thread may append while another reads.
"""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from corella.errors import UserError
from corella.serving.live import Event

if TYPE_CHECKING:
    pass

PAGE = 10_000

_STREAM = "corella_events"


class Store(Protocol):
    """A log of answers. A cursor is opaque; the first is ''. Every method may raise `StoreError`."""

    def append(self, event: Event) -> None:
        """Keep an event for good. Raises `StoreError` where it may not be kept."""
        ...

    def since(self, cursor: str) -> tuple[list[Event], str]:
        """Events behind a cursor, and the cursor behind them; the empty cursor is the beginning."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


class StoreError(Exception):
    """The store did not answer; what was being appended is not acknowledged."""


def open_store(url: str) -> Store:
    """A path or `sqlite:///path`, `redis://...`, `postgresql://...`. Raises `UserError` where it cannot be opened."""
    kind = urlsplit(url).scheme
    try:
        if kind in ("redis", "rediss", "unix"):
            return RedisStore(url)
        if kind in ("postgresql", "postgres"):
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


class SQLiteStore:
    """A file, in write-ahead mode; every append is flushed to the disk."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Two connections: who reads does not wait for who appends.
            self._writer, self._reader = (
                sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5) for _ in range(2)
            )
            self._writer.execute("PRAGMA journal_mode=WAL")
            self._writer.execute("PRAGMA synchronous=FULL")
            self._writer.execute(
                "CREATE TABLE IF NOT EXISTS corella_events (seq INTEGER PRIMARY KEY AUTOINCREMENT, "
                "user_id TEXT NOT NULL, item_id TEXT NOT NULL, label INTEGER NOT NULL, timestamp INTEGER NOT NULL, "
                "rating REAL)"
            )
            if not self._knows_ratings():  # a table of an earlier version
                self._writer.execute("BEGIN IMMEDIATE")  # of servers that start at once, one changes it
                if not self._knows_ratings():
                    self._writer.execute("ALTER TABLE corella_events ADD COLUMN rating REAL")
                self._writer.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: {error}") from None

    def _knows_ratings(self) -> bool:
        return any(row[1] == "rating" for row in self._writer.execute("PRAGMA table_info(corella_events)"))

    def append(self, event: Event) -> None:
        """Safe on disk when it returns."""
        statement = "INSERT INTO corella_events (user_id, item_id, label, timestamp, rating) VALUES (?, ?, ?, ?, ?)"
        try:
            self._writer.execute(statement, _row(event))
        except sqlite3.Error as error:
            raise StoreError(str(error)) from None

    def since(self, cursor: str) -> tuple[list[Event], str]:
        """Answers behind the cursor, and the next cursor."""
        statement = (
            "SELECT seq, user_id, item_id, label, timestamp, rating FROM corella_events WHERE seq > ? "
            "ORDER BY seq LIMIT ?"
        )
        try:
            rows = self._reader.execute(statement, (int(cursor or 0), PAGE)).fetchall()
        except sqlite3.Error as error:
            raise StoreError(str(error)) from None
        return [Event(*row[1:]) for row in rows], str(rows[-1][0]) if rows else cursor

    def close(self) -> None:
        """No use after it."""
        self._writer.close()
        self._reader.close()


class RedisStore:
    """A stream. How safe an append is, is the server's setting (`appendfsync always` for a killed server)."""

    def __init__(self, url: str) -> None:
        import redis

        self._errors = redis.RedisError
        self._client = redis.Redis.from_url(url, decode_responses=True, socket_timeout=1, socket_connect_timeout=2)
        try:
            self._client.ping()
        except self._errors as error:
            raise StoreError(str(error)) from None

    def append(self, event: Event) -> None:
        """Accepted by the server when it returns."""
        names = ("user_id", "item_id", "label", "timestamp", "rating")
        given: Any = {name: value for name, value in zip(names, _row(event), strict=True) if value is not None}
        try:
            self._client.xadd(_STREAM, given)
        except self._errors as error:
            raise StoreError(str(error)) from None

    def since(self, cursor: str) -> tuple[list[Event], str]:
        """Answers behind the cursor, and the next cursor."""
        try:
            rows: Any = self._client.xrange(_STREAM, min=f"({cursor}" if cursor else "-", count=PAGE)
        except self._errors as error:
            raise StoreError(str(error)) from None
        events = [
            Event(
                r["user_id"], r["item_id"], int(r["label"]), int(r["timestamp"]),
                float(r["rating"]) if "rating" in r else None,
            )
            for _, r in rows
        ]  # fmt: skip
        return events, rows[-1][0] if rows else cursor

    def close(self) -> None:
        """No use after it."""
        self._client.close()


class PostgresStore:
    """A table. A connection that breaks is opened anew at the next call."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._url, self._psycopg = url, psycopg
        self._connections: dict[str, psycopg.Connection] = {}
        """One to read and one to append."""
        self._run(
            "append",
            "CREATE TABLE IF NOT EXISTS corella_events (seq BIGSERIAL PRIMARY KEY, user_id TEXT NOT NULL, "
            "item_id TEXT NOT NULL, label SMALLINT NOT NULL, timestamp BIGINT NOT NULL, rating DOUBLE PRECISION)",
            (),
        )
        columns = (
            "SELECT 1 FROM pg_attribute WHERE attrelid = 'corella_events'::regclass AND attname = 'rating' "
            "AND NOT attisdropped"
        )
        if not self._run("append", columns, ()):  # a table of an earlier version; only its owner may change it
            self._run("append", "ALTER TABLE corella_events ADD COLUMN IF NOT EXISTS rating DOUBLE PRECISION", ())

    def append(self, event: Event) -> None:
        """Committed when it returns. Appends wait for each other, so that numbers become visible in their order and no
        reader passes one by."""
        statement = (
            "WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(727274)) "
            "INSERT INTO corella_events (user_id, item_id, label, timestamp, rating) "
            "SELECT %s, %s, %s, %s, %s::double precision FROM turn"
        )
        self._run("append", statement, _row(event))

    def since(self, cursor: str) -> tuple[list[Event], str]:
        """Answers behind the cursor, and the next cursor."""
        statement = (
            "SELECT seq, user_id, item_id, label, timestamp, rating FROM corella_events WHERE seq > %s "
            "ORDER BY seq LIMIT %s"
        )
        rows = self._run("read", statement, (int(cursor or 0), PAGE))
        return [Event(*row[1:]) for row in rows], str(rows[-1][0]) if rows else cursor

    def close(self) -> None:
        """No use after it."""
        for connection in self._connections.values():
            connection.close()

    def _run(self, use: str, statement: str, values: tuple[Any, ...]) -> list[Any]:
        connection = self._connections.get(use)
        try:
            if connection is None or connection.closed:
                # Timeouts on both sides: a server that is gone without a word must not hold a thread for long.
                connection = self._connections[use] = self._psycopg.connect(
                    self._url, autocommit=True, connect_timeout=2, options="-c statement_timeout=1000",
                    keepalives_idle=2, keepalives_interval=1, keepalives_count=2, tcp_user_timeout=2000,
                )  # fmt: skip
            found = connection.execute(statement, values)
            return found.fetchall() if found.description else []
        except self._psycopg.Error as error:
            if connection is not None and connection.broken:
                connection.close()
            raise StoreError(str(error).strip()) from None


def _row(event: Event) -> tuple[str, str, int, int, float | None]:
    return event.user_id, event.item_id, event.label, event.timestamp, event.rating

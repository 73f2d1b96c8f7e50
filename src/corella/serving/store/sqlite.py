"""The log in a file."""

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from corella.serving.store.log import PAGE, keyed_digest
from corella.serving.store.records import Erased, Event, Record, StoreError, an_event, from_row, to_row

_TABLES = (
    "CREATE TABLE IF NOT EXISTS corella_log (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, "
    "user_id TEXT NOT NULL, key TEXT, body TEXT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS corella_log_key ON corella_log (key) WHERE key IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS corella_log_user ON corella_log (user_id) WHERE user_id != ''",
    "CREATE TABLE IF NOT EXISTS corella_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
_INSERT = "INSERT INTO corella_log (kind, user_id, key, body) VALUES (?, ?, nullif(?, ''), ?)"
_SOME = 500
_LAST = 2**63 - 1


class SQLiteStore:
    """A file, in write-ahead mode; every append is flushed to the disk, and what is removed is overwritten."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Two connections: who reads does not wait for who appends.
            self._writer, self._reader = (
                sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5) for _ in range(2)
            )
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._writer.execute(f"PRAGMA {pragma}")
            if self._writer.execute("SELECT 1 FROM sqlite_master WHERE name = 'corella_events'").fetchone():
                raise StoreError(
                    f"{path} was written by an earlier version of corella; move it away, or serve with that version"
                )
            for statement in _TABLES:
                self._writer.execute(statement)
            self._writer.execute("INSERT OR IGNORE INTO corella_meta VALUES ('secret', ?)", (secrets.token_hex(32),))
            (self._secret,) = self._writer.execute("SELECT value FROM corella_meta WHERE name = 'secret'").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: {error}") from None

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Safe on disk when it returns."""
        rows = [to_row(record) for record in records]
        with self._transaction():
            known = self._known([row.key for row in rows if row.key])
            new = []
            for row in rows:
                new.append(not row.key or row.key not in known)
                known.add(row.key)
            self._writer.executemany(_INSERT, [row for row, is_new in zip(rows, new, strict=True) if is_new])
        return new

    def _known(self, keys: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(keys), _SOME):
            some = keys[start : start + _SOME]
            marks = ",".join("?" * len(some))
            rows = self._writer.execute(f"SELECT key FROM corella_log WHERE key IN ({marks})", some)  # noqa: S608
            found.update(key for (key,) in rows)
        return found

    def since(self, cursor: str, until: str = "") -> tuple[list[Record], str]:
        """Records behind the cursor, and the next cursor."""
        rows = self._read(
            "SELECT seq, kind, body FROM corella_log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (int(cursor or 0), int(until or _LAST), PAGE),
        )
        return [from_row(kind, body) for _, kind, body in rows], str(rows[-1][0]) if rows else cursor

    def find(self, event_id: str) -> Event | None:
        """See `Store`."""
        rows = self._read("SELECT kind, body FROM corella_log WHERE key = ?", (event_id,))
        return an_event(from_row(*rows[0])) if rows else None

    def of_user(self, user_id: str) -> list[Record]:
        """See `Store`."""
        statement = "SELECT kind, body FROM corella_log WHERE user_id = ? AND user_id != '' ORDER BY seq"
        return [from_row(kind, body) for kind, body in self._read(statement, (user_id,))]

    def erase(self, user_id: str) -> int:
        """See `Store`. The write-ahead file is emptied too: nothing of the user stays on the disk."""
        with self._transaction():
            gone = self._writer.execute("DELETE FROM corella_log WHERE user_id = ? AND user_id != ''", (user_id,))
            self._writer.execute(_INSERT, to_row(Erased(self.digest(user_id))))
        try:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise StoreError(str(error)) from None
        return gone.rowcount

    def digest(self, user_id: str) -> str:
        """See `Store`."""
        return keyed_digest(self._secret, user_id)

    def close(self) -> None:
        """No use after it."""
        self._writer.close()
        self._reader.close()

    def _read(self, statement: str, values: tuple[object, ...]) -> list[tuple[str, ...]]:
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(str(error)) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # a full disk ends it by itself
                    self._writer.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(str(error)) from None

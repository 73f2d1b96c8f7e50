"""The log as a table in PostgreSQL."""

import secrets
from collections.abc import Sequence
from typing import Any

from corella.serving.store.log import PAGE, keyed_digest
from corella.serving.store.records import Erased, Event, Record, StoreError, an_event, from_row, to_row

_TABLES = (
    "CREATE TABLE IF NOT EXISTS corella_log (seq BIGSERIAL PRIMARY KEY, kind TEXT NOT NULL, user_id TEXT NOT NULL, "
    "key TEXT UNIQUE, body TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS corella_log_user ON corella_log (user_id) WHERE user_id != ''",
    "CREATE TABLE IF NOT EXISTS corella_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
# Writers wait for each other (the lock), so that numbers become visible in their order and no reader passes one by.
_APPEND = """
WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(727274))
INSERT INTO corella_log (kind, user_id, key, body)
SELECT given.kind, given.user_id, nullif(given.key, ''), given.body
FROM turn, unnest(%s::text[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY
  AS given (kind, user_id, key, body, place)
ORDER BY place ON CONFLICT DO NOTHING RETURNING key
"""
_ERASE = """
WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(727274)),
gone AS (DELETE FROM corella_log WHERE user_id = %s AND user_id != '' RETURNING 1),
told AS (INSERT INTO corella_log (kind, user_id, body) SELECT %s, '', %s FROM turn)
SELECT count(*) FROM gone
"""


_LAST = 2**63 - 1


class PostgresStore:
    """A table. A connection that breaks is opened anew at the next call."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._url, self._psycopg = url, psycopg
        self._connections: dict[str, psycopg.Connection] = {}
        """One to read and one to append."""
        for statement in _TABLES:
            self._run("append", statement, ())
        given = "INSERT INTO corella_meta VALUES ('secret', %s) ON CONFLICT DO NOTHING"
        self._run("append", given, (secrets.token_hex(32),))
        ((self._secret,),) = self._run("append", "SELECT value FROM corella_meta WHERE name = 'secret'", ())

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Committed when it returns."""
        rows = [to_row(record) for record in records]
        kept = {key for (key,) in self._run("append", _APPEND, [list(column) for column in zip(*rows, strict=True)])}
        new = []
        for row in rows:
            new.append(not row.key or row.key in kept)
            kept.discard(row.key)  # of two in one batch the first stays
        return new

    def since(self, cursor: str, until: str = "") -> tuple[list[Record], str]:
        """Records behind the cursor, and the next cursor."""
        statement = "SELECT seq, kind, body FROM corella_log WHERE seq > %s AND seq <= %s ORDER BY seq LIMIT %s"
        rows = self._run("read", statement, (int(cursor or 0), int(until or _LAST), PAGE))
        return [from_row(kind, body) for _, kind, body in rows], str(rows[-1][0]) if rows else cursor

    def find(self, event_id: str) -> Event | None:
        """See `Store`."""
        rows = self._run("read", "SELECT kind, body FROM corella_log WHERE key = %s", (event_id,))
        return an_event(from_row(*rows[0])) if rows else None

    def of_user(self, user_id: str) -> list[Record]:
        """See `Store`."""
        statement = "SELECT kind, body FROM corella_log WHERE user_id = %s AND user_id != '' ORDER BY seq"
        return [from_row(kind, body) for kind, body in self._run("read", statement, (user_id,))]

    def erase(self, user_id: str) -> int:
        """See `Store`. What the server's own files still hold, its next vacuum removes."""
        erased = to_row(Erased(self.digest(user_id)))
        ((gone,),) = self._run("append", _ERASE, (user_id, erased.kind, erased.body))
        return int(gone)

    def digest(self, user_id: str) -> str:
        """See `Store`."""
        return keyed_digest(self._secret, user_id)

    def close(self) -> None:
        """No use after it."""
        for connection in self._connections.values():
            connection.close()

    def _run(self, use: str, statement: str, values: Sequence[Any]) -> list[Any]:
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

"""The log as a stream in Redis. How safe an append is, is the server's setting (`appendfsync always` for a killed
server)."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from corella.serving.store.log import PAGE, keyed_digest
from corella.serving.store.records import Erased, Event, Record, StoreError, an_event, from_row, to_row

_STREAM, _KEYS, _SECRET = "corella:log", "corella:keys", "corella:secret"
_FIELDS = 4

_APPEND = """
local new = {}
for n = 1, #ARGV, 4 do
  local key = ARGV[n + 2]
  if key ~= '' and redis.call('HEXISTS', KEYS[2], key) == 1 then
    new[#new + 1] = 0
  else
    local place = redis.call("XADD", KEYS[1], "*",
      "kind", ARGV[n], "user", ARGV[n + 1], "key", key, "body", ARGV[n + 3])
    if key ~= '' then redis.call('HSET', KEYS[2], key, place) end
    new[#new + 1] = 1
  end
end
return new
"""
"""Runs as a whole, so that of two events of one id, sent at once, one stays."""


class RedisStore:
    """A stream, and a hash from the events' ids to their places in it."""

    def __init__(self, url: str) -> None:
        import redis

        self._errors = redis.RedisError
        self._client: Any = redis.Redis.from_url(url, decode_responses=True, socket_timeout=1, socket_connect_timeout=2)
        self._append = self._client.register_script(_APPEND)
        self._call(lambda: self._client.set(_SECRET, secrets.token_hex(32), nx=True))
        self._secret = str(self._call(lambda: self._client.get(_SECRET)))

    def append(self, records: Sequence[Record]) -> list[bool]:
        """Accepted by the server when it returns."""
        given = [value for record in records for value in to_row(record)]
        found = self._call(lambda: self._append(keys=[_STREAM, _KEYS], args=given))
        return [bool(new) for new in found]

    def since(self, cursor: str, until: str = "") -> tuple[list[Record], str]:
        """Records behind the cursor, and the next cursor."""
        rows = self._page(cursor, until)
        return [from_row(row["kind"], row["body"]) for _, row in rows], rows[-1][0] if rows else cursor

    def find(self, event_id: str) -> Event | None:
        """See `Store`."""
        place = self._call(lambda: self._client.hget(_KEYS, event_id))
        rows = self._call(lambda: self._client.xrange(_STREAM, min=place, max=place)) if place else []
        return an_event(from_row(rows[0][1]["kind"], rows[0][1]["body"])) if rows else None

    def of_user(self, user_id: str) -> list[Record]:
        """See `Store`; reads the whole stream."""
        return [from_row(row["kind"], row["body"]) for _, row in self._rows_of(user_id)]

    def erase(self, user_id: str) -> int:
        """See `Store`; reads the whole stream. What the server's own files still hold, its next rewrite removes."""
        rows = self._rows_of(user_id)
        for start in range(0, len(rows), PAGE):
            some = rows[start : start + PAGE]
            self._call(lambda some=some: self._client.xdel(_STREAM, *(number for number, _ in some)))  # type: ignore[misc]
            keys = [row["key"] for _, row in some if row["key"]]
            if keys:
                self._call(lambda keys=keys: self._client.hdel(_KEYS, *keys))  # type: ignore[misc]
        self.append([Erased(self.digest(user_id))])
        return len(rows)

    def digest(self, user_id: str) -> str:
        """See `Store`."""
        return keyed_digest(self._secret, user_id)

    def close(self) -> None:
        """No use after it."""
        self._client.close()

    def _rows_of(self, user_id: str) -> list[tuple[str, dict[str, str]]]:
        found: list[tuple[str, dict[str, str]]] = []
        rows = self._page("")
        while rows and user_id:
            found += [(number, row) for number, row in rows if row["user"] == user_id]
            rows = self._page(rows[-1][0])
        return found

    def _page(self, cursor: str, until: str = "") -> list[tuple[str, dict[str, str]]]:
        first = f"({cursor}" if cursor else "-"
        found: list[tuple[str, dict[str, str]]] = self._call(
            lambda: self._client.xrange(_STREAM, min=first, max=until or "+", count=PAGE)
        )
        return found

    def _call(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._errors as error:
            raise StoreError(str(error)) from None

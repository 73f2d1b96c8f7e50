"""What all servers on one store have spent together: a bucket that is refilled at a rate, and who takes from it.

A server tells what it has spent and is told what is left, a few times a second, in one round trip.
"""

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from corella.serving.store.records import StoreError

BURST_SECONDS = 2.0
"""The bucket holds what is refilled in this time."""
GONE_SECONDS = 5.0
"""A server that has said nothing for so long is not counted any more."""


@dataclass(frozen=True)
class Left:
    """What is left for all."""

    tokens: float
    """Below 0: spent in advance."""
    servers: int
    """How many have taken part lately."""


class Spending(Protocol):
    """A bucket that servers share."""

    def exchange(self, server: str, rate: float, spent: float) -> Left:
        """Take what a server has spent since its last call. `rate`: tokens a second. Raises `StoreError`."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


_REDIS = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local rate, spent, burst = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local full = rate * burst
local level = tonumber(redis.call('HGET', KEYS[1], 'level') or full)
local last = tonumber(redis.call('HGET', KEYS[1], 'moment') or now)
level = math.min(level + math.max(now - last, 0) * rate, full) - spent
redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'moment', string.format('%.6f', now))
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[5]))
return {string.format('%.6f', level), redis.call('ZCARD', KEYS[2])}
"""


class RedisSpending:
    """In Redis, by its clock."""

    def __init__(self, url: str) -> None:
        import redis

        self._errors = redis.RedisError
        self._client: Any = redis.Redis.from_url(url, decode_responses=True, socket_timeout=1, socket_connect_timeout=1)
        self._script = self._client.register_script(_REDIS)

    def exchange(self, server: str, rate: float, spent: float) -> Left:
        """See `Spending`."""
        try:
            level, servers = self._script(
                keys=["corella:budget", "corella:servers"], args=[server, rate, spent, BURST_SECONDS, GONE_SECONDS]
            )
        except self._errors as error:
            raise StoreError(str(error)) from None
        return Left(float(level), int(servers))

    def close(self) -> None:
        """No use after it."""
        self._client.close()


_TABLES = (
    "CREATE TABLE IF NOT EXISTS corella_budget (name TEXT PRIMARY KEY, level DOUBLE PRECISION NOT NULL, "
    "moment TIMESTAMPTZ NOT NULL)",
    "CREATE TABLE IF NOT EXISTS corella_servers (server TEXT PRIMARY KEY, seen TIMESTAMPTZ NOT NULL)",
)
_POSTGRES = """
WITH seen AS (
  INSERT INTO corella_servers VALUES (%(server)s, clock_timestamp())
  ON CONFLICT (server) DO UPDATE SET seen = excluded.seen
), gone AS (
  DELETE FROM corella_servers WHERE seen < clock_timestamp() - make_interval(secs => %(gone)s) AND server != %(server)s
)
INSERT INTO corella_budget AS budget VALUES ('tokens', %(full)s - %(spent)s, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET moment = clock_timestamp(), level = least(
  budget.level + greatest(extract(epoch FROM clock_timestamp() - budget.moment), 0) * %(rate)s, %(full)s
) - %(spent)s
RETURNING level, (SELECT count(*) FROM corella_servers
  WHERE server != %(server)s AND seen >= clock_timestamp() - make_interval(secs => %(gone)s)) + 1
"""


class PostgresSpending:
    """In PostgreSQL, by its clock."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._url, self._psycopg = url, psycopg
        self._connection: psycopg.Connection | None = None

    def exchange(self, server: str, rate: float, spent: float) -> Left:
        """See `Spending`."""
        given = {"server": server, "rate": rate, "spent": spent, "full": rate * BURST_SECONDS, "gone": GONE_SECONDS}
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._psycopg.connect(
                    self._url, autocommit=True, connect_timeout=2, tcp_user_timeout=2000,
                    options="-c statement_timeout=1000",
                )  # fmt: skip
                for statement in _TABLES:
                    self._connection.execute(statement)
            row = self._connection.execute(_POSTGRES, given).fetchone()
        except self._psycopg.Error as error:
            if self._connection is not None and self._connection.broken:
                self._connection.close()
            raise StoreError(str(error).strip()) from None
        if row is None:
            raise StoreError("it said nothing of the budget")
        return Left(float(row[0]), int(row[1]))

    def close(self) -> None:
        """No use after it."""
        if self._connection is not None:
            self._connection.close()


def open_spending(url: str) -> Spending | None:
    """The bucket in a store that several machines reach; None for a file, which is one machine's. `open_store` has told
    what is wrong with the address."""
    kind = urlsplit(url).scheme
    if kind in ("redis", "rediss", "unix"):
        return RedisSpending(url)
    return PostgresSpending(url) if kind in ("postgresql", "postgres") else None

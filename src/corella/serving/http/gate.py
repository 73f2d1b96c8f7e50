"""What stands before the application: keys before anything is read, then bodies of a bounded size, sent in time."""

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corella.serving.http.access import NO_KEY
from corella.serving.http.keys import KeyRing
from corella.serving.http.limits import RateLimit

if TYPE_CHECKING:
    from collections.abc import Iterable

STREAMS = ("/v1/events/bulk", "/v1/items/bulk", "/v1/recommend/bulk")
"""Routes that read their bodies line by line, however long they are."""


class Gate:
    """Turns strangers away, and so often only, before their bodies are read."""

    def __init__(
        self, app: ASGIApp, keys: KeyRing, limit: RateLimit, on_refused: Callable[[int], None] = lambda status: None
    ) -> None:
        """`on_refused`: called with the status of each answer that this gives."""
        self._app, self._keys, self._limit, self._on_refused = app, keys, limit, on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"].startswith("/v1/") and self._keys.asked:
            key = self._keys.find(_token(scope["headers"]))
            if key is None:
                address = scope["client"][0] if scope.get("client") else ""
                often = not self._limit.allows(f"no key: {address}")
                self._on_refused(429 if often else 401)
                if often:
                    return await refuse(send, 429, "too many requests without a key", [(b"retry-after", b"1")])
                return await refuse(send, 401, NO_KEY, [(b"www-authenticate", b"Bearer")])
            scope.setdefault("state", {})["key"] = key
        return await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies beyond a size, announced or not, before anything reads them, and those that do not come."""

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        """`seconds`: for a whole body, and between two parts of a stream."""
        self._app, self._limit, self._seconds = app, limit, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if scope["path"] in STREAMS:
            return await self._app(scope, self._in_time(receive), send)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._limit:
            return await self._too_large(send)
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(receive)
        except TimeoutError:
            return await refuse(send, 408, f"the request was not sent in {self._seconds:g} s")
        if body is not None and len(body) > self._limit:
            await self._too_large(send)
            body = None
        if body is None:
            return None  # refused, or the caller has gone
        return await self._app(scope, _replayed(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        parts, size, more = [], 0, True
        while more and size <= self._limit:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
        return b"".join(parts)

    def _in_time(self, receive: Receive) -> Receive:
        async def receive_in_time() -> Message:
            try:
                async with asyncio.timeout(self._seconds):
                    return await receive()
            except TimeoutError:
                return {"type": "http.disconnect"}

        return receive_in_time

    async def _too_large(self, send: Send) -> None:
        await refuse(send, 413, f"the body exceeds {self._limit:,} bytes")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What the application receives of a body that was read."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def refuse(send: Send, status: int, error: str, headers: "Iterable[tuple[bytes, bytes]]" = ()) -> None:
    """Answer without the application, and end the connection: what of the body is not read would be the next
    request."""
    body = json.dumps({"error": error, "details": []}).encode()
    told = [(b"content-type", b"application/json"), (b"connection", b"close"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


def _token(headers: "Iterable[tuple[bytes, bytes]]") -> str:
    scheme, _, token = dict(headers).get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""

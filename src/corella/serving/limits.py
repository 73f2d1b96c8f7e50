"""What keeps one caller from taking the service away from the others: body size, rate, and a lag of the loop."""

import asyncio
import contextlib
import json
import time
from collections import OrderedDict

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CALLERS = 10_000


class RateLimit:
    """A bucket of tokens for each caller; the callers not seen for longest are forgotten."""

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, caller: str, now: float | None = None) -> bool:
        """Whether the caller may ask once more now. `now`: seconds of any clock that does not go back."""
        moment = time.monotonic() if now is None else now
        level, last = self._buckets.pop(caller, (max(self._rate, 1.0), moment))
        level = min(level + (moment - last) * self._rate, max(self._rate, 1.0))
        allowed = level >= 1
        self._buckets[caller] = (level - 1 if allowed else level, moment)
        while len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        return allowed


class Lag:
    """How late the event loop runs: the sign that even the conventional model cannot keep up."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._measure())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _measure(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.02)
            self.seconds = time.monotonic() - began - 0.02


class BodyLimit:
    """Refuses bodies beyond a size, announced or not, before anything reads them."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._limit:
            return await self._refuse(send)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None  # the caller has gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                return await self._refuse(send)
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._app(scope, replay, send)

    async def _refuse(self, send: Send) -> None:
        body = json.dumps({"error": f"the body exceeds {self._limit:,} bytes", "details": []}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})

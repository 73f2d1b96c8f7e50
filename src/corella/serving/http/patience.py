"""Connections that begin a request and never end its head are closed: uvicorn itself waits for ever."""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


def patient(seconds: float) -> type[asyncio.Protocol]:
    """The protocol of a server that waits so long for the head of a request."""

    class Patient(AutoHTTPProtocol):  # type: ignore[valid-type,misc]
        """See the module."""

        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            self._begun: float | None = None
            self._check: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._begun = time.monotonic()
            self._look()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before or not self._idle():
                self._begun = None
            elif self._begun is None:
                self._begun = time.monotonic()

        def connection_lost(self, error: Exception | None) -> None:
            if self._check is not None:
                self._check.cancel()
            super().connection_lost(error)

        def _idle(self) -> bool:
            """Whether no request is at work."""
            return self.cycle is None or self.cycle.response_complete

        def _look(self) -> None:
            if self._begun is not None and time.monotonic() - self._begun > seconds:
                self.transport.close()
                return
            self._check = self.loop.call_later(max(seconds / 4, 0.05), self._look)

    return Patient

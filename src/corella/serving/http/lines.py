"""Streams of lines: read as they come, none of them longer than a bound."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

NDJSON: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/x-ndjson": {"schema": {"type": "string"}}}}
}
"""How the API's description tells of a body of lines."""


async def lines_of(request: Request, longest: int) -> AsyncIterator[tuple[int, bytes]]:
    """The lines of a body with their numbers, from 1; empty ones are left out. Raises 413 for a line of more than
    `longest` bytes. What comes after the caller has gone is not there."""
    pieces: list[bytes] = []  # of the line that has not ended; joined once, or many small parts would cost a square
    size, number = 0, 0
    try:
        async for part in request.stream():
            first, *others = part.split(b"\n")
            pieces.append(first)
            size += len(first)
            for other in others:
                number, line = number + 1, b"".join(pieces)
                pieces, size = [other], len(other)
                if len(line) > longest:
                    raise HTTPException(413, f"line {number} exceeds {longest:,} bytes")
                if line.strip():
                    yield number, line
            if size > longest:
                raise HTTPException(413, f"line {number + 1} exceeds {longest:,} bytes")
    except ClientDisconnect:
        return
    if b"".join(pieces).strip():
        yield number + 1, b"".join(pieces)

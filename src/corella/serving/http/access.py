"""Who may ask, how often, and how much."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from corella.data.scope import Described
from corella.errors import UserError, suggest
from corella.serving.http.context import Context
from corella.serving.http.keys import SCOPES, Key

NO_KEY = "send a key: Authorization: Bearer KEY"
_ITEMS_A_UNIT = 100

bearer = HTTPBearer(auto_error=False, description="A key that `corella make-key` made.")
"""Only so that the API's description tells of keys; `Gate` has checked them before anything is read."""


# Everything is `async`, dependencies too: what is not, would run on other threads, and live state is for one.


async def _context(request: Request) -> AsyncIterator[Context]:
    found: Context = request.app.state.context
    found.at_work += 1
    try:
        yield found
    finally:
        found.at_work -= 1


Shared = Annotated[Context, Depends(_context)]


async def may_read(request: Request, context: Shared) -> None:
    """Let callers with a key of any scope pass, as long as neither they nor all together ask for too much."""
    _admit(request, context, "read")


async def may_write(request: Request, context: Shared) -> None:
    """The same for keys that may write."""
    _admit(request, context, "write")


async def may_administer(request: Request, context: Shared) -> None:
    """The same for keys that may choose what serves."""
    _admit(request, context, "admin")


async def only_known(request: Request) -> None:
    """Refuse parameters that a route does not have: a misspelt one would silently do nothing."""
    route = request.scope.get("route")
    known = {field.alias for field in route.dependant.query_params} if isinstance(route, APIRoute) else set()
    for name in request.query_params:
        if name not in known:
            hint = suggest(name[:64], sorted(known)) if known else "this route has none"
            raise UserError(f"no parameter '{name[:64]}'; {hint}")


READ = [Depends(only_known), Depends(may_read), Depends(bearer)]
WRITE = [Depends(only_known), Depends(may_write), Depends(bearer)]
ADMIN = [Depends(only_known), Depends(may_administer), Depends(bearer)]


def key_of(request: Request) -> Key | None:
    """The caller's key; None where none are asked for."""
    found: Key | None = request.scope.get("state", {}).get("key")
    return found


def charge(request: Request, context: Context, units: float) -> None:
    """Count a request more than once. Raises 429 where that is too much for the caller."""
    if units > 0 and not context.limit.allows(_caller(request, context), units):
        raise HTTPException(429, "too much is asked for with this key or address", {"Retry-After": "1"})


def charge_for(request: Request, context: Context, items: int, history: int, described: Sequence[Described]) -> None:
    """Count what a request names: items, answers of a history, and texts that have to be read. Raises `UserError` where
    the texts are too long together."""
    most, letters = context.service.settings.max_text, sum(len(one.text) for one in described)
    if letters > most:
        raise UserError(f"the texts have {letters:,} characters together; at most {most:,}")
    charge(request, context, (max(items - _ITEMS_A_UNIT, 0) + history) / _ITEMS_A_UNIT + len(described))


def _admit(request: Request, context: Context, scope: str) -> None:
    if context.keys.asked:
        key = key_of(request)
        if key is None:
            raise HTTPException(401, NO_KEY, {"WWW-Authenticate": "Bearer"})
        if SCOPES.index(key.scope) < SCOPES.index(scope):
            raise HTTPException(403, f"the key '{key.name}' has the scope {key.scope}; this needs {scope}")
    if not context.limit.allows(_caller(request, context)):
        raise HTTPException(429, "too many requests with this key or address", {"Retry-After": "1"})
    if context.lag.seconds * 1000 > context.service.settings.overload_ms:
        raise HTTPException(429, "the service cannot keep up", {"Retry-After": "1"})


def _caller(request: Request, context: Context) -> str:
    key = key_of(request) if context.keys.asked else None
    return key.name if key is not None else request.client.host if request.client else ""

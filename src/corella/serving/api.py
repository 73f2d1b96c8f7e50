"""The HTTP application: routes, errors as JSON, limits, and the pages."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from corella.errors import UserError
from corella.serving.catalogue import Catalogue
from corella.serving.context import Context
from corella.serving.keys import Key
from corella.serving.limits import BodyLimit, Lag, RateLimit
from corella.serving.metrics import Metrics
from corella.serving.routes import NO_KEY, address, key_of, router, unguarded
from corella.serving.schema import CurvePoint, Problem, Wrong
from corella.serving.service import Service
from corella.serving.store import StoreError
from corella.serving.traffic import Traffic

log = logging.getLogger("corella")

_PAGE = Path(__file__).parent / "page"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PROBLEMS: dict[int | str, dict[str, object]] = {
    code: {"model": Problem, "description": text}
    for code, text in (
        (401, "No key, or an unknown one"), (403, "The key may not do this"), (413, "The body is too large"),
        (422, "The request is not right"), (429, "Too many requests, or the service cannot keep up"),
        (503, "The store does not answer"),
    )
}  # fmt: skip


def create_app(service: Service, keys: list[Key], curve: list[CurvePoint]) -> FastAPI:
    """The application. `keys`: empty where none are asked for; `curve`: AUC by share routed, as evaluation found it."""
    settings = service.settings
    context = Context(
        service, keys, curve, Catalogue(service.model.dataset), Metrics(), Traffic(), Lag(),
        RateLimit(settings.requests_per_second),
    )  # fmt: skip
    app = FastAPI(
        title="corella", version=version("corella-rec"), lifespan=_lifespan, responses=_PROBLEMS,
        docs_url=None, redoc_url=None,  # which load scripts from elsewhere; docs.html reads the same openapi.json
        description="Scores items for users: a conventional model first, a language model where the router sends it.",
    )  # fmt: skip
    app.state.context = context
    app.middleware("http")(_watch)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(UserError, _mistaken)
    app.add_exception_handler(StoreError, _unstored)
    app.include_router(router)
    app.include_router(unguarded)
    app.mount("/", StaticFiles(directory=_PAGE, html=True))
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    if not keys:  # a page elsewhere whose name leads to this machine must not read from it
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", settings.host])
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    engine = context.service.engine
    context.lag.start()
    if engine is not None:
        engine.on_ready = partial(log.info, "the language model is ready")
        engine.on_fault = partial(_note_fault, context)
        await engine.start()
    log.info("ready; the language model is %s", "not used" if engine is None else "being started")
    try:
        yield
        log.info("told to stop: the requests at work are answered")
        if engine is not None:
            await engine.stop()
    finally:
        await context.lag.stop()
        context.service.close()
        log.info("stopped")


def _note_fault(context: Context, reason: str) -> None:
    log.warning("language model: %s", reason)
    context.metrics.faults.inc()


async def _watch(request: Request, handle: Callable[[Request], Any]) -> Response:
    """Count answers, and add the headers that keep a browser safe."""
    try:
        response: Response = _foreign(request) or await handle(request)
    except Exception:
        log.exception("%s %s", request.method, request.url.path)
        response = _problem(500, "an internal error; it is in the service's log")
    route = request.scope.get("route")
    path = getattr(route, "path", "") or "none"  # the pattern, never what the caller wrote
    request.app.state.context.metrics.requests.labels(path, str(response.status_code)).inc()
    response.headers.update(_HEADERS)
    return response


def _foreign(request: Request) -> Response | None:
    """Who has no key is turned away before anything reads the body, and only so often."""
    context: Context = request.app.state.context
    if not context.keys or not request.url.path.startswith("/v1/"):
        return None
    request.state.key = key_of(request, context.keys)
    if request.state.key is not None:
        return None
    if not context.limit.allows(f"no key: {address(request)}"):
        return _problem(429, "too many requests without a key", headers={"Retry-After": "1"})
    return _problem(401, NO_KEY, headers={"WWW-Authenticate": "Bearer"})


async def _refused(request: Request, error: Any) -> JSONResponse:
    return _problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))


async def _wrong(request: Request, error: Any) -> JSONResponse:
    # Not what was sent: it may be long, secret, or no text at all.
    details = [Wrong(where=[_safe(p) for p in e["loc"]], what=_safe(e["msg"])) for e in error.errors()[:20]]
    return _problem(422, "the request is not right", details)


async def _mistaken(request: Request, error: Any) -> JSONResponse:
    return _problem(422, _safe(error))


async def _unstored(request: Request, error: Any) -> JSONResponse:
    return _problem(503, "the store does not answer; the event may not be kept")


def _problem(
    status: int, error: str, details: list[Wrong] | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    body = Problem(error=error, details=details or [])
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def _safe(value: object) -> str:
    """Text that can be sent, whatever was in the request."""
    return str(value).encode("utf-8", "replace").decode()[:500]

"""The HTTP application: routes, errors as JSON, limits, and the pages."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from corella.errors import UserError
from corella.serving.http.context import Context
from corella.serving.http.gate import BodyLimit, Gate
from corella.serving.http.keys import KeyRing
from corella.serving.http.limits import Lag, RateLimit
from corella.serving.http.metrics import Metrics
from corella.serving.http.routes import router
from corella.serving.http.routes.operators import unguarded
from corella.serving.http.schema import Problem, Wrong
from corella.serving.http.schema_operators import CurvePoint
from corella.serving.http.traffic import Traffic
from corella.serving.service import Service
from corella.serving.store.records import StoreError

log = logging.getLogger("corella")

NOTHING: Mapping[str, str] = {}


class Beside(Protocol):
    """Work that goes on as long as an application runs."""

    async def start(self) -> None:
        """Begin, in the running loop."""
        ...

    async def stop(self) -> None:
        """End."""
        ...


_PAGE = Path(__file__).parent / "page"
_HEADERS = {
    # Pictures of items lie where the catalogue says.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: https: http:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PROBLEMS: dict[int | str, dict[str, object]] = {
    code: {"model": Problem, "description": text}
    for code, text in (
        (401, "No key, or an unknown one"), (403, "The key may not do this"), (404, "There is no such thing"),
        (408, "The request was not sent in time"), (413, "The body is too large"),
        (422, "The request is not right"), (429, "Too many requests, or the service cannot keep up"),
        (503, "The store does not answer"),
    )
}  # fmt: skip


def create_app(
    service: Service, keys: KeyRing, curve: list[CurvePoint], version: str = "", problems: Mapping[str, str] = NOTHING
) -> FastAPI:
    """The application. `curve`: AUC by share routed, as evaluation found it; `version`: of the model; `problems`: what
    is wrong from the start, by part."""
    settings = service.settings
    context = Context(
        service, keys, curve, version, Metrics(), Traffic(), Lag(), RateLimit(settings.requests_per_second)
    )
    for part, cause in problems.items():
        _note(context, part, cause)
    keys.on_problem = partial(_note, context, "keys")
    attach(context)
    app = FastAPI(
        title="corella", version=metadata.version("corella-rec"), lifespan=_lifespan, responses=_PROBLEMS,
        generate_unique_id_function=lambda route: route.name,  # what generated clients call it
        docs_url=None, redoc_url=None,  # which load scripts from elsewhere; docs.html reads the same openapi.json
        description="Recommends items, ranks them, says why, and learns of what people do.",
    )  # fmt: skip
    app.state.context = context
    beside: list[Beside] = []
    app.state.beside = beside
    app.middleware("http")(_watch)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(UserError, _mistaken)
    app.add_exception_handler(StoreError, _unstored)
    app.include_router(router)
    app.include_router(unguarded)
    app.mount("/", StaticFiles(directory=_PAGE, html=True))
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes, seconds=settings.body_seconds)
    app.add_middleware(
        Gate, keys=keys, limit=context.limit, on_refused=partial(_count, context)
    )  # the last one added stands first
    if not keys.asked:  # a page elsewhere whose name leads to this machine must not read from it
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", settings.host])
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    engine = context.service.engine
    context.lag.start()
    await context.service.warm()
    if engine is not None:
        await engine.start()
    for work in app.state.beside:
        await work.start()
    log.info("ready; the language model is %s", "not used" if engine is None else "being started")
    try:
        yield
        log.info("told to stop: the requests at work are answered")
        for work in app.state.beside:
            await work.stop()
        context = app.state.context  # another one than at first, where a version was swapped
        if context.service.engine is not None:
            await context.service.engine.stop()
    finally:
        await context.lag.stop()
        context.service.close()
        log.info("stopped")


def attach(context: Context) -> None:
    """Tie the news of a context's service to it."""
    service = context.service
    service.feed.on_health = partial(_note, context, "store")
    if service.engine is not None:
        service.engine.on_ready = partial(_note, context, "language model", "")
        service.engine.on_fault = partial(_note_fault, context)


def _note(context: Context, part: str, cause: str) -> None:
    """Tell of a problem where it shows: in the log, in /readyz, on the operators' page, in the metrics."""
    if context.note(part, cause):
        log.log(logging.WARNING if cause else logging.INFO, "%s: %s", part, cause or "works")


def _note_fault(context: Context, reason: str) -> None:
    _note(context, "language model", reason)
    context.metrics.faults.inc()


def _count(context: Context, status: int) -> None:
    """Of an answer without the application."""
    context.metrics.requests.labels("none", str(status)).inc()


async def _watch(request: Request, handle: Callable[[Request], Any]) -> Response:
    """Count answers, and add the headers that keep a browser safe."""
    try:
        response: Response = await handle(request)
    except Exception:
        log.exception("%s %s", request.method, request.url.path)
        response = _problem(500, "an internal error; it is in the service's log")
    route = request.scope.get("route")
    path = getattr(route, "path", "") or "none"  # the pattern, never what the caller wrote
    request.app.state.context.metrics.requests.labels(path, str(response.status_code)).inc()
    response.headers.update(_HEADERS)
    return response


async def _refused(request: Request, error: Any) -> JSONResponse:
    return _problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))


async def _wrong(request: Request, error: Any) -> JSONResponse:
    # Not what was sent: it may be long, secret, or no text at all.
    details = [Wrong(where=[_safe(p) for p in e["loc"]], what=_safe(e["msg"])) for e in error.errors()[:20]]
    return _problem(422, "the request is not right", details)


async def _mistaken(request: Request, error: Any) -> JSONResponse:
    return _problem(422, _safe(error))


async def _unstored(request: Request, error: Any) -> JSONResponse:
    return _problem(503, _safe(f"it may not be kept: {error}"))


def _problem(
    status: int, error: str, details: list[Wrong] | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    body = Problem(error=error, details=details or [])
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def _safe(value: object) -> str:
    """Text that can be sent, whatever was in the request."""
    return str(value).encode("utf-8", "replace").decode()[:500]

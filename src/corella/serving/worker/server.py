"""The HTTP application of a language model's server: messages of the engine as bodies."""

import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from corella.serving.engine.messages import Asked, Forget, Job, Message, Put, Standing, pack, unpack
from corella.serving.engine.network import MODEL, RETRIEVAL, STANDING
from corella.serving.http.gate import BodyLimit, Gate
from corella.serving.http.keys import Key, KeyRing
from corella.serving.http.limits import RateLimit
from corella.serving.worker.answering import Told, answered
from corella.serving.worker.models import Loaded, Models
from corella.serving.worker.settings import WorkerSettings

log = logging.getLogger("corella")


def create_worker(models: Models, keys: KeyRing, settings: WorkerSettings) -> Starlette:
    """The application. `models`: are started and stopped with it."""
    server = _Server(models, keys, settings)
    limits = [
        Middleware(Gate, keys=keys, limit=server.limit),
        Middleware(BodyLimit, limit=settings.max_body_bytes, seconds=settings.body_seconds),
    ]
    if not keys.asked:  # a page elsewhere whose name leads to this machine must not read from it
        names = ["localhost", "127.0.0.1", "[::1]", settings.host]
        limits.insert(0, Middleware(TrustedHostMiddleware, allowed_hosts=names))
    routes = [
        Route("/v1/ask", server.guarded(server.ask), methods=["POST"]),
        Route("/v1/standing", server.guarded(server.standing)),
        Route("/healthz", server.healthy), Route("/readyz", server.ready), Route("/metrics", server.metrics),
    ]  # fmt: skip
    return Starlette(routes=routes, middleware=limits, lifespan=server.lifespan)


class _Server:
    """What the routes share."""

    def __init__(self, models: Models, keys: KeyRing, settings: WorkerSettings) -> None:
        self._models, self._keys, self._settings = models, keys, settings
        self._process = secrets.token_hex(8)
        self._problem = ""
        models.on_problem = self._note
        self.limit = RateLimit(settings.requests_per_second)
        self._registry = CollectorRegistry()
        self._asked = Counter("corella_llm_messages", "Messages, by answer", ["answer"], registry=self._registry)
        self._waiting = Gauge("corella_llm_waiting_tokens", "Tokens that wait", registry=self._registry)
        self._ready = Gauge("corella_llm_ready", "Versions of the model that can be asked", registry=self._registry)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Load, and end the processes."""
        await self._models.start()
        log.info("listening; the language model is being loaded")
        try:
            yield
        finally:
            await self._models.stop()

    def guarded(self, handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """A route for keys that may write (what is asked is also kept), and not too often. `Gate` has checked the
        key."""

        async def admit(request: Request) -> Response:
            caller = request.client.host if request.client else ""
            if self._keys.asked:
                key: Key = request.scope["state"]["key"]
                if key.scope == "read":
                    return _problem(403, f"the key '{key.name}' has the scope read; this needs write")
                caller = key.name
            if not self.limit.allows(caller):
                return _problem(429, "too many requests with this key or address")
            return await handle(request)

        return admit

    async def ask(self, request: Request) -> Response:
        """A message in, a message out."""
        try:
            told = unpack(await request.body())
        except (ValueError, KeyError, TypeError, AttributeError):
            return _problem(422, "this is no message")
        if not isinstance(told, Job | Asked | Put | Forget):
            return _problem(422, f"{type(told).__name__} is no question")
        loaded = await self._models.find(request.headers.get(MODEL, ""))
        answer: Message | None = None
        if isinstance(loaded, Loaded):
            answer = await self._answer(loaded, told)
        name = "not there" if isinstance(loaded, str) else "none" if answer is None else type(answer).__name__
        self._asked.labels(name).inc()
        headers = {STANDING: json.dumps(asdict(self._standing(request, loaded)))}
        return Response(b"" if answer is None else pack(answer), media_type="application/octet-stream", headers=headers)

    async def _answer(self, loaded: Loaded, told: Told) -> Message | None:
        if isinstance(told, Forget):
            for engine in self._models.engines:
                engine.forget(told.user)
            return None
        return await answered(loaded.engine, told, self._settings.max_deadline_ms / 1000)

    async def standing(self, request: Request) -> Response:
        """How the model stands that is asked for; it is loaded where it is not."""
        loaded = await self._models.find(request.headers.get(MODEL, ""))
        return JSONResponse(asdict(self._standing(request, loaded)))

    def _standing(self, request: Request, loaded: Loaded | str) -> Standing:
        if isinstance(loaded, str):
            return Standing(False, False, False, 0.0, 0.0, 0.0, 0, 0, self._process, loaded)
        found = loaded.engine.standing()
        same = found.retrieves and loaded.retrieval == request.headers.get(RETRIEVAL, "")
        why = "" if found.ready or found.loading else self._problem or "the language model's process is not there"
        return replace(found, retrieves=same, process=self._process, why=why)

    async def healthy(self, request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """503 until a version of the model is loaded."""
        ready = any(engine.ready for engine in self._models.engines)
        return JSONResponse({"language_model": ready, "problem": self._problem}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """In Prometheus' text format."""
        self._waiting.set(sum(engine.standing().waiting for engine in self._models.engines))
        self._ready.set(sum(engine.ready for engine in self._models.engines))
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def _note(self, why: str) -> None:
        if why != self._problem:
            log.log(logging.WARNING if why else logging.INFO, "language model: %s", why or "works")
        self._problem = why


def _problem(status: int, error: str) -> Response:
    return JSONResponse({"error": error, "details": []}, status)

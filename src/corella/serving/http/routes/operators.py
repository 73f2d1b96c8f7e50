"""What operators and machines ask for."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from corella.serving.http.access import READ, Shared
from corella.serving.http.schema_operators import Curve, Problem, Readiness, TrafficNow

router = APIRouter()
unguarded = APIRouter(include_in_schema=False)
"""For machines that watch the service: no key."""


@router.get("/v1/curve", dependencies=READ, summary="What the language model's budget buys")
async def curve(context: Shared) -> Curve:
    """AUC on test rows by the share routed, as the run's evaluation measured it, and what an item costs."""
    service = context.service
    share = service.model.share if service.settings.share is None else service.settings.share
    return Curve(
        share=share, deadline_ms=service.settings.deadline_ms,
        milliseconds_per_item=service.model.facts.milliseconds_per_sample, curve=context.curve,
    )  # fmt: skip


@router.get("/v1/traffic", dependencies=READ, summary="The last ten minutes")
async def traffic(context: Shared) -> TrafficNow:
    """Requests, latency by path, share routed, fallbacks, and what is wrong."""
    engine = context.service.engine
    trust = None if engine is None else engine.trust
    problems = [Problem(part=part, cause=cause) for part, cause in context.problems.items()]
    return TrafficNow(
        window=context.traffic.summary(), engine="off" if engine is None else "ready" if engine.ready else "not ready",
        trust=trust, store=not context.service.feed.health.cause, lag=context.lag.seconds, version=context.version,
        problems=problems,
    )  # fmt: skip


@unguarded.get("/healthz")
async def healthy() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@unguarded.get("/readyz")
async def ready(response: Response, context: Shared) -> Readiness:
    """Ready as soon as the conventional model can answer; the language model may still be loading. 503 where the store
    does not read or keep."""
    service = context.service
    await service.feed.sync()
    well = not service.feed.health.cause
    response.status_code = 200 if well else 503
    return Readiness(
        store=well, language_model=service.engine is not None and service.engine.ready, version=context.version,
        problems=[Problem(part=part, cause=cause) for part, cause in context.problems.items()],
    )  # fmt: skip


@unguarded.get("/metrics")
async def prometheus(context: Shared) -> Response:
    """In Prometheus' text format."""
    context.metrics.lag.set(context.lag.seconds)
    engine = context.service.engine
    if engine is not None and engine.trust is not None:
        context.metrics.trust.set(engine.trust)
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)

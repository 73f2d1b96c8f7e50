"""What operators and machines ask for."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from corella.serving.http.access import ADMIN, READ, Shared
from corella.serving.http.answers import longest
from corella.serving.http.schema_operators import Curve, ExperimentNow, Problem, Readiness, TrafficNow, VersionList
from corella.serving.trial.wording import in_words
from corella.serving.versions.folder import FIRST, Version

router = APIRouter()
unguarded = APIRouter(include_in_schema=False)
"""For machines that watch the service: no key."""


@router.get("/v1/curve", dependencies=READ, summary="What the language model's budget buys")
async def curve(context: Shared) -> Curve:
    """AUC on test rows by the share routed, as the run's evaluation measured it, and what an item costs."""
    service = context.service
    share = service.model.share if service.settings.share is None else service.settings.share
    return Curve(
        share=share, deadline_ms=service.settings.deadline_ms, max_deadline_ms=longest(context, float("inf")),
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


@router.get("/v1/experiment", dependencies=READ, summary="How the experiment stands")
async def experiment(context: Shared) -> ExperimentNow:
    """Users and successes of each arm, and intervals that hold however often one looks."""
    await context.service.feed.sync()
    tracker = context.service.feed.tracker
    if tracker is None:
        return ExperimentNow(standing=None, said="No experiment runs.", lost=0)
    standing = await asyncio.to_thread(tracker.standing, int(time.time()))
    lost = 0 if context.impressions is None else context.impressions.lost
    return ExperimentNow(standing=standing, said=in_words(standing), lost=lost)


@router.get("/v1/versions", dependencies=READ, summary="Versions of the model")
async def versions(context: Shared) -> VersionList:
    """The run itself and what was trained since, how each compared with the one that served, and which one serves."""
    known = context.versions
    if known is None:
        return VersionList(serving=FIRST, versions=[Version(FIRST, "", "", None)])
    found = await asyncio.to_thread(lambda: [known.version(name) for name in known.names()])
    return VersionList(serving=await asyncio.to_thread(lambda: known.serving), versions=found)


@router.post("/v1/versions/{name}", dependencies=ADMIN, summary="Choose the version that serves")
async def choose_version(name: Annotated[str, Path(pattern=r"^[1-9][0-9]{0,8}$")], context: Shared) -> VersionList:
    """It serves when this returns; requests at work end with the one that they began with. Also the way back."""
    if context.swap is None:
        raise HTTPException(404, "this service has no versions")
    await context.swap(name)
    return await versions(context)


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

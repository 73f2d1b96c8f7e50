"""Items that a caller names, scored."""

import time
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Request, Response

from corella.data.scope import Described
from corella.errors import UserError
from corella.serving.http.access import READ, Shared, charge_for
from corella.serving.http.answers import asker_of, deadline_of, described, scored_items, timing
from corella.serving.http.context import Context
from corella.serving.http.schema import Answered, Asking, ScoreRequest
from corella.serving.http.traffic import Request as Counted
from corella.serving.service import Scored

router = APIRouter()


@router.post("/v1/score", dependencies=READ, summary="Score items for somebody", response_model=Answered)
async def score(asking: ScoreRequest, request: Request, context: Shared) -> Response:
    """The items in the order asked, each with both models' opinions, and who decided."""
    began = time.monotonic()
    most = context.service.settings.max_candidates
    if len(asking.items) > most:
        raise UserError(f"items: {len(asking.items)}; at most {most}")
    items = [item if isinstance(item, str) else described(context, item) for item in asking.items]
    new = [item for item in items if isinstance(item, Described)]
    charge_for(request, context, len(items), len(asking.history), new)
    deadline = deadline_of(context, asking, began)
    found = await scored(context, asking, items, began, deadline)
    rows = scored_items(context, found, items, range(len(items)))
    share = float(found.routed.mean())
    body = Answered.model_construct(items=rows, share_routed=share, milliseconds=timing(found, began, deadline))
    return Response(body.model_dump_json(), media_type="application/json")  # not validated once more: it is ours


async def scored(
    context: Context, asking: Asking, items: Sequence[str | Described], began: float, deadline: float
) -> Scored:
    """Score, and count what happened."""
    found = await context.service.score(asker_of(context, asking), items, asking.share, deadline)
    took = time.monotonic() - began
    answered = int((found.routed & ~np.isnan(found.llm)).sum())
    reasons = tuple(reason for reason in found.fallback if reason)
    for name, count in (("llm", answered), ("crm", len(items) - answered)):
        context.metrics.items.labels(name).inc(count)
    for reason in reasons:
        context.metrics.fallbacks.labels(reason).inc()
    context.traffic.add(Counted(time.time(), 1000 * took, len(items), int(found.routed.sum()), answered, reasons))
    context.metrics.seconds.labels("llm" if answered else "crm").observe(took)
    return found

"""From a request to a question for the service, and from its scores to an answer."""

import time
from collections.abc import Sequence

import numpy as np
from fastapi import Response

from corella.data.scope import Described
from corella.errors import UserError
from corella.features.ratings import answer_label
from corella.serving.catalogue import Catalogue, unknown
from corella.serving.context import Context
from corella.serving.live import HistoryEntry
from corella.serving.schema import (
    Answered,
    Asking,
    ScoredItem,
    Timing,
)
from corella.serving.service import Asker, Scored


def deadline_of(context: Context, asking: Asking, began: float) -> float:
    """Until when the request may wait for the language model, in seconds of `time.monotonic`."""
    settings = context.service.settings
    most = max(settings.deadline_ms, settings.max_deadline_ms)
    return began + min(asking.deadline_ms or settings.deadline_ms, most) / 1000


def asker_of(context: Context, asking: Asking) -> Asker:
    """Who asks. Raises `UserError` for a history that is too long, or an interaction in it that says nothing."""
    most = context.service.settings.max_history
    if len(asking.history) > most:
        raise UserError(f"history: {len(asking.history)} answers; at most {most}")
    config, past = context.service.model.dataset.config, []
    for place, said in enumerate(asking.history):
        try:
            label = answer_label(config, said.liked, said.rating)
        except UserError as error:
            raise UserError(f"history, answer {place + 1}: {error}") from None
        past.append(HistoryEntry(said.item_id, label, said.rating))
    who = asking.profile
    profile = None if who is None else unknown(who.text, who.fields, context.catalogue.user_fields)
    return Asker(asking.user_id, profile, past)


def answer_of(
    catalogue: Catalogue, found: Scored, items: Sequence[str | Described], order: Sequence[int], began: float,
    deadline: float,
) -> Response:  # fmt: skip
    """Scores of items in an order, as JSON."""
    rows = []
    for i in order:
        item, llm = items[i], float(found.llm[i])
        item_id, text = (item, catalogue.text(item)) if isinstance(item, str) else (None, item.text)
        rows.append(
            ScoredItem.model_construct(
                item_id=item_id, text=text, known=item_id is not None and item_id in catalogue,
                probability=float(found.probability[i]), crm_probability=float(found.crm[i]),
                crm_entropy=float(found.entropy[i]), routed=bool(found.routed[i]), why=why(found, i),
                llm_probability=None if np.isnan(llm) else llm, fallback=found.fallback[i],
            )
        )  # fmt: skip
    llm_seconds = found.seconds.get("llm")
    timing = Timing(
        total=1000 * (time.monotonic() - began), crm=1000 * found.seconds["crm"],
        llm=None if llm_seconds is None else 1000 * llm_seconds, deadline=1000 * (deadline - began),
    )  # fmt: skip
    share = float(found.routed.mean()) if len(items) else 0.0
    body = Answered.model_construct(items=rows, share_routed=share, milliseconds=timing)
    return Response(body.model_dump_json(), media_type="application/json")  # not validated once more: it is ours


def why(found: Scored, i: int) -> str:
    """Why an item was routed, or not."""
    if found.threshold == float("-inf"):
        return "everything is routed"
    if found.threshold == float("inf"):
        return "the budget routes nothing"
    if found.whole_requests:
        return "all of the request is routed" if found.routed[i] else "nothing of the request is routed"
    relation = "reaches" if found.routed[i] else "is below"
    return f"expected gain {found.priority[i]:.2f} {relation} {found.threshold:.2f}"

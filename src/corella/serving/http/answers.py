"""From a request to a question for the service, and from its scores to an answer."""

import time
from collections.abc import Sequence

import numpy as np

from corella.data.scope import Described
from corella.errors import UserError
from corella.features.ratings import answer_label
from corella.serving.http.context import Context
from corella.serving.http.schema import Asking, Description, ScoredItem, Timing
from corella.serving.service import Asker, Scored
from corella.serving.state.catalogue import check_fields
from corella.serving.state.live import HistoryEntry


def deadline_of(context: Context, asking: Asking, began: float) -> float:
    """Until when the request may wait for the language model, in seconds of `time.monotonic`."""
    return began + longest(context, asking.deadline_ms) / 1000


def longest(context: Context, wanted: float | None = None) -> float:
    """How long a request may wait, in milliseconds, where it wants to wait so long."""
    settings = context.service.settings
    return min(wanted or settings.deadline_ms, max(settings.deadline_ms, settings.max_deadline_ms))


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
    profile = None
    if who is not None:
        check_fields(who.fields, context.service.live.user_fields)
        profile = Described(who.text, who.fields)
    return Asker(asking.user_id, profile, past)


def described(context: Context, item: Description) -> Described:
    """An item that a request describes. Raises `UserError` for fields that the training data do not have."""
    check_fields(item.fields, context.service.live.catalogue.fields)
    return Described(item.text, item.fields)


def scored_items(
    context: Context, found: Scored, items: Sequence[str | Described], order: Sequence[int]
) -> list[ScoredItem]:
    """Scores of items in an order."""
    catalogue = context.service.live.catalogue
    rows = []
    for i in order:
        item, llm = items[i], float(found.llm[i])
        item_id, text = (item, catalogue.text(item)) if isinstance(item, str) else (None, item.text)
        rows.append(
            ScoredItem.model_construct(
                item_id=item_id, text=text, known=item_id is not None and item_id in catalogue,
                probability=float(found.probability[i]), crm_probability=float(found.crm[i]),
                crm_entropy=float(found.entropy[i]), routed=bool(found.routed[i]), why=why_routed(found, i),
                llm_probability=None if np.isnan(llm) else llm, fallback=found.fallback[i],
            )
        )  # fmt: skip
    return rows


def timing(found: Scored | None, began: float, deadline: float) -> Timing:
    """Where the time went."""
    seconds = {} if found is None else found.seconds
    llm = seconds.get("llm")
    return Timing(
        total=1000 * (time.monotonic() - began), crm=1000 * seconds.get("crm", 0.0),
        llm=None if llm is None else 1000 * llm, deadline=1000 * (deadline - began),
    )  # fmt: skip


def why_routed(found: Scored, i: int) -> str:
    """Why an item was routed, or not."""
    if found.threshold == float("-inf"):
        return "everything is routed"
    if found.threshold == float("inf"):
        return "the budget routes nothing"
    if found.whole_requests:
        return "all of the request is routed" if found.routed[i] else "nothing of the request is routed"
    relation = "reaches" if found.routed[i] else "is below"
    return f"expected gain {found.priority[i]:.2f} {relation} {found.threshold:.2f}"

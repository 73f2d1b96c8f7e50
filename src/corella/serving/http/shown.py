"""A page of recommendations in an experiment: whose arm it is, what stands first by lot, and what is kept of it."""

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from corella.serving.http.context import Context
from corella.serving.http.schema_listing import RecommendRequest
from corella.serving.service import Scored
from corella.serving.store.records import Shown


@dataclass(frozen=True, eq=False)
class Page:
    """What is shown."""

    items: Sequence[str]
    places: Sequence[int]
    """Of the items among those that were scored."""
    chance: Sequence[float]
    """That each stands first; empty for a page behind the first."""
    scored: Scored


def in_its_arm(asking: RecommendRequest, context: Context) -> tuple[RecommendRequest, Context, str]:
    """A request as its user's arm has it, the context of the arm's version, and the arm; the same and '' where no
    experiment runs or nobody is named."""
    tracker = context.service.feed.tracker
    if tracker is None or asking.user_id is None:
        return asking, context, ""
    name = tracker.arm(asking.user_id)
    arm = tracker.experiment.arms[name]
    given = {"share": arm.share, "deadline_ms": arm.deadline_ms}
    told = {key: value for key, value in given.items() if value is not None}
    other = context.beside.get(arm.version or "", context)
    return asking.model_copy(update=told) if told else asking, other, name


def drawn(page: list[int], context: Context, *, by_lot: bool) -> tuple[list[int], list[float]]:
    """A page, whose first item was drawn by lot where the settings say so, and the chance that each of its items had
    to stand first. `by_lot`: whether it may be drawn: a first page without pins."""
    if not by_lot:
        return page, []
    explore = context.service.settings.explore if len(page) > 1 else 0.0
    best = page[0] if page else -1
    if random.random() < explore:  # noqa: S311
        first = random.choice(page)  # noqa: S311
        page = [first, *(n for n in page if n != first)]
    return page, [explore / len(page) + (1 - explore) * (n == best) for n in page]


def keep_page(context: Context, user_id: str | None, arm: str, page: Page) -> None:
    """Keep what is shown, where an experiment runs or the settings say so."""
    if context.impressions is None or user_id is None or not page.items:
        return
    found, places = page.scored, list(page.places)
    tracker = context.service.feed.tracker
    context.impressions.add(
        Shown(
            user_id, list(page.items), list(page.chance), found.crm[places].tolist(),
            found.probability[places].tolist(), found.priority[places].tolist(), context.version,
            "" if tracker is None else tracker.experiment.name, arm, int(time.time()), uuid.uuid4().hex,
        )
    )  # fmt: skip

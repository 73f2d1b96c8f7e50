"""Kinds of events: which of them say that somebody liked an item, and how much each counts in what is popular."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from corella.config import DataConfig, Section
from corella.config.data import CLICKS
from corella.errors import UserError, suggest
from corella.features.ratings import answer_label


class EventKind(Section):
    """What events of one kind mean."""

    label: bool | Literal["rating"] | None = None
    """Whether the user liked the item: true, false, `rating` (as the rating says), or null: it says neither."""
    weight: float = Field(default=1.0, ge=0, le=100)
    """How much one counts in what is popular."""


KINDS: dict[str, EventKind] = {
    "view": EventKind(weight=0.1), "click": EventKind(weight=0.3), "buy": EventKind(label=True, weight=3),
    "like": EventKind(label=True), "dislike": EventKind(label=False, weight=0), "rating": EventKind(label="rating"),
}  # fmt: skip
"""The kinds that are there unless a service says otherwise. Where training learned from clicks, a click is a like."""


@dataclass(frozen=True)
class Meaning:
    """What an event is kept as."""

    kind: str
    label: int | None


def kinds_of(config: DataConfig, given: Mapping[str, EventKind]) -> dict[str, EventKind]:
    """The kinds of a service: the usual ones, and those that its settings give."""
    usual = {**KINDS, "click": EventKind(label=True)} if config.label == CLICKS else KINDS
    return {**usual, **given}


def meaning(
    config: DataConfig, kinds: Mapping[str, EventKind], kind: str | None, liked: bool | None, rating: float | None
) -> Meaning:
    """What an event says. Without a kind it is a rating, a like or a dislike. Raises `UserError` for a kind that there
    is not, and where kind, like and rating contradict each other or leave it open."""
    if kind is None:
        label = answer_label(config, liked, rating)
        return Meaning("rating" if rating is not None else "like" if label else "dislike", label)
    if kind not in kinds:
        raise UserError(f"kind: no '{kind}'; {suggest(kind, kinds)}")
    says = kinds[kind].label
    if says is None:
        if liked is not None:
            raise UserError(f"liked: an event of the kind '{kind}' does not say so; send a like, or a dislike")
        return Meaning(kind, None)
    if says == "rating":
        if rating is None:
            raise UserError(f"rating: an event of the kind '{kind}' has to say it")
        return Meaning(kind, answer_label(config, liked, rating))
    if liked not in (None, says):
        raise UserError(f"liked: {str(liked).lower()}, but '{kind}' says the contrary")
    return Meaning(kind, answer_label(config, says, rating))

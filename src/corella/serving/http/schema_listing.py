"""Requests for items, and answers that list them."""

from typing import Annotated, Literal

from pydantic import BaseModel, FailFast, Field, model_validator

from corella.serving.http.schema import Asking, Given, Identifier, ScoredItem, Timing
from corella.serving.settings import MOST
from corella.serving.state.filters import Condition
from corella.serving.state.popular import Window

FieldName = Annotated[str, Field(max_length=64)]
Values = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)]
Ids = Annotated[list[Identifier], FailFast(), Field(max_length=MOST)]


class Filter(Given):
    """What a field of an item must hold: all that is said here."""

    field: FieldName = Field(description="A column of the training data's items.", examples=["genres"])
    any_of: Values = Field(default_factory=list, description="At least one of these.", examples=[["Drama", "Crime"]])
    all_of: Values = Field(default_factory=list, description="Each of these.")
    none_of: Values = Field(default_factory=list, description="None of these.")
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)

    @property
    def condition(self) -> Condition:
        """The same for the catalogue."""
        return Condition(
            self.field, tuple(self.any_of), tuple(self.all_of), tuple(self.none_of), self.at_least, self.at_most
        )


Filters = Annotated[list[Filter], Field(max_length=16, description="All of them must hold.")]


class Boost(Given):
    """Items that shall come earlier, or later."""

    where: Filter
    by: float = Field(
        gt=0, le=100, description="The odds that the user likes such an item are multiplied by this for the order; the "
        "probability that is told stays as it is.",
    )  # fmt: skip


class Cap(Given):
    """How many items of the list may share a value of a field."""

    field: FieldName = Field(examples=["genres"])
    most: int = Field(ge=1, le=1000)


class Listing(Given):
    """Which items may be listed."""

    k: int = Field(default=10, ge=1, le=100, description="How many items.")
    filters: Filters = Field(default_factory=list)
    exclude: Ids = Field(default_factory=list, description="Items that must not come.")


class RecommendRequest(Asking, Listing):
    """What to recommend to whom. Nobody at all is asked for what is popular."""

    offset: int = Field(default=0, ge=0, le=1000, description="How many of the best are left out: the next page.")
    candidates: int = Field(default=100, ge=1, description="How many items are ranked; the others are left out early.")
    pins: Annotated[list[Identifier], Field(max_length=100)] = Field(
        default_factory=list, description="Items that stand first, in this order, whatever they score."
    )
    boosts: Annotated[list[Boost], Field(max_length=16)] = Field(default_factory=list)
    caps: Annotated[list[Cap], Field(max_length=4)] = Field(
        default_factory=list, description="For variety: what would be too much of one value comes later."
    )
    explain: bool = Field(default=False, description="Whether each item says why it is there.")

    @model_validator(mode="after")
    def _one_of(self) -> "RecommendRequest":
        if self.user_id is not None and (self.profile is not None or self.history):
            raise ValueError("give either user_id, or profile and history")
        return self


class SimilarRequest(Listing):
    """Items like one."""

    item_id: Identifier


class PopularRequest(Listing):
    """What is popular now."""

    window: Window = Field(default="7d", description="How far back.")


class Liked(BaseModel):
    """An item that the user liked, and what it adds."""

    item_id: str
    text: str
    share: float = Field(description="Of all that liked items add to the item's retrieval score, 0 to 1.")


class Feature(BaseModel):
    """Something that the trees looked at."""

    what: str = Field(description="In words.")
    adds: float = Field(description="To the log-odds that the user likes the item, by the trees' own account.")


class Why(BaseModel):
    """Why an item is there. Nothing of it is invented by a language model."""

    sentence: str
    because: list[Liked] = Field(description="Exact parts of the linear retrieval's score, the largest first.")
    features: list[Feature] = Field(description="The trees' largest contributions, by size.")


class ListedItem(ScoredItem):
    """A recommended item."""

    image: str = ""
    link: str = ""
    pinned: bool = False
    reason: Why | None = Field(default=None, description="Where it was asked for.")


class Recommended(BaseModel):
    """Items, best first."""

    items: list[ListedItem]
    more: bool = Field(description="Whether the next page has items.")
    by: Literal["user", "popular"] = Field(description="`popular`: nothing is known that this asker likes.")
    share_routed: float
    milliseconds: Timing
    version: str = Field(description="Of the model that answered.")
    arm: str = Field(default="", description="Of the experiment that runs; empty where none does, or without user_id.")


class ItemCard(BaseModel):
    """An item as lists show it."""

    item_id: str
    text: str
    image: str = ""
    link: str = ""


class Alike(ItemCard):
    """An item like another."""

    score: float = Field(description="The higher the more alike; only good for comparing within one answer.")


class SimilarItems(BaseModel):
    """Items like one, most similar first."""

    items: list[Alike]
    by: Literal["behaviour", "text"] = Field(
        description="`behaviour`: what people liked together, and texts as far as the retrieval learned from them."
    )
    version: str


class PopularItem(ItemCard):
    """A popular item."""

    score: float = Field(description="Weight of what was done with it in the window.")


class PopularItems(BaseModel):
    """The most popular first."""

    items: list[PopularItem]
    window: Window


class SearchHit(ItemCard):
    """An item that was looked for."""


class SearchResults(BaseModel):
    """What was found."""

    items: list[SearchHit]
    exact: bool = Field(description="False: no text has all words; these are written alike.")
    said: str = Field(description="For people: what was found, or that nothing was.")

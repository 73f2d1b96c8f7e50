"""Requests and answers of the API, version 1."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator

from corella.serving.traffic import Summary

Identifier = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", description="As in the training data.")
]
MOST = 10_000
"""Longest list of a request: what is behind a wrong entry, or this, is not looked at."""
Text = Annotated[str, Field(min_length=1, max_length=500)]
Value = (
    Annotated[str, Field(max_length=200)]
    | int
    | Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=32)]
)


Liked = Annotated[
    bool | None,
    Field(description="May be left out where a rating is given and the training data's labels are a rule on ratings."),
]
Rating = Annotated[
    float | None,
    Field(
        strict=True, allow_inf_nan=False,
        description="Where the user gave one, on the scale of the training data; what is beyond it counts as its end. "
        "Not used where the training data have none.",
    ),
]  # fmt: skip


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Description(_Given):
    """A user or an item that the training data does not have."""

    text: Text = Field(description="How the language model reads it, one line.", examples=["The Matrix (1999), Action"])
    fields: dict[Annotated[str, Field(max_length=64)], Value] = Field(
        default_factory=dict, max_length=32, description="Columns of the training data, e.g. genres.",
        examples=[{"genres": ["Action", "Sci-Fi"]}],
    )  # fmt: skip


class PastAnswer(_Given):
    """An answer of a described user."""

    item_id: Identifier
    liked: Liked = None
    rating: Rating = None


class Asking(_Given):
    """Who asks: a user id, or a profile with a history."""

    user_id: Identifier | None = Field(default=None, examples=["196"])
    profile: Description | None = Field(default=None, description="Instead of user_id: somebody new.")
    history: Annotated[list[PastAnswer], FailFast()] = Field(
        default_factory=list, max_length=MOST, description="Of a described user, oldest first."
    )
    share: float | None = Field(
        default=None, ge=0, le=1, description="Share of items that the router may send to the language model."
    )
    deadline_ms: float | None = Field(
        default=None,
        gt=0,
        le=60_000,
        description="How long to wait for the language model, as far as the service allows it.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> "Asking":
        if (self.user_id is None) == (self.profile is None and not self.history):
            raise ValueError("give either user_id, or profile and history")
        return self


class ScoreRequest(Asking):
    """Items to score."""

    items: Annotated[list[Identifier | Description], FailFast()] = Field(
        min_length=1, max_length=MOST, examples=[["242", "302", "377"]]
    )


class RecommendRequest(Asking):
    """How many items to recommend."""

    k: int = Field(default=10, ge=1, le=100)
    candidates: int = Field(default=100, ge=1, description="How many items are ranked; the others are left out early.")


class ScoredItem(BaseModel):
    """What was found out about one item."""

    item_id: str | None = Field(description="Empty for a described item.")
    text: str
    known: bool = Field(
        description="Whether the catalogue has it; an id that it has not is scored as any unknown item."
    )
    probability: float = Field(description="That the user likes it: the final answer.")
    crm_probability: float = Field(description="By the conventional model alone.")
    crm_entropy: float = Field(description="Of that, in nats: how unsure the conventional model is (at most 0.693).")
    routed: bool = Field(description="Whether the router chose to ask the language model.")
    why: str = Field(description="Why it was routed, or not.")
    llm_probability: float | None = Field(description="By the language model, where it answered.")
    fallback: Literal["", "deadline", "overload", "loading", "fault"] = Field(
        description="Why a routed item has the conventional model's answer all the same."
    )


class Timing(BaseModel):
    """Where the time went, in milliseconds."""

    total: float
    crm: float
    llm: float | None
    deadline: float = Field(description="How long the request would have waited for the language model.")


class Answered(BaseModel):
    """Scored or recommended items: scored ones in the order asked, recommended ones best first."""

    items: list[ScoredItem]
    share_routed: float
    milliseconds: Timing


class NewEvent(_Given):
    """A new answer of a user, who may be new too."""

    user_id: Identifier
    item_id: Identifier
    liked: Liked = None
    rating: Rating = None
    timestamp: (
        Annotated[int, Field(strict=True)]
        | Annotated[float, Field(strict=True, allow_inf_nan=False)]
        | Annotated[str, Field(max_length=40)]
        | None
    ) = Field(
        default=None,
        description="As in the training data: seconds since 1970 (or milli-, micro-, nanoseconds), an ISO date and "
        "time, or a date written as a number (20200913); unset: now.",
    )


class Accepted(BaseModel):
    """The answer is kept, and the next request sees it."""

    user_id: str
    answers: int = Field(description="How many answers of this user are known now.")
    counted: bool = Field(
        description="False for a repeated answer to an item: the first counts, unless the training data keep them all."
    )


class FoundItem(BaseModel):
    """An item of the catalogue."""

    item_id: str
    text: str


class HistoryRow(BaseModel):
    """What a user said of one item."""

    item_id: str
    text: str
    liked: bool


class History(BaseModel):
    """A user's answers."""

    user_id: str
    text: str = Field(description="What is said of the user; empty for somebody unknown.")
    answers: int = Field(description="How many are known; `history` may hold fewer.")
    history: list[HistoryRow] = Field(description="The newest first.")


class CurvePoint(BaseModel):
    """What a share of language model is worth."""

    share: float = Field(description="Of the items that are sent to it, 0 to 1.")
    auc: float = Field(description="On test rows.")


class Curve(BaseModel):
    """What the language model's budget buys, as the run's evaluation measured it."""

    share: float = Field(description="In force now, 0 to 1.")
    deadline_ms: float
    milliseconds_per_item: float = Field(description="Of the language model, for a new item, where training ran.")
    curve: list[CurvePoint] = Field(description="Empty where the run was not evaluated.")


class TrafficNow(BaseModel):
    """The last ten minutes, and the state of the service's parts."""

    window: Summary
    engine: Literal["off", "ready", "not ready"] = Field(description="The language model's.")
    trust: float | None = Field(description="Share of the promised speed that the engine is trusted with, 0 to 1.")
    store: bool = Field(description="Whether it keeps events.")
    lag: float = Field(description="Of the event loop, in seconds.")


class Readiness(BaseModel):
    """Whether requests can be answered."""

    store: bool
    language_model: bool = Field(description="Without it the conventional model answers.")


class Wrong(BaseModel):
    """One thing that was wrong."""

    where: list[str] = Field(description="The path within the request.")
    what: str


class Problem(BaseModel):
    """What was wrong, and where."""

    error: str
    details: list[Wrong] = Field(default_factory=list)

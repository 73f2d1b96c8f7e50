"""What requests and answers of the API have in common, and those that score."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator

from corella.serving.settings import MOST

Identifier = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", description="As in the training data.")
]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Value = (
    Annotated[str, Field(max_length=200)]
    | int
    | Annotated[float, Field(allow_inf_nan=False)]
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


class Given(BaseModel):
    """What a caller sends: nothing that is not known."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Description(Given):
    """A user or an item that the training data does not have."""

    text: Text = Field(description="How the language model reads it, one line.", examples=["The Matrix (1999), Action"])
    fields: dict[Annotated[str, Field(max_length=64)], Value] = Field(
        default_factory=dict, max_length=32, description="Columns of the training data, e.g. genres.",
        examples=[{"genres": ["Action", "Sci-Fi"]}],
    )  # fmt: skip


class PastAnswer(Given):
    """An answer of a described user."""

    item_id: Identifier
    liked: Liked = None
    rating: Rating = None


class Asking(Given):
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
    fallback: Literal["", "deadline", "overload", "budget", "loading", "fault"] = Field(
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


class Wrong(BaseModel):
    """One thing that was wrong."""

    where: list[str] = Field(description="The path within the request.")
    what: str


class Problem(BaseModel):
    """What was wrong, and where."""

    error: str
    details: list[Wrong] = Field(default_factory=list)

"""Events, items and people: what is told to a service, and what it holds."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from corella.serving.http.schema import Description, Given, Identifier, Liked, Rating, Text, Value

Address = Annotated[str, Field(max_length=2000, pattern=r"^(https?://[^\s\x00-\x1f\x7f]+)?$")]
Moment = (
    Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | Annotated[str, Field(max_length=40)]
    | None
)


class NewEvent(Given):
    """Somebody, who may be new, did something with an item."""

    user_id: Identifier
    item_id: Identifier
    kind: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="`view`, `click`, `buy`, `like`, `dislike`, `rating`, or one of the service's own; "
        "unset: a rating where there is one, else a like or a dislike.",
    )  # fmt: skip
    liked: Liked = None
    rating: Rating = None
    timestamp: Moment = Field(
        default=None,
        description="As in the training data: seconds since 1970 (or milli-, micro-, nanoseconds), an ISO date and "
        "time, or a date written as a number (20200913); unset: now.",
    )
    event_id: Identifier | None = Field(
        default=None, description="Sent again with the same id, an event is kept once. Unset: one is made."
    )


class Acknowledged(BaseModel):
    """What an event did."""

    event_id: str
    outcome: Literal["recorded", "replaced", "repeated", "ignored"] = Field(
        description="`replaced`: it counts in place of an earlier answer; `repeated`: an event of this id was kept "
        "before; `ignored`: it is kept but does not count."
    )
    why: str = Field(description="Empty where it was simply recorded.")
    user_id: str
    answers: int = Field(description="How many answers of this user count now.")


class Undone(BaseModel):
    """An event that was taken back."""

    event_id: str
    outcome: Literal["recorded", "repeated", "ignored"] = Field(
        description="`repeated`: it was taken back before; `ignored`: it did not count any more."
    )
    why: str
    user_id: str
    answers: int


class Line(BaseModel):
    """A line that was not taken."""

    line: int = Field(description="From 1.")
    what: str


class Ingested(BaseModel):
    """What became of a stream. Lines that are right are kept, whatever the others are."""

    lines: int
    recorded: int
    repeated: int
    refused: int
    problems: list[Line] = Field(description="The first refused lines.")


class NewItem(Given):
    """An item: what is known of it, as a whole."""

    text: Text = Field(description="One line, as the training data write it.", examples=["The Matrix (1999), Action"])
    fields: dict[Annotated[str, Field(max_length=64)], Value] = Field(
        default_factory=dict, max_length=32, description="Columns of the training data's items."
    )
    image: Address = Field(default="", description="Address of a picture.")
    link: Address = Field(default="", description="Address of its page.")
    available: bool = Field(default=True, description="False: it is not recommended, and stays in histories.")


class BulkItem(NewItem):
    """A line of a stream of items."""

    item_id: Identifier


class HeldItem(BaseModel):
    """An item of the catalogue."""

    item_id: str
    text: str
    fields: dict[str, Value]
    image: str
    link: str
    available: bool
    trained: bool = Field(description="Whether the training data have it; others are known by their texts.")
    answers: int = Field(description="How many users answered it.")
    likes: int


class ItemField(BaseModel):
    """A column of the training data's items."""

    field: str
    several: bool = Field(description="Whether an item has several values.")
    values: list[str] = Field(description="The commonest ones, at most forty.")


class ItemFields(BaseModel):
    """What items can be filtered by."""

    fields: list[ItemField]


class Stored(BaseModel):
    """What a write did."""

    outcome: Literal["recorded", "replaced"]


class Deleted(BaseModel):
    """An item that left the catalogue."""

    item_id: str


class NewUser(Description):
    """What is said of a user, as a whole."""


class HistoryRow(BaseModel):
    """What a user said of one item."""

    item_id: str
    text: str
    liked: bool
    event_id: str = Field(description="To take it back; empty for an answer of the training data.")


class History(BaseModel):
    """A user's answers."""

    user_id: str
    text: str = Field(description="What is said of the user; empty for somebody unknown.")
    answers: int = Field(description="How many are known; `history` may hold fewer.")
    history: list[HistoryRow] = Field(description="The newest first.")


class HeldEvent(BaseModel):
    """A record that the store holds of a user."""

    kind: str
    body: dict[str, object]


class HeldUser(BaseModel):
    """All that the service holds on a user."""

    user_id: str
    text: str
    fields: dict[str, Value]
    trained: bool = Field(description="Whether the training data have this user.")
    history: list[HistoryRow]
    records: list[HeldEvent] = Field(description="What the store holds.")
    models: list[str] = Field(description="Trained models whose files hold the user's id.")


class Erased(BaseModel):
    """What was removed."""

    records: int = Field(description="How many records of the store.")
    models: list[str] = Field(
        description="Trained models whose files still hold the user's id; a retraining leaves it out."
    )

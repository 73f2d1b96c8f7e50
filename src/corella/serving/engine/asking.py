"""What a service needs of a language model that it can ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from corella.llm.prefix import SharedPrompt
from corella.retrieval.live import Reason

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Answer:
    """What came of a shared prompt: logits [branches], or why there are none."""

    logits: Floats | None = None
    reason: str = ""
    """`deadline`, `overload` or `fault`."""
    found: list[list[Reason]] | None = None
    """Of a question to the retrieval: a list of items for each thing that was asked about."""


@dataclass(frozen=True, eq=False)
class Allowed:
    """The only items that may come."""

    fitted: Bools
    """[items]: of those that the retrieval was fitted on."""
    new: list[str]


@dataclass(frozen=True, eq=False)
class Candidates:
    """What is there for somebody? Answered by one list, best first."""

    user_id: str
    """Empty for somebody without an id."""
    liked: list[str]
    """Oldest first."""
    without: list[str]
    k: int
    allowed: Allowed


@dataclass(frozen=True, eq=False)
class Similar:
    """What is like an item? Answered by one list, most similar first."""

    item_id: str
    k: int
    allowed: Allowed


@dataclass(frozen=True)
class Because:
    """What did each liked item add? Answered by a list for every item."""

    liked: list[str]
    """Oldest first."""
    items: list[str]
    most: int
    """How many liked items of each; those that add most."""


Question = Candidates | Similar | Because


@dataclass(frozen=True, eq=False)
class NewItem:
    """An item that the retrieval was not fitted on."""

    item_id: str
    vector: Floats
    """What the text encoder made of its text."""


class Engine(Protocol):
    """A language model that a service can ask."""

    on_ready: Callable[[], None]
    """Called when it is loaded."""
    on_fault: Callable[[str], None]
    """Called with what went wrong."""

    @property
    def trust(self) -> float | None:
        """The share of its speed that is counted on; None where that is not known here."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it may be asked."""
        ...

    @property
    def loading(self) -> bool:
        """Whether it is being started for the first time: nothing is wrong yet."""
        ...

    def room(self, seconds: float, user: str = "") -> float:
        """Tokens that can be read within so many seconds from now, for a user (empty: for nobody in particular)."""
        ...

    def unread(self, user: str, prefix: Ints) -> int:
        """How many tokens of a user's prefix are not kept."""
        ...

    def warm(self, user: str, prefix: Ints) -> int:
        """Read a user's prefix when there is time, for the requests to come; how many tokens are going to be read."""
        ...

    async def ask(self, user: str, prompts: Sequence[SharedPrompt], deadline: float) -> list[Answer]:
        """An answer for each prompt, none later than the `deadline` (seconds of `time.monotonic`)."""
        ...

    @property
    def retrieves(self) -> bool:
        """Whether it has a retrieval."""
        ...

    async def retrieve(self, question: Question, deadline: float) -> list[list[Reason]] | None:
        """What the retrieval says; None where there is no such model, or no time."""
        ...

    def put(self, items: Sequence[NewItem]) -> None:
        """Tell the retrieval of items that it was not fitted on."""
        ...

    def forget(self, user: str) -> None:
        """Let go of what is kept of a user."""
        ...

    async def start(self) -> None:
        """Begin to load; returns at once."""
        ...

    async def stop(self) -> None:
        """End it; requests at work are answered first."""
        ...

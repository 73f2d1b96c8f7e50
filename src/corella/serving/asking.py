"""What a service needs of a language model that it can ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from corella.llm.prefix import SharedPrompt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """What came of a shared prompt: logits [branches], or why there are none."""

    logits: Floats | None = None
    reason: str = ""
    """`deadline`, `overload` or `fault`."""
    items: list[str] = field(default_factory=list)
    """Of a retrieval: ids, best first."""


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

    def room(self, seconds: float) -> float:
        """Tokens that can be read within so many seconds from now."""
        ...

    def unread(self, user: str, prefix: Ints) -> int:
        """How many tokens of a user's prefix are not kept."""
        ...

    def warm(self, user: str, prefix: Ints) -> None:
        """Read a user's prefix when there is time, for the requests to come."""
        ...

    async def ask(self, user: str, prompts: Sequence[SharedPrompt], deadline: float) -> list[Answer]:
        """An answer for each prompt, none later than the `deadline` (seconds of `time.monotonic`)."""
        ...

    async def retrieve(self, user_id: str, liked: list[str], without: list[str], k: int, deadline: float) -> list[str]:
        """Candidates by the retrieval; none where there is no such model, or no time."""
        ...

    async def start(self) -> None:
        """Begin to load; returns at once."""
        ...

    async def stop(self) -> None:
        """End it; requests at work are answered first."""
        ...

"""Jobs that a process was sent and has not answered."""

import asyncio
from dataclasses import dataclass

from corella.serving.engine.asking import Answer

_MOST, _MOST_BYTES = 256, 8 << 20
"""Jobs that may be on the way to a process, and their bytes."""


@dataclass(frozen=True)
class _Asked:
    future: asyncio.Future[Answer]
    tokens: int
    bytes: int
    deadline: float


class Waiting:
    """By their numbers."""

    def __init__(self) -> None:
        self._asked: dict[int, _Asked] = {}

    def __len__(self) -> int:
        """How many."""
        return len(self._asked)

    @property
    def tokens(self) -> int:
        """What they have to read together."""
        return sum(asked.tokens for asked in self._asked.values())

    def full(self, size: int) -> bool:
        """Whether a message of so many bytes is one too many."""
        waiting = sum(asked.bytes for asked in self._asked.values())
        return len(self) >= _MOST or waiting + size > _MOST_BYTES

    def add(self, number: int, size: int, tokens: int, deadline: float) -> asyncio.Future[Answer]:
        """One more; its answer comes in what is returned."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = _Asked(future, tokens, size, deadline)
        return future

    def answered(self, number: int, answer: Answer) -> None:
        """One was answered."""
        future = self._asked.pop(number).future
        if not future.done():  # else nobody waits any more
            future.set_result(answer)

    def overdue(self, now: float) -> float:
        """Seconds since the earliest deadline; below 0 where none has passed."""
        return now - min((asked.deadline for asked in self._asked.values()), default=now)

    def give_up(self, reason: str) -> None:
        """Nothing more comes."""
        for number in list(self._asked):
            self.answered(number, Answer(None, reason))

"""Several language models that answer alike: a request goes to the one with the least to do that knows its user.

Users are spread by rendezvous hashing (Thaler and Ravishankar, 1998): every server of a service sends a user to the
same worker without asking the others, and where a worker goes only its users move. Loads are bounded (Mirrokni, Thorup
and Zadimoghaddam, 2018): a user of a busy worker goes to the next one of their order.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from corella.llm.prefix import SharedPrompt
from corella.retrieval.live import Reason
from corella.serving.engine.asking import Answer, Engine, NewItem, Question

Ints = npt.NDArray[np.int64]

_BOUND = 1.25
"""How much more than the mean a worker may have to do before its users go elsewhere."""
_HISTORY_TOKENS = 1024
"""And this much in any case: about what reading a history anew costs."""


class Worker(Engine, Protocol):
    """One of several."""

    @property
    def load(self) -> float:
        """Tokens that wait there to be read, as far as it is known here."""
        ...


def home(user: str, loads: Mapping[str, float]) -> str:
    """Which worker a user goes to, by what waits at each; an empty user goes where least does.

    >>> home("w", {"a": 0.0, "b": 0.0}), home("u", {"a": 0.0, "b": 0.0})
    ('a', 'b')
    >>> home("w", {"a": 9000.0, "b": 0.0}), home("", {"a": 1.0, "b": 0.0})
    ('b', 'b')
    """
    least = min(loads, key=lambda name: loads[name])
    if not user:
        return least
    bound = _BOUND * sum(loads.values()) / len(loads) + _HISTORY_TOKENS
    order = sorted(loads, key=lambda name: hashlib.blake2b(f"{name}\0{user}".encode(), digest_size=8).digest())
    return next((name for name in order if loads[name] <= bound), least)


class PoolEngine:
    """As one engine: what one worker does not answer for a fault of its own, another is asked once."""

    def __init__(self, workers: Mapping[str, Worker]) -> None:
        """By their addresses."""
        self._workers = dict(workers)
        self._faults: dict[str, str] = {}
        self.on_ready: Callable[[], None] = lambda: None
        self.on_fault: Callable[[str], None] = lambda reason: None
        for name, worker in self._workers.items():
            worker.on_ready, worker.on_fault = partial(self._note, name, ""), partial(self._note, name)

    @property
    def ready(self) -> bool:
        """Whether any may be asked."""
        return any(worker.ready for worker in self._workers.values())

    @property
    def loading(self) -> bool:
        """Whether none may be asked yet, and one is being started."""
        return not self.ready and any(worker.loading for worker in self._workers.values())

    @property
    def trust(self) -> float | None:
        """The mean of those that may be asked and know it; None where none knows it, 0 where none may be asked."""
        known = [worker.trust for worker in self._workers.values() if worker.ready and worker.trust is not None]
        return sum(known) / len(known) if known else None if self.ready else 0.0

    def room(self, seconds: float, user: str = "") -> float:
        """Where the user's requests go."""
        worker = self._of(user)
        return 0.0 if worker is None else worker.room(seconds, user)

    def unread(self, user: str, prefix: Ints) -> int:
        """Where the user's requests go."""
        worker = self._of(user)
        return len(prefix) if worker is None else worker.unread(user, prefix)

    def warm(self, user: str, prefix: Ints) -> int:
        """Where the user's requests go."""
        worker = self._of(user)
        return 0 if worker is None else worker.warm(user, prefix)

    async def ask(self, user: str, prompts: Sequence[SharedPrompt], deadline: float) -> list[Answer]:
        """See `Engine`."""
        return list(await asyncio.gather(*(self._one(user, prompt, deadline) for prompt in prompts)))

    async def _one(self, user: str, prompt: SharedPrompt, deadline: float) -> Answer:
        first = self._of(user)
        if first is None:
            return Answer(reason="fault")
        (answer,) = await first.ask(user, [prompt], deadline)
        second = self._of(user, [first]) if answer.reason == "fault" and time.monotonic() < deadline else None
        if second is not None:
            (answer,) = await second.ask(user, [prompt], deadline)
        return answer

    @property
    def retrieves(self) -> bool:
        """Whether any has a retrieval."""
        return any(worker.retrieves for worker in self._workers.values())

    async def retrieve(self, question: Question, deadline: float) -> list[list[Reason]] | None:
        """By the one that has the least to do; another one where it is gone meanwhile."""
        without = [worker for worker in self._workers.values() if not worker.retrieves]
        first = self._of("", without)
        if first is None:
            return None
        found = await first.retrieve(question, deadline)
        second = self._of("", [*without, first]) if found is None and not first.ready else None
        return found if second is None else await second.retrieve(question, deadline)

    def put(self, items: Sequence[NewItem]) -> None:
        """Tell all."""
        for worker in self._workers.values():
            worker.put(items)

    def forget(self, user: str) -> None:
        """Tell all: the user may have been anywhere."""
        for worker in self._workers.values():
            worker.forget(user)

    async def start(self) -> None:
        """Start all."""
        for worker in self._workers.values():
            await worker.start()

    async def stop(self) -> None:
        """End all."""
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()))

    def _of(self, user: str, without: Collection[Worker] = ()) -> Worker | None:
        able = {name: w.load for name, w in self._workers.items() if w.ready and w not in without}
        return self._workers[home(user, able)] if able else None

    def _note(self, name: str, why: str) -> None:
        """One works, or does not: said of all together."""
        if self._faults.get(name, "") != why:
            self._faults[name] = why
        told = [cause for cause in self._faults.values() if cause]
        if told:
            self.on_fault(f"{len(told)} of {len(self._workers)}: {'; '.join(told)}")
        else:
            self.on_ready()

"""The service's side of the language model: who may ask how much, and what happens when no answer comes.

A request gets answers by its deadline or none: the engine never lets it wait longer. How much may be asked follows from
the measured speed and from what is waiting already: so the router's budget shrinks under load and grows back.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from corella.llm.prefix import SharedPrompt
from corella.retrieval.live import Reason
from corella.serving.engine.asking import Answer, NewItem, Question
from corella.serving.engine.child import Child
from corella.serving.engine.kept import Kept
from corella.serving.engine.messages import (
    Asked,
    Forget,
    Found,
    Job,
    Late,
    Put,
    Ready,
    Refused,
    Scored,
    Standing,
    answer_of,
    pack,
    unpack,
)  # fmt: skip
from corella.serving.engine.speed import Speed
from corella.serving.engine.waiting import Waiting
from corella.serving.engine.wanted import Wanted
from corella.serving.engine.warming import read_in_slices
from corella.serving.engine.worker import serve_language_model

Ints = npt.NDArray[np.int64]

_FAIR_SECONDS = 0.1
"""Answers to more hurried requests are no reason to trust less."""
_SILENT_SECONDS = 30.0
"""How long after a deadline a process that says nothing is taken for hung, and killed."""
_PUT_AT_ONCE = 500


class ProcessEngine:
    """The language model of a saved model in a process of its own, which is started again when it dies."""

    def __init__(
        self, wanted: Wanted, cache_bytes: int, batch_tokens: int, wait: float, threads: int, load_seconds: float
    ) -> None:
        """`wanted`: a run or an exported one; `wait`: seconds in which requests gather for a pass; `load_seconds`: how
        long the process may load its model before it is taken for hung, and replaced."""
        self.retrieves = bool(wanted.retrieval)
        """See `Engine`."""
        self.vocabulary = 0
        """How many tokens there are; 0 until the process has loaded its model."""
        self._retrieval_seconds = 0.0
        self._new: dict[str, NewItem] = {}
        """What every process has to be told of."""
        self._child = Child(serve_language_model, (wanted, cache_bytes, batch_tokens, wait, threads), load_seconds)
        self._child.on_message, self._child.on_lost = self._take, self._lost
        self._child.on_fault = self._fault
        self._speed: Speed | None = None
        """None until the process has loaded its model."""
        self._waiting = Waiting()
        self._number = 0
        self._kept = Kept()
        self._warming: asyncio.Task[None] | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_fault: Callable[[str], None] = lambda reason: None

    @property
    def ready(self) -> bool:
        """Whether the process has loaded its model."""
        return self._speed is not None

    @property
    def loading(self) -> bool:
        """See `Engine`."""
        return self._speed is None and self._child.there and not self._child.deaths

    @property
    def trust(self) -> float:
        """The share of the measured speed that is counted on; 0 without a process."""
        return 0.0 if self._speed is None else self._speed.trust

    def room(self, seconds: float, user: str = "") -> float:
        """See `Engine`."""
        self._notice_silence()
        if self._speed is None:
            return 0.0
        return max(self._speed.room(seconds) - self._waiting.tokens, 0.0)

    def standing(self) -> Standing:
        """What whoever asks from elsewhere has to know."""
        fixed, per_token = (0.0, 0.0) if self._speed is None else self._speed.now
        return Standing(
            self.ready, self.loading, self.retrieves, fixed, per_token, self._retrieval_seconds, self._waiting.tokens,
            self._kept.most,
        )  # fmt: skip

    def unread(self, user: str, prefix: Ints) -> int:
        """See `Engine`."""
        return self._kept.unread(user, prefix)

    def warm(self, user: str, prefix: Ints) -> int:
        """One user at a time, and only while nobody waits for an answer."""
        busy = self._warming is not None and not self._warming.done()
        unread = self.unread(user, prefix)
        if not user or not self.ready or busy or self._waiting or not unread:
            return 0
        self._warming = asyncio.get_running_loop().create_task(read_in_slices(self, user, prefix))
        return unread

    async def start(self) -> None:
        """Start the process; it loads its model while the service already answers without it."""
        await self._child.start()

    async def stop(self) -> None:
        """End the process; whoever waits is told that there will be no answer."""
        await self._child.stop()

    async def wait_ready(self, seconds: float = 120.0) -> bool:
        """Wait until the model is loaded; False if it is not by then."""
        until = time.monotonic() + seconds
        while not self.ready and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return self.ready

    async def ask(self, user: str, prompts: Sequence[SharedPrompt], deadline: float) -> list[Answer]:
        """Logits for every prompt, or why not, by `deadline` (in seconds of `time.monotonic`) at the latest."""
        if not self.ready:
            return [Answer(None, "fault")] * len(prompts)
        fair = deadline - time.monotonic() >= _FAIR_SECONDS
        futures = []
        for prompt in prompts:
            self._number += 1
            job = Job(self._number, user, deadline, prompt)
            tokens = self.unread(user, prompt.prefix) + sum(map(len, prompt.branches))
            futures.append(self._send(job.number, pack(job), tokens, deadline))
        done, late = await asyncio.wait(futures, timeout=max(deadline - time.monotonic(), 0))
        if self._speed is not None and late and fair:
            self._speed.late()
        elif self._speed is not None and not late:
            self._speed.in_time()
        answers = [future.result() if future in done else Answer(None, "deadline") for future in futures]
        for prompt, answer in zip(prompts, answers, strict=True):
            if user and answer.logits is not None:
                self._kept.add(user, prompt.prefix)
        return answers

    async def retrieve(self, question: Question, deadline: float) -> list[list[Reason]] | None:
        """See `Engine`."""
        self._notice_silence()
        if not self.retrieves or self._speed is None or deadline - time.monotonic() < self._retrieval_seconds:
            return None
        tokens = int(self._retrieval_seconds / self._speed.per_token)  # what others then have less room for
        self._number += 1
        message = pack(Asked(self._number, deadline, question))
        future = self._send(self._number, message, tokens, deadline)
        done, _ = await asyncio.wait([future], timeout=max(deadline - time.monotonic(), 0))
        return future.result().found if done else None

    def put(self, items: Sequence[NewItem]) -> None:
        """See `Engine`. A process that is started later is told too."""
        self._new.update((item.item_id, item) for item in items)
        if self.ready:
            self._tell(list(items))

    def forget(self, user: str) -> None:
        """See `Engine`."""
        self._kept.drop(user)
        self._child.send(pack(Forget(user)))

    def _tell(self, items: list[NewItem]) -> None:
        for start in range(0, len(items) if self.retrieves else 0, _PUT_AT_ONCE):
            self._child.send(pack(Put(items[start : start + _PUT_AT_ONCE])))

    def _send(self, number: int, message: bytes, tokens: int, deadline: float) -> asyncio.Future[Answer]:
        """Hand a job over, or answer it at once: `overload` where too many wait, `fault` without a process."""
        if not self._child.there or self._waiting.full(len(message)):
            refused: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            refused.set_result(Answer(None, "overload" if self._child.there else "fault"))
            return refused
        future = self._waiting.add(number, len(message), tokens, deadline)
        self._child.send(message)
        return future

    def _notice_silence(self) -> None:
        """Kill a process that lives and says nothing."""
        if self._waiting.overdue(time.monotonic()) > _SILENT_SECONDS:
            self._child.kill()

    def _take(self, message: bytes) -> None:
        told = unpack(message)
        if isinstance(told, Ready):
            self._speed, self.vocabulary = Speed(told.fixed, told.per_token), told.vocabulary
            self._retrieval_seconds = told.retrieval
            self._child.loaded()
            self._tell(list(self._new.values()))
            self.on_ready()
        elif isinstance(told, Refused):
            self.on_fault(told.why)
        elif isinstance(told, Late | Scored | Found):
            if isinstance(told, Scored) and not told.error:
                self._kept.most = told.keeps
                if self._speed is not None and told.read > 0:
                    self._speed.passed(told.read, told.seconds)
            if not isinstance(told, Late) and told.error:
                self.on_fault(told.error)
            self._waiting.answered(told.number, answer_of(told))

    def _fault(self, reason: str) -> None:
        self.on_fault(reason)

    def _lost(self) -> None:
        """Nothing more comes from the process."""
        self._speed = None
        self._kept.clear()
        self._waiting.give_up("fault")

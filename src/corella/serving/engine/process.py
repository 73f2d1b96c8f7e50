"""The service's side of the language model: who may ask how much, and what happens when no answer comes.

A request gets answers by its deadline or none: the engine never lets it wait longer. How much may be asked follows from
the measured speed and from what is waiting already: so the router's budget shrinks under load and grows back.
"""

import asyncio
import multiprocessing
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
import numpy.typing as npt

from corella.llm.prefix import SharedPrompt
from corella.retrieval.live import Reason
from corella.serving.engine.asking import Answer, NewItem, Question
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
    answer_of,
    pack,
    unpack,
)  # fmt: skip
from corella.serving.engine.speed import Speed
from corella.serving.engine.waiting import Waiting
from corella.serving.engine.wanted import Wanted
from corella.serving.engine.warming import read_in_slices
from corella.serving.engine.worker import serve_language_model

Floats = npt.NDArray[np.float32]
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
        self._arguments = (wanted, cache_bytes, batch_tokens, wait, threads)
        self.retrieves = bool(wanted.retrieval)
        """See `Engine`."""
        self._retrieval_seconds = 0.0
        self._new: dict[str, NewItem] = {}
        """What every process has to be told of."""
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._speed: Speed | None = None
        """None until the process has loaded its model."""
        self._load_seconds, self._deaths = load_seconds, 0
        self._loading: asyncio.TimerHandle | None = None
        self._waiting = Waiting()
        self._number = 0
        self._kept: OrderedDict[str, Ints] = OrderedDict()
        """The prefixes that the process probably keeps; as many as it says it does."""
        self._keeps = 0
        self._warming: asyncio.Task[None] | None = None
        self._restart: asyncio.Task[None] | None = None
        self._backoff = 1.0
        self._sender = ThreadPoolExecutor(1, "llm-send")
        """Hands jobs over: a process that does not read must keep nobody else waiting."""
        self.on_ready: Callable[[], None] = lambda: None
        self.on_fault: Callable[[str], None] = lambda reason: None

    @property
    def ready(self) -> bool:
        """Whether the process has loaded its model."""
        return self._speed is not None

    @property
    def loading(self) -> bool:
        """See `Engine`."""
        return self._speed is None and self._connection is not None and not self._deaths

    @property
    def trust(self) -> float:
        """The share of the measured speed that is counted on; 0 without a process."""
        return 0.0 if self._speed is None else self._speed.trust

    def room(self, seconds: float) -> float:
        """See `Engine`."""
        self._notice_silence()
        if self._speed is None:
            return 0.0
        return max(self._speed.room(seconds) - self._waiting.tokens, 0.0)

    def unread(self, user: str, prefix: Ints) -> int:
        """See `Engine`."""
        kept = self._kept.get(user)
        if kept is None or len(kept) > len(prefix) or not np.array_equal(kept, prefix[: len(kept)]):
            return len(prefix)
        return len(prefix) - len(kept)

    def warm(self, user: str, prefix: Ints) -> None:
        """One user at a time, and only while nobody waits for an answer."""
        busy = self._warming is not None and not self._warming.done()
        if user and self.ready and not busy and not self._waiting and self.unread(user, prefix):
            self._warming = asyncio.get_running_loop().create_task(read_in_slices(self, user, prefix))

    async def start(self) -> None:
        """Start the process; it loads its model while the service already answers without it."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve_language_model, args=(theirs, *self._arguments), daemon=True)
        starting = asyncio.create_task(asyncio.to_thread(process.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:  # stopped meanwhile
            await starting
            process.kill()
            raise
        self._process = process
        theirs.close()
        self._connection = ours
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), self._read)
        os.set_blocking(ours.fileno(), True)  # some loops make it another, and a long message would be cut off
        self._loading = loop.call_later(self._load_seconds, self._give_up, process)

    async def stop(self) -> None:
        """End the process; whoever waits is told that there will be no answer."""
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.wait([self._restart])
        self._close("fault")
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.join, 5)
            self._process.kill()
        self._sender.shutdown(wait=False)

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
                self._kept[user] = prompt.prefix
                self._kept.move_to_end(user)
        while len(self._kept) > self._keeps:
            self._kept.popitem(last=False)
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
        self._kept.pop(user, None)
        self._hand_over(pack(Forget(user)))

    def _tell(self, items: list[NewItem]) -> None:
        for start in range(0, len(items) if self.retrieves else 0, _PUT_AT_ONCE):
            self._hand_over(pack(Put(items[start : start + _PUT_AT_ONCE])))

    def _send(self, number: int, message: bytes, tokens: int, deadline: float) -> asyncio.Future[Answer]:
        """Hand a job over, or answer it at once: `overload` where too many wait, `fault` without a process."""
        if self._connection is None or self._waiting.full(len(message)):
            refused: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            refused.set_result(Answer(None, "fault" if self._connection is None else "overload"))
            return refused
        future = self._waiting.add(number, len(message), tokens, deadline)
        self._hand_over(message)
        return future

    def _hand_over(self, message: bytes) -> None:
        """On another thread; after what was handed over before."""
        if self._connection is not None:
            loop = asyncio.get_running_loop()
            sent = loop.run_in_executor(self._sender, self._connection.send_bytes, message)
            sent.add_done_callback(partial(self._sent, self._connection))

    def _sent(self, connection: Connection, sent: asyncio.Future[None]) -> None:
        """A job was handed over, or its process is gone."""
        failed = not sent.cancelled() and sent.exception() is not None
        if failed and connection is self._connection:
            self._died()

    def _notice_silence(self) -> None:
        """Kill a process that lives and says nothing: the end of its pipe then starts another."""
        if self._waiting.overdue(time.monotonic()) > _SILENT_SECONDS and self._process is not None:
            self._process.kill()

    def _give_up(self, process: BaseProcess) -> None:
        """Kill a process that has had its time and is still loading: the end of its pipe then starts another."""
        self.on_fault(f"not loaded in {self._load_seconds:.0f} s (load_seconds): its process is killed")
        process.kill()

    def _read(self) -> None:
        """The process has said something, or is dead."""
        connection = self._connection
        if connection is None:
            return
        try:
            while connection.poll():
                self._take(connection.recv_bytes())
        except (EOFError, OSError):
            self._died()

    def _died(self) -> None:
        """Tell whoever waits, and start another process."""
        self._close("fault")
        self._deaths += 1
        self.on_fault("the language model's process died; it is started again")
        if self._restart is None or self._restart.done():
            self._restart = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        """After a while, and again after a longer one where that fails."""
        while True:
            await asyncio.sleep(self._backoff)
            self._backoff = min(2 * self._backoff, 60.0)
            try:
                return await self.start()
            except OSError as error:
                self.on_fault(f"the language model's process does not start: {error}")

    def _take(self, message: bytes) -> None:
        told = unpack(message)
        if isinstance(told, Ready):
            self._speed, self._backoff = Speed(told.fixed, told.per_token), 1.0
            self._retrieval_seconds = told.retrieval
            if self._loading is not None:
                self._loading.cancel()
            self._tell(list(self._new.values()))
            self.on_ready()
        elif isinstance(told, Refused):
            self.on_fault(told.why)
        elif isinstance(told, Late | Scored | Found):
            if isinstance(told, Scored) and not told.error:
                self._keeps = told.keeps
                if self._speed is not None and told.read > 0:
                    self._speed.passed(told.read, told.seconds)
            if not isinstance(told, Late) and told.error:
                self.on_fault(told.error)
            self._waiting.answered(told.number, answer_of(told))

    def _close(self, reason: str) -> None:
        self._speed = None
        if self._loading is not None:
            self._loading.cancel()
        self._kept.clear()
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._sender.submit(self._connection.close)  # behind what is being sent
            self._connection = None
        self._waiting.give_up(reason)

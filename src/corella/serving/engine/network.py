"""A language model that `corella serve-llm` serves, on this machine or another.

It says with every answer how it stands: how fast it reads, and how much waits there, whoever asked. What is on the way
to it is known here. So a request knows what there is time for.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt

from corella.llm.prefix import SharedPrompt
from corella.retrieval.live import Reason
from corella.serving.engine.asking import Answer, NewItem, Question
from corella.serving.engine.kept import Kept
from corella.serving.engine.messages import (
    Asked,
    Busy,
    Forget,
    Found,
    Job,
    Late,
    Message,
    Put,
    Refused,
    Scored,
    Standing,
    answer_of,
    pack,
    unpack,
)  # fmt: skip
from corella.serving.engine.pulse import Pulse
from corella.serving.engine.speed import Speed
from corella.serving.engine.wanted import Wanted
from corella.serving.engine.warming import read_in_slices

Ints = npt.NDArray[np.int64]

MODEL, RETRIEVAL, STANDING = "corella-model", "corella-retrieval", "corella-standing"
"""Headers: hashes of the manifests of what is asked, and how the server stands (JSON)."""
_LOOK_SECONDS, _PATIENCE_SECONDS = 1.0, 2.0
"""Between two looks at the server's health, and how long it may take to say how it stands, or to take an item."""
_FAIR_SECONDS = 0.1
"""Answers to more hurried requests are no reason to trust less."""
_CONNECTIONS = 64
_ABOUT_THE_MESSAGE, _TOO_MANY = (413, 422), 429
"""Statuses that say nothing against the server."""
_PUT_AT_ONCE = 200
_AWAY = Standing(False, False, False, 0.0, 0.0, 0.0, 0, 0)


class NetworkEngine:
    """Asks one server; the same promise as a process of one's own."""

    def __init__(self, address: str, key: str, wanted: Wanted) -> None:
        """`address`: e.g. http://llm:8100; `key`: empty where none is asked for; `wanted`: what the service has loaded,
        which is what the server is to answer with."""
        self.on_ready: Callable[[], None] = lambda: None
        self.on_fault: Callable[[str], None] = lambda reason: None
        headers = {MODEL: wanted.ranking, RETRIEVAL: wanted.retrieval}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        self._client = httpx2.AsyncClient(base_url=address, headers=headers, limits=limits, trust_env=False)
        self._pulse = Pulse(self._look, _LOOK_SECONDS, up=False)
        self._pulse.on_change = self._changed
        self._standing, self._told_at = _AWAY, 0.0
        self._speed = Speed(1.0, 1.0)
        """Its times are the server's; the trust is this one's, and allows for the network."""
        self._flying = 0
        self._kept = Kept()
        self._new: dict[str, NewItem] = {}
        """What every server has to be told of."""
        self._to_tell: deque[Put | Forget] = deque()
        self._telling: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[Any]] = set()
        self._warming: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the server answers, with the wanted model."""
        return self._pulse.up and self._standing.ready

    @property
    def loading(self) -> bool:
        """See `Engine`."""
        return self._pulse.up and self._standing.loading

    @property
    def trust(self) -> float:
        """The share of the server's speed that is counted on; 0 where it cannot be asked."""
        return self._speed.trust if self.ready else 0.0

    @property
    def load(self) -> float:
        """Tokens that wait there to be read, as far as it is known here."""
        read = (time.monotonic() - self._told_at) / max(self._standing.per_token, 1e-9)
        return max(self._flying, self._standing.waiting - read)

    def room(self, seconds: float, user: str = "") -> float:
        """See `Engine`."""
        return max(self._speed.room(seconds) - self.load, 0.0) if self.ready else 0.0

    def unread(self, user: str, prefix: Ints) -> int:
        """See `Engine`. What others have it read is not known here: the server knows, and reads no more than it
        must."""
        return self._kept.unread(user, prefix)

    def warm(self, user: str, prefix: Ints) -> int:
        """One user at a time, and only while nothing waits there."""
        busy = self._warming is not None and not self._warming.done()
        unread = self.unread(user, prefix)
        if not user or not self.ready or busy or self.load >= 1 or not unread:
            return 0
        self._warming = asyncio.get_running_loop().create_task(read_in_slices(self, user, prefix))
        return unread

    async def start(self) -> None:
        """Begin to look for the server."""
        self._pulse.start()
        self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def stop(self) -> None:
        """End; whoever waits gets no answer."""
        await self._pulse.stop()
        for task in filter(None, (self._telling, self._warming)):
            task.cancel()
            await asyncio.wait([task])
        await self._client.aclose()

    async def ask(self, user: str, prompts: Sequence[SharedPrompt], deadline: float) -> list[Answer]:
        """See `Engine`."""
        return list(await asyncio.gather(*(self._one(user, prompt, deadline) for prompt in prompts)))

    async def _one(self, user: str, prompt: SharedPrompt, deadline: float) -> Answer:
        fair = deadline - time.monotonic() >= _FAIR_SECONDS
        tokens = self.unread(user, prompt.prefix) + sum(map(len, prompt.branches))
        told = await self._exchange(Job(0, user, deadline - time.monotonic(), prompt), tokens, deadline)
        if isinstance(told, Late) and fair:
            self._speed.late()
        elif isinstance(told, Scored):
            self._speed.in_time()
        if not isinstance(told, Late | Busy | Scored):
            return Answer(reason="fault")
        answer = answer_of(told)
        if answer.logits is None:
            return answer
        if user:
            self._kept.add(user, prompt.prefix)
        logits = np.full(len(prompt.branches), np.nan, np.float32)  # where there was no time for the last branches
        logits[: len(answer.logits)] = answer.logits
        return Answer(logits, "overload" if len(answer.logits) < len(logits) else "")

    @property
    def retrieves(self) -> bool:
        """See `Engine`."""
        return self.ready and self._standing.retrieves

    async def retrieve(self, question: Question, deadline: float) -> list[list[Reason]] | None:
        """See `Engine`."""
        seconds = deadline - time.monotonic()
        if not self.retrieves or seconds < self._standing.retrieval:
            return None
        tokens = int(self._standing.retrieval / self._standing.per_token)
        told = await self._exchange(Asked(0, seconds, question), tokens, deadline)
        return told.found if isinstance(told, Found) and not told.error else None

    def put(self, items: Sequence[NewItem]) -> None:
        """See `Engine`. A server that is started again is told anew."""
        self._new.update((item.item_id, item) for item in items)
        last = self._to_tell[-1] if len(self._to_tell) > 1 else None  # the first may be on its way
        if isinstance(last, Put) and len(last.items) + len(items) <= _PUT_AT_ONCE:
            last.items.extend(items)
        else:
            self._to_tell += _puts(items)

    def forget(self, user: str) -> None:
        """See `Engine`. Told as soon as the server can be reached; one that was started again keeps nothing."""
        self._kept.drop(user)
        self._to_tell.append(Forget(user))

    async def _tell(self) -> None:
        """What has no answer, in its order, each until it is told."""
        while True:
            await asyncio.sleep(0.02)
            while self._to_tell and self.ready:
                told = self._to_tell[0]
                if isinstance(told, Put) and not self._standing.retrieves:
                    self._to_tell.popleft()
                    continue
                if isinstance(told, Forget) and self._asking:  # or what is on the way would be kept behind it
                    await asyncio.wait(set(self._asking), timeout=_PATIENCE_SECONDS)
                if isinstance(await self._post(told, time.monotonic() + _PATIENCE_SECONDS), Refused | Late | Busy):
                    break
                if self._to_tell and self._to_tell[0] is told:  # else the server was started again meanwhile
                    self._to_tell.popleft()

    async def _exchange(self, message: Job | Asked, tokens: int, deadline: float) -> Message | None:
        """An answer by the deadline: `Late` where none came, `Refused` where the server is not there."""
        if not self.ready:
            return Refused(self._pulse.why)
        task = asyncio.get_running_loop().create_task(self._post(message, deadline))
        self._asking.add(task)
        self._flying += tokens
        try:
            return await task
        finally:
            self._flying -= tokens
            self._asking.discard(task)

    async def _post(self, message: Job | Asked | Put | Forget, deadline: float) -> Message | None:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                answer = await self._client.post("/v1/ask", content=pack(message), timeout=None)
        except (TimeoutError, httpx2.TimeoutException):
            self._pulse.doubt()
            return Late(0)
        except httpx2.HTTPError as error:
            self._pulse.failed(_in_words(error))
            return Refused(self._pulse.why)
        if answer.status_code in _ABOUT_THE_MESSAGE:
            self.on_fault(f"{self._client.base_url} does not take {type(message).__name__}: {answer.text[:200]}")
            return Scored(0, "not taken", 0.0, 0, 0, np.zeros(0, np.float32))
        if answer.status_code == _TOO_MANY:
            return Busy(0)
        try:
            self._take(json.loads(answer.headers[STANDING]))
            return unpack(answer.content) if answer.content else None
        except (KeyError, ValueError, TypeError):
            self._pulse.failed(f"it answers {answer.status_code}")
            return Refused(self._pulse.why)

    async def _look(self) -> str:
        """See `Pulse`."""
        try:
            answer = await self._client.get("/v1/standing", timeout=_PATIENCE_SECONDS)
            if answer.status_code == 200:
                self._take(answer.json())
                return ""
            return f"it answers {answer.status_code}"
        except httpx2.HTTPError as error:
            return _in_words(error)
        except (ValueError, TypeError):
            return "it answers what makes no sense"

    def _take(self, told: Mapping[str, Any]) -> None:
        """What the server says of itself. Raises `TypeError` for what is no `Standing`."""
        before, now = self._standing, Standing(**told)
        self._standing, self._told_at = now, time.monotonic()
        self._kept.most = now.keeps
        if now.ready and now.per_token > 0:
            self._speed.fixed, self._speed.per_token = now.fixed, now.per_token
        if before.process and now.process != before.process:
            self._kept.clear()
            self._to_tell = deque(_puts(list(self._new.values())))
        if (now.ready, now.loading, now.why) != (before.ready, before.loading, before.why) and self._pulse.up:
            self._changed()

    def _changed(self) -> None:
        """Tell the service whether the server can be asked."""
        if self.ready:
            self.on_ready()
        elif not self._pulse.up or self._standing.why:
            self._kept.clear()
            self.on_fault(f"{self._client.base_url}: {self._pulse.why or self._standing.why}".replace("/: ", ": "))


def _puts(items: Sequence[NewItem]) -> list[Put]:
    return [Put(list(items[start : start + _PUT_AT_ONCE])) for start in range(0, len(items), _PUT_AT_ONCE)]


def _in_words(error: Exception) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return f"no answer in {_PATIENCE_SECONDS:.0f} s"
    return str(error) or type(error).__name__

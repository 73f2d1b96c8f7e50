"""A language model behind an OpenAI-compatible server (vLLM, llama.cpp), asked for the logits of two answers.

The server gets token ids, so prompts are those of training to the token; a server that keeps prefixes reads a user's
timeline once. Serve the folder `model/language-model` of an exported run.
"""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.errors import UserError
from corella.llm.prefix import SharedPrompt
from corella.retrieval.live import Reason
from corella.serving.engine.asking import Answer, NewItem, Question
from corella.serving.engine.pulse import Pulse

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_REQUESTS = 16
"""At once; each may hold many prompts."""
_BRANCH_TOKENS = 16
"""About as long as an item's line is."""
_LOOK_SECONDS = 2.0
"""How long the server may take to say that it is there."""
_NO_ENTRY, _TOO_MANY, _NO_SUCH_QUESTION = (401, 403), 429, (404, 405, 501)
"""Statuses that say what is wrong."""
_LOGPROBS = 20
"""How many of the likeliest tokens are asked for: the most that common servers give."""


@dataclass(frozen=True)
class Endpoint:
    """Where the model is."""

    url: str
    """Up to and without /completions, e.g. http://llm:8000/v1."""
    model: str
    key: str = ""
    in_flight: int = 400
    """Prompts that may be on the way at once; beyond it requests are turned away."""


class RemoteEngine:
    """Asks an endpoint; the same promise as a process of one's own."""

    def __init__(self, endpoint: Endpoint, yes: str, no: str) -> None:
        """`yes`, `no`: the answers as the model's tokens read, e.g. ' Yes'."""
        self.on_ready: Callable[[], None] = lambda: None
        self.on_fault: Callable[[str], None] = lambda reason: None
        if not endpoint.url.startswith(("http://", "https://")):
            raise UserError(f"llm_url {endpoint.url!r} is no http address")
        self._endpoint, self._answers = endpoint, (yes, no)
        self._flying = 0
        self._threads = ThreadPoolExecutor(_REQUESTS, "llm")
        self._pulse = Pulse(self._look, None, up=True)
        self._pulse.on_change = self._changed

    @property
    def trust(self) -> None:
        """The server knows its own speed."""
        return None

    @property
    def ready(self) -> bool:
        """Whether it answered when it was asked last; until then it is taken to be there."""
        return self._pulse.up

    @property
    def loading(self) -> bool:
        """Not that one could know."""
        return False

    @property
    def load(self) -> float:
        """Tokens of the lines on the way; what others have it read is not known."""
        return float(self._flying * _BRANCH_TOKENS)

    def room(self, seconds: float, user: str = "") -> float:
        """By the number of prompts that may still be sent: the server knows its own speed."""
        return float(max(self._endpoint.in_flight - self._flying, 0) * _BRANCH_TOKENS)

    def unread(self, user: str, prefix: Ints) -> int:
        """What is kept is the server's business."""
        return 0

    def warm(self, user: str, prefix: Ints) -> int:
        """Nothing to do here."""
        return 0

    async def start(self) -> None:
        """Begin to look at it, where it does not answer."""
        self._pulse.start()

    async def stop(self) -> None:
        """Let go of the threads."""
        await self._pulse.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def retrieves(self) -> bool:
        """Not by this way."""
        return False

    async def retrieve(self, question: Question, deadline: float) -> list[list[Reason]] | None:
        """Not by this way."""
        return None

    def put(self, items: Sequence[NewItem]) -> None:
        """Nothing to tell."""

    def forget(self, user: str) -> None:
        """What the server keeps of prompts is its own business; they hold texts, and no ids."""

    async def ask(self, user: str, prompts: Sequence[SharedPrompt], deadline: float) -> list[Answer]:
        """See `Engine`."""
        asked = [asyncio.create_task(self._one(prompt, deadline)) for prompt in prompts]
        done, _ = await asyncio.wait(asked, timeout=max(deadline - time.monotonic(), 0))
        return [task.result() if task in done else Answer(None, "deadline") for task in asked]

    async def _one(self, prompt: SharedPrompt, deadline: float) -> Answer:
        body = {
            "model": self._endpoint.model, "max_tokens": 1, "temperature": 0, "logprobs": _LOGPROBS,
            "prompt": [np.concatenate([prompt.prefix, branch]).tolist() for branch in prompt.branches],
        }  # fmt: skip
        self._flying += len(prompt.branches)
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, self._post, body, deadline)
            choices = sorted(found["choices"], key=lambda choice: choice["index"])
            tops = [_likeliest(choice["logprobs"]) for choice in choices]
            if len(tops) != len(prompt.branches):
                return Answer(None, "fault")
            return Answer(np.array([self._logit(top) for top in tops], dtype=np.float32))
        except TimeoutError:
            self._pulse.doubt()
            return Answer(None, "deadline")
        except urllib.error.HTTPError as error:
            if error.code >= 500 or error.code in _NO_ENTRY:  # else it is this question that it does not like
                self._pulse.failed(str(error))
            return Answer(None, "overload" if error.code == _TOO_MANY else "fault")
        except (OSError, HTTPException) as error:
            self._pulse.failed(str(error) or type(error).__name__)
            return Answer(None, "fault")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return Answer(None, "fault")
        finally:
            self._flying -= len(prompt.branches)

    def _logit(self, top: dict[str, float]) -> float:
        """Log-probability of yes less that of no. One that is not among the likeliest is at most as likely as the last
        of those; without both nothing can be said (nan: the conventional model answers)."""
        yes, no = (top.get(answer) for answer in self._answers)
        if yes is None and no is None:
            return float("nan")
        least = min(top.values())
        return (least if yes is None else yes) - (least if no is None else no)

    async def _look(self) -> str:
        """See `Pulse`: any server of this kind lists its models; one that does not know the question is there too."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._open, "models", None, _LOOK_SECONDS)
        except urllib.error.HTTPError as error:
            return "" if error.code in _NO_SUCH_QUESTION else str(error)
        except (OSError, HTTPException) as error:
            return str(error) or type(error).__name__
        except ValueError:
            return ""
        return ""

    def _changed(self) -> None:
        if self._pulse.up:
            self.on_ready()
        else:
            self.on_fault(f"{self._endpoint.url}: {self._pulse.why}")

    def _post(self, body: Mapping[str, object], deadline: float) -> Any:
        seconds = deadline - time.monotonic()
        if seconds <= 0:  # it has waited for a thread until nobody waited for it
            raise TimeoutError
        return self._open("completions", json.dumps(body).encode(), seconds)

    def _open(self, path: str, data: bytes | None, seconds: float) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._endpoint.key:
            headers["Authorization"] = f"Bearer {self._endpoint.key}"
        asked = urllib.request.Request(f"{self._endpoint.url.rstrip('/')}/{path}", data, headers)  # noqa: S310
        try:
            with urllib.request.urlopen(asked, timeout=seconds) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise TimeoutError from None
            raise


def _likeliest(found: Any) -> dict[str, float]:
    """Log-probabilities of the first new token: as vLLM lists them, or as llama.cpp does."""
    if "top_logprobs" in found:
        top: dict[str, float] = found["top_logprobs"][0]
        return top
    return {one["token"]: one["logprob"] for one in found["content"][0]["top_logprobs"]}

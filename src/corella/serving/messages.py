"""What the service and the language model's process tell each other: a line of JSON and a buffer of numbers."""

import json
from dataclasses import asdict, dataclass, fields

import numpy as np
import numpy.typing as npt

from corella.llm.prefix import SharedPrompt
from corella.serving.asking import Answer

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Job:
    """A shared prompt and when its answer is of no use any more. Without branches: only read the prefix and keep it."""

    number: int
    user: str
    """The key under which the prefix is kept; empty: it is not."""
    deadline: float
    """In seconds of `time.monotonic`, which all processes of a machine share."""
    prompt: SharedPrompt


@dataclass(frozen=True)
class Retrieval:
    """A question for candidates: the items that somebody liked, oldest first, and those that must not come."""

    number: int
    user_id: str
    """Empty for somebody without an id."""
    deadline: float
    liked: list[str]
    without: list[str]
    k: int


@dataclass(frozen=True)
class Ready:
    """The model is loaded."""

    fixed: float
    """Seconds of a pass that reads next to nothing."""
    per_token: float
    """Seconds a token."""


@dataclass(frozen=True)
class Late:
    """A job's deadline had passed before it was begun."""

    number: int


@dataclass(frozen=True)
class Scored:
    """The answer to a `Job`."""

    number: int
    error: str
    """Empty where there was none."""
    seconds: float
    """Of the pass."""
    read: int
    """Tokens of the pass, with its last answer; 0 with the others."""
    keeps: int
    """Prefixes that the process keeps."""
    logits: Floats


@dataclass(frozen=True)
class Found:
    """The answer to a `Retrieval`."""

    number: int
    error: str
    items: list[str]


def answer_of(told: Late | Scored | Found) -> Answer:
    """What a request is told."""
    if isinstance(told, Late):
        return Answer(reason="deadline")
    if told.error:
        return Answer(reason="fault")
    return Answer(told.logits) if isinstance(told, Scored) else Answer(items=told.items)


Message = Job | Retrieval | Ready | Late | Scored | Found
_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in (Job, Retrieval, Ready, Late, Scored, Found)}


def pack(message: Message) -> bytes:
    """One message as bytes.

    >>> unpack(pack(Late(3)))
    Late(number=3)
    """
    numbers: npt.NDArray[np.int32] | Floats = np.zeros(0, np.int32)
    head: dict[str, object]
    if isinstance(message, Job):
        pieces = [message.prompt.prefix, *message.prompt.branches]
        head = {"number": message.number, "user": message.user, "deadline": message.deadline}
        head["lengths"], numbers = [len(p) for p in pieces], np.concatenate(pieces).astype(np.int32)
    elif isinstance(message, Scored):
        head = {field.name: getattr(message, field.name) for field in fields(message) if field.name != "logits"}
        numbers = message.logits.astype(np.float32)
    else:
        head = asdict(message)
    return json.dumps({"kind": type(message).__name__, **head}).encode() + b"\n" + numbers.tobytes()


def unpack(message: bytes) -> Message:
    """What `pack` made bytes of."""
    line, _, rest = message.partition(b"\n")
    head = json.loads(line)
    kind = _KINDS[head.pop("kind")]
    if kind is Job:
        ids = np.frombuffer(rest, np.int32).astype(np.int64)
        prefix, *branches = np.split(ids, np.cumsum(head.pop("lengths"))[:-1])
        return Job(**head, prompt=SharedPrompt(prefix, branches, np.arange(len(branches))))
    if kind is Scored:
        return Scored(**head, logits=np.frombuffer(rest, np.float32))
    return kind(**head)

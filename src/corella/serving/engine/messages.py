"""What the service and the language model's process tell each other: a line of JSON and a buffer of numbers."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.llm.prefix import SharedPrompt
from corella.retrieval.live import Reason
from corella.serving.engine.asking import Allowed, Answer, Because, Candidates, NewItem, Question, Similar

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
class Asked:
    """A question to the retrieval, and when its answer is of no use any more."""

    number: int
    deadline: float
    question: Question


@dataclass(frozen=True)
class Put:
    """Items that the retrieval was not fitted on; it is not answered."""

    items: list[NewItem]


@dataclass(frozen=True)
class Forget:
    """A user of whom nothing may be kept; it is not answered."""

    user: str


@dataclass(frozen=True)
class Ready:
    """The model is loaded."""

    fixed: float
    """Seconds of a pass that reads next to nothing."""
    per_token: float
    """Seconds a token."""
    retrieval: float = 0.0
    """Seconds of a question to the retrieval."""
    vocabulary: int = 0
    """How many tokens the model knows."""


@dataclass(frozen=True)
class Standing:
    """How a language model stands that is asked from elsewhere."""

    ready: bool
    loading: bool
    retrieves: bool
    fixed: float
    """Seconds of a pass that reads next to nothing, as passes take them now."""
    per_token: float
    """The same of a token."""
    retrieval: float
    """Seconds of a question to the retrieval."""
    waiting: int
    """Tokens that wait to be read, whoever asked."""
    keeps: int
    """Prefixes that are kept."""
    process: str = ""
    """Another one after each start of the server."""
    why: str = ""
    """What is wrong; empty where nothing is."""


@dataclass(frozen=True)
class Late:
    """A job's deadline had passed before it was begun."""

    number: int


@dataclass(frozen=True)
class Busy:
    """There was no time for a job, or too many waited."""

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
    """The answer to `Asked`."""

    number: int
    error: str
    found: list[list[Reason]]


@dataclass(frozen=True)
class Refused:
    """The process does not serve what it was to load."""

    why: str


def answer_of(told: Late | Busy | Scored | Found) -> Answer:
    """What a request is told."""
    if isinstance(told, Late | Busy):
        return Answer(reason="deadline" if isinstance(told, Late) else "overload")
    if told.error:
        return Answer(reason="fault")
    return Answer(told.logits) if isinstance(told, Scored) else Answer(found=told.found)


Message = Job | Asked | Put | Forget | Ready | Standing | Late | Busy | Scored | Found | Refused
_PLAIN: dict[str, type[Ready | Standing | Late | Busy | Forget | Refused]] = {
    kind.__name__: kind for kind in (Ready, Standing, Late, Busy, Forget, Refused)
}


def pack(message: Message) -> bytes:
    """One message as bytes.

    >>> unpack(pack(Late(3)))
    Late(number=3)
    """
    numbers = b""
    head: dict[str, object]
    match message:
        case Job(number, user, deadline, prompt):
            pieces = [prompt.prefix, *prompt.branches]
            head = {"number": number, "user": user, "deadline": deadline, "lengths": [len(p) for p in pieces]}
            numbers = np.concatenate(pieces).astype(np.int32).tobytes()
        case Scored():
            head = {name: value for name, value in vars(message).items() if name != "logits"}
            numbers = message.logits.astype(np.float32).tobytes()
        case Asked(number, deadline, question):
            told = dict(vars(question))
            allowed = told.pop("allowed", None)
            if allowed is not None:
                told["new"], told["fitted"] = allowed.new, len(allowed.fitted)
                numbers = np.packbits(allowed.fitted).tobytes()
            head = {"number": number, "deadline": deadline, "question": type(question).__name__, "told": told}
        case Put(items):
            head = {"ids": [item.item_id for item in items]}
            numbers = np.concatenate([np.zeros(0, np.float32), *(item.vector for item in items)]).tobytes()
        case Found(number, error, found):
            rows = [[(one.item_id, one.part, one.share) for one in row] for row in found]
            head = {"number": number, "error": error, "found": rows}
        case _:
            head = dict(vars(message))
    return json.dumps({"kind": type(message).__name__, **head}).encode() + b"\n" + numbers


def unpack(message: bytes) -> Message:
    """What `pack` made bytes of."""
    line, _, rest = message.partition(b"\n")
    head = json.loads(line)
    kind = head.pop("kind")
    match kind:
        case "Job":
            ids = np.frombuffer(rest, np.int32).astype(np.int64)
            prefix, *branches = np.split(ids, np.cumsum(head.pop("lengths"))[:-1])
            return Job(**head, prompt=SharedPrompt(prefix, branches, np.arange(len(branches))))
        case "Scored":
            return Scored(**head, logits=np.frombuffer(rest, np.float32))
        case "Asked":
            return Asked(head["number"], head["deadline"], _question(head["question"], head["told"], rest))
        case "Put":
            ids = head["ids"]
            vectors = np.frombuffer(rest, np.float32).reshape(len(ids), -1)
            return Put([NewItem(name, vector) for name, vector in zip(ids, vectors, strict=True)])
        case "Found":
            rows = [[Reason(*one) for one in row] for row in head["found"]]
            return Found(head["number"], head["error"], rows)
    return _PLAIN[kind](**head)


def _question(kind: str, told: dict[str, Any], rest: bytes) -> Question:
    if kind == "Because":
        return Because(**told)
    fitted = np.unpackbits(np.frombuffer(rest, np.uint8), count=told.pop("fitted")).astype(bool)
    allowed = Allowed(fitted, told.pop("new"))
    return Candidates(**told, allowed=allowed) if kind == "Candidates" else Similar(**told, allowed=allowed)

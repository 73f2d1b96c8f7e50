"""One message from a service answered by an engine: what is wrong with it is told, what cannot be in time refused."""

import time

import numpy as np

from corella.llm.prefix import SharedPrompt
from corella.serving.engine.asking import Answer
from corella.serving.engine.messages import Asked, Busy, Forget, Found, Job, Late, Message, Put, Refused, Scored
from corella.serving.engine.process import ProcessEngine

Told = Job | Asked | Put | Forget


async def answered(engine: ProcessEngine, told: Told, most_seconds: float) -> Message | None:
    """The answer; None to what has none. Deadlines are in seconds from now: clocks of machines differ. Of a job whose
    branches cannot all be read in time the first ones are; the answer has as many logits."""
    if isinstance(told, Put | Forget):
        _take_in(engine, told)
        return None
    if not engine.ready:
        return Refused("the language model is not there")
    if not told.deadline > 0:
        return Late(told.number)
    seconds = min(told.deadline, most_seconds)
    if isinstance(told, Asked):
        return await _found(engine, told, seconds)
    return await _scored(engine, told, seconds)


def _take_in(engine: ProcessEngine, told: Put | Forget) -> None:
    if isinstance(told, Put):
        engine.put(told.items)
    else:
        engine.forget(told.user)


async def _found(engine: ProcessEngine, asked: Asked, seconds: float) -> Message:
    found = await engine.retrieve(asked.question, time.monotonic() + seconds)
    return Busy(asked.number) if found is None else Found(asked.number, "", found)


async def _scored(engine: ProcessEngine, job: Job, seconds: float) -> Message:
    wrong = _wrong(job.prompt, engine.vocabulary)
    if wrong:
        return Scored(job.number, wrong, 0.0, 0, 0, np.zeros(0, np.float32))
    cut = _in_time(engine, job.user, job.prompt, seconds)
    if cut is None:
        return Busy(job.number)
    (answer,) = await engine.ask(job.user, [cut], time.monotonic() + seconds)
    return _as_message(job.number, answer)


def _wrong(prompt: SharedPrompt, vocabulary: int) -> str:
    """What is wrong with a prompt: it would spoil the pass that others share."""
    pieces = [prompt.prefix, *prompt.branches]
    if any(len(piece) and (piece.min() < 0 or piece.max() >= vocabulary) for piece in pieces):
        return f"a prompt has tokens that the model does not know; it has {vocabulary}"
    return "" if all(map(len, prompt.branches)) else "a prompt has an empty branch"


def _in_time(engine: ProcessEngine, user: str, prompt: SharedPrompt, seconds: float) -> SharedPrompt | None:
    """The first branches that can be read in time; None where not even one can, or the prefix alone."""
    # Who asks has allowed for mistrust; what is refused here cannot be done even if all goes well.
    room = engine.room(seconds / engine.trust)
    ends = np.cumsum([engine.unread(user, prompt.prefix), *map(len, prompt.branches)])
    count = int(np.searchsorted(ends, room, side="right")) - 1
    if count < min(len(prompt.branches), 1):
        return None
    return SharedPrompt(prompt.prefix, prompt.branches[:count], prompt.sample[:count])


def _as_message(number: int, answer: Answer) -> Message:
    if answer.logits is not None:
        return Scored(number, "", 0.0, 0, 0, answer.logits)
    if answer.reason == "deadline":
        return Late(number)
    return Busy(number) if answer.reason == "overload" else Refused("the language model's process has a fault")

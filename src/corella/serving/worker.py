"""The language model's own process: it can be slow, be killed or fail, and the service goes on without it.

Messages are a line of JSON and a buffer of numbers. A job is a shared prompt with a deadline; jobs that arrive within a
few milliseconds share a pass; a job that cannot be answered in time any more is not begun.
"""

import json
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corella.llm.backbone import Backbone
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt

Floats = npt.NDArray[np.float32]

_WARM_UP = 256
"""Tokens of the passes that tell how fast this machine is."""


@dataclass(frozen=True)
class Job:
    """A shared prompt and when its answer is of no use any more. Without branches: only read the prefix and keep it."""

    number: int
    user: str
    """The key under which the prefix is kept; empty: it is not."""
    deadline: float
    """In seconds of `time.monotonic`, which all processes of a machine share."""
    prompt: SharedPrompt

    def pack(self) -> bytes:
        """As one message."""
        pieces = [self.prompt.prefix, *self.prompt.branches]
        head = {
            "number": self.number, "user": self.user, "deadline": self.deadline, "lengths": [len(p) for p in pieces],
        }  # fmt: skip
        return pack(head, np.concatenate(pieces).astype(np.int32))

    @classmethod
    def unpack(cls, message: bytes) -> "Job":
        """The job that `pack` made a message of."""
        head, ids = unpack(message, np.int32)
        prefix, *branches = np.split(ids.astype(np.int64), np.cumsum(head["lengths"])[:-1])
        prompt = SharedPrompt(prefix, branches, np.arange(len(branches)))
        return cls(head["number"], head["user"], head["deadline"], prompt)


def pack(head: dict[str, Any], numbers: npt.NDArray[Any]) -> bytes:
    """A line of JSON, then the numbers' bytes."""
    return json.dumps(head).encode() + b"\n" + numbers.tobytes()


def unpack(message: bytes, dtype: Any) -> tuple[dict[str, Any], npt.NDArray[Any]]:
    """What `pack` made a message of."""
    line, _, rest = message.partition(b"\n")
    return json.loads(line), np.frombuffer(rest, dtype=dtype)


def serve_language_model(
    connection: Connection, folder: Path, cache_bytes: int, batch_tokens: int, wait: float, threads: int
) -> None:
    """The process's main function: load a saved model's language model, then answer jobs until the pipe closes.

    `wait`: seconds to wait for more jobs to share a pass with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service says when to stop
    torch.set_num_threads(threads)
    os.nice(10)  # where both want the processor, the fast model goes first
    scorer = PrefixScorer(_load(folder), PrefixCache(cache_bytes))
    rate = _measure(scorer)
    try:
        connection.send_bytes(pack({"rate": rate}, np.zeros(0, np.float32)))
        while True:
            jobs = _collect(connection, batch_tokens, wait)
            now = time.monotonic()
            # What could not be done in time even at once would only delay the others.
            kept = [job for job in jobs if job.deadline > now]
            for job in jobs:
                if job not in kept:
                    connection.send_bytes(pack({"number": job.number, "late": True}, np.zeros(0, np.float32)))
            if kept:
                _answer(connection, scorer, kept)
    except (EOFError, OSError):
        return  # the service is gone


def _load(folder: Path) -> Backbone:
    from corella.collaboration.system import load_language_model

    return load_language_model(folder)


def _measure(scorer: PrefixScorer) -> float:
    """Tokens a second of a small pass."""
    prompt = SharedPrompt(
        np.ones(_WARM_UP // 2, np.int64), [np.ones(16, np.int64)] * (_WARM_UP // 32), np.zeros(0, np.int64)
    )
    scorer.logits([""], [prompt])
    began = time.monotonic()
    scorer.logits([""], [prompt])
    return _WARM_UP / (time.monotonic() - began)


def _collect(connection: Connection, batch_tokens: int, wait: float) -> list[Job]:
    """The next job and those that come right behind it."""
    jobs = [Job.unpack(connection.recv_bytes())]
    until = time.monotonic() + wait
    while sum(_tokens(job) for job in jobs) < batch_tokens and connection.poll(max(until - time.monotonic(), 0)):
        jobs.append(Job.unpack(connection.recv_bytes()))
    return jobs


def _tokens(job: Job) -> int:
    """Of the branches; most prefixes are kept."""
    return sum(map(len, job.prompt.branches))


def _answer(connection: Connection, scorer: PrefixScorer, jobs: list[Job]) -> None:
    began = time.monotonic()
    error, found = "", [np.zeros(0, np.float32)] * len(jobs)
    try:
        found = scorer.logits([job.user for job in jobs], [job.prompt for job in jobs])
    except (RuntimeError, ValueError, IndexError) as problem:  # a fault of one pass; the process goes on
        error = f"{type(problem).__name__}: {problem}"
    seconds = time.monotonic() - began
    for job, logits in zip(jobs, found, strict=True):
        head = {"number": job.number, "error": error, "seconds": seconds, "read": scorer.read}
        connection.send_bytes(pack(head, logits.astype(np.float32)))

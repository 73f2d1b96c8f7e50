"""The language model's own process: it can be slow, be killed or fail, and the service goes on without it.

A job is a shared prompt with a deadline; jobs that arrive within a
few milliseconds share a pass; a job whose deadline has passed is not begun.
"""

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from corella.llm.backbone import Backbone
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt
from corella.memory import give_back
from corella.retrieval.live import LiveRetrieval, Reason
from corella.runs.folder import RunFolder
from corella.serving.engine.asking import Because, Candidates, Question
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
    pack,
    unpack,
)  # fmt: skip
from corella.serving.engine.wanted import Wanted

Floats = npt.NDArray[np.float32]
Told = Job | Asked | Put | Forget

_FEW, _MANY, _PASSES = 16, 256, 3
"""Tokens of the passes that tell how fast this machine is, and how many passes of each size."""


def serve_language_model(
    connection: Connection, wanted: Wanted, cache_bytes: int, batch_tokens: int, wait: float, threads: int
) -> None:
    """The process's main function: load a run's language model, and its retrieval if it has one, then answer jobs until
    the pipe closes.

    `wanted`: what the service has loaded; where other files lie there now, nothing is served. `wait`: seconds to wait
    for more jobs to share a pass with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service says when to stop
    os.nice(10)  # where both want the processor, the fast model goes first
    why = wanted.differs()
    if not why:
        scorer = PrefixScorer(_load(wanted.run), PrefixCache(cache_bytes))
        retriever = _load_retrieval(wanted)
        why = wanted.differs()  # it may have been swapped while it was read
    if why:
        connection.send_bytes(pack(Refused(why)))
        return
    give_back()
    torch.set_num_threads(threads)  # loading sets what the run's configuration says
    fixed, per_token = _measure(scorer)
    try:
        connection.send_bytes(pack(Ready(fixed, per_token, _retrieval_seconds(retriever), scorer.vocabulary)))
        while True:
            received = _collect(connection, batch_tokens, wait)
            now = time.monotonic()
            kept: list[Job | Asked] = []
            for job in received:
                if isinstance(job, Put | Forget):
                    _take_in(job, scorer, retriever)
                elif job.deadline <= now:  # it would only delay the others
                    connection.send_bytes(pack(Late(job.number)))
                else:
                    kept.append(job)
            for asked in kept:
                if isinstance(asked, Asked):
                    _retrieve(connection, retriever, asked)
            scored = [job for job in kept if isinstance(job, Job)]
            if scored:
                _answer(connection, scorer, scored)
    except (EOFError, OSError):
        return  # the service is gone


def _take_in(told: Put | Forget, scorer: PrefixScorer, retriever: LiveRetrieval | None) -> None:
    if isinstance(told, Forget):
        scorer.cache.drop(told.user)
    elif retriever is not None:
        for item in told.items:
            retriever.put(item.item_id, item.vector)


def _load(run: Path) -> Backbone:
    from corella.llm.saved import load_language_model

    return load_language_model(RunFolder(run).model)


def _load_retrieval(wanted: Wanted) -> LiveRetrieval | None:
    if not wanted.retrieval:
        return None
    from corella.retrieval.system import Retrieval

    return LiveRetrieval(Retrieval.load(RunFolder(wanted.run).retrieval))


def _retrieve(connection: Connection, retriever: LiveRetrieval | None, asked: Asked) -> None:
    error = ""
    found: list[list[Reason]] = []
    try:
        if retriever is not None:
            found = _found(retriever, asked.question)
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    connection.send_bytes(pack(Found(asked.number, error, found)))


def _found(retriever: LiveRetrieval, question: Question) -> list[list[Reason]]:
    if isinstance(question, Because):
        return retriever.because(question.liked, question.items, question.most)
    allowed = question.allowed
    if isinstance(question, Candidates):
        items = retriever.retrieve(
            question.user_id, question.liked, question.without, question.k, allowed.fitted, allowed.new
        )
        return [[Reason(item, 0.0) for item in items]]
    return [retriever.similar(question.item_id, question.k, allowed.fitted, allowed.new)]


def _measure(scorer: PrefixScorer) -> tuple[float, float]:
    """Seconds of a pass that reads next to nothing, and seconds per token: from the quickest of a few passes of two
    sizes."""
    few, many = (min(_pass_seconds(scorer, tokens) for _ in range(_PASSES)) for tokens in (_FEW, _MANY))
    per_token = max((many - few) / (_MANY - _FEW), many / _MANY / 10)
    return max(few - _FEW * per_token, per_token), per_token


def _retrieval_seconds(retriever: LiveRetrieval | None) -> float:
    """Of the quickest of a few questions for candidates; 0 without a retrieval."""
    if retriever is None:
        return 0.0
    liked, seconds = retriever.fitted.item_names[:20], []
    for _ in range(_PASSES):
        began = time.monotonic()
        retriever.retrieve("", liked, liked, 100)
        seconds.append(time.monotonic() - began)
    return min(seconds)


def _pass_seconds(scorer: PrefixScorer, tokens: int) -> float:
    """Of a pass of a prefix and branches of half of the tokens each."""
    branches = [np.ones(8, np.int64)] * (tokens // 16)
    prompt = SharedPrompt(np.ones(tokens // 2, np.int64), branches, np.arange(len(branches)))
    began = time.monotonic()
    scorer.logits([""], [prompt])
    return time.monotonic() - began


def _collect(connection: Connection, batch_tokens: int, wait: float) -> list[Told]:
    """The next job and those that come right behind it."""
    jobs = [_receive(connection)]
    until = time.monotonic() + wait
    while sum(_tokens(job) for job in jobs) < batch_tokens and connection.poll(max(until - time.monotonic(), 0)):
        jobs.append(_receive(connection))
    return jobs


def _receive(connection: Connection) -> Told:
    job = unpack(connection.recv_bytes())
    if not isinstance(job, Job | Asked | Put | Forget):
        raise OSError(f"{type(job).__name__} is no job")
    return job


def _tokens(job: Told) -> int:
    """Of the branches; most prefixes are kept."""
    return sum(map(len, job.prompt.branches)) if isinstance(job, Job) else 0


def _answer(connection: Connection, scorer: PrefixScorer, jobs: list[Job]) -> None:
    began = time.monotonic()
    error, found = "", [np.zeros(0, np.float32)] * len(jobs)
    try:
        found = scorer.logits([job.user for job in jobs], [job.prompt for job in jobs])
    except (RuntimeError, ValueError, IndexError) as problem:  # a fault of one pass; the process goes on
        error = f"{type(problem).__name__}: {problem}"
    seconds = time.monotonic() - began
    # What a pass took is said once, with its last answer.
    reads = [0] * (len(jobs) - 1) + [0 if error else scorer.read]
    for job, logits, read in zip(jobs, found, reads, strict=True):
        connection.send_bytes(pack(Scored(job.number, error, seconds, read, len(scorer.cache), logits)))

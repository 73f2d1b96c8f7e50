"""The language model asked about a request's samples: the most urgent ones, as many as there is time for."""

import asyncio
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.data.samples import Samples
from corella.llm.prefix import SharedPrompt
from corella.ranking.model import FittedRanking
from corella.serving.budget import Budget
from corella.serving.engine.asking import Engine

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Asked:
    """Samples of one request."""

    model: FittedRanking
    """The request's view."""
    user: str
    """Under which the history is kept; empty: it is not."""
    samples: Samples
    priority: Doubles
    routed: npt.NDArray[np.bool_]
    """Whom the router chose."""


async def ask(
    engine: Engine | None, asked: Asked, deadline: float, budget: Budget | None = None
) -> tuple[Floats, list[str]]:
    """For each sample the language model's logit, nan where it did not answer, and why it did not where it was to:
    `deadline`, `overload`, `budget`, `loading`, `fault`; else empty. `budget`: what it may read in all; None: what
    there is time for."""
    samples, priority = asked.samples, asked.priority
    z_llm, fallback = np.full(len(samples), np.nan, dtype=np.float32), [""] * len(samples)
    index = np.flatnonzero(asked.routed)
    sharing = asked.model.llm.prompts.sharing
    if engine is None or not engine.ready or sharing is None:
        for i in index:
            fallback[i] = "loading" if engine is not None and engine.loading else "fault"
        return z_llm, fallback
    llm = asked.model.config.llm
    index = index[np.argsort(-priority[index], kind="stable")]
    shared = sharing.shared(samples.take(index), llm.eval_context_share, llm.eval_window_tokens)
    time_for = engine.room(deadline - time.monotonic(), asked.user)
    room = time_for if budget is None else min(time_for, budget.room())
    short = "overload" if room == time_for else "budget"
    main = max(shared, key=lambda prompt: len(prompt.branches))  # one prefix of a user is kept
    jobs: list[tuple[str, SharedPrompt, npt.NDArray[np.int64]]] = []
    for prompt in shared:
        key = asked.user if prompt is main else ""
        unread = engine.unread(key, prompt.prefix)
        cut, left = _within(prompt, unread, room)
        spent, room = room - left, left
        places = index[prompt.sample]
        if cut.branches:
            jobs.append((key, cut, places[: len(cut.branches)]))
        for i in places[len(cut.branches) :]:
            fallback[i] = short
        if not cut.branches and room > 0:
            spent = engine.warm(key, prompt.prefix)
        if budget is not None:
            budget.spend(spent)
    asking = (engine.ask(key, [prompt], deadline) for key, prompt, _ in jobs)
    answers = [answer for (answer,) in await asyncio.gather(*asking)]
    for (_, _, places), answer in zip(jobs, answers, strict=True):
        if answer.logits is not None:
            z_llm[places] = answer.logits
        for i in places:
            if np.isnan(z_llm[i]):  # also where an answer says nothing of one branch
                fallback[i] = answer.reason or "fault"
    return z_llm, fallback


def _within(prompt: SharedPrompt, unread: int, room: float) -> tuple[SharedPrompt, float]:
    """The prompt's first branches whose tokens, with `unread` ones of the prefix, fit into `room`; and what is left."""
    lengths = np.cumsum([len(branch) for branch in prompt.branches]) + unread
    count = int(np.searchsorted(lengths, room, side="right"))
    left = room - float(lengths[count - 1]) if count else room
    return SharedPrompt(prompt.prefix, prompt.branches[:count], prompt.sample[:count]), left

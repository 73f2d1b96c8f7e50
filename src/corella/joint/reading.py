"""What a step reads on each worker, and what came of it on all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.joint.plan import Step
from corella.llm.scoring import group_by_tokens
from corella.workers import Workers

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pass:
    """A forward and backward pass."""

    prompts: Sequence[Any]
    counts: bool = True
    """False: read only because others wait for this worker; it teaches nothing."""


def passes(step: Step, workers: Workers, batch_tokens: int, level: bool = False) -> list[Pass]:
    """This worker's passes of a step: its share of the prompts, the shortest first. `level`: whether all workers make
    equally many, which sharded weights need."""
    prompts = sorted(step.prompts, key=lambda p: p.tokens)
    each = [list(group_by_tokens(prompts[rank :: workers.size], batch_tokens)) for rank in range(workers.size)]
    found = [Pass(group) for group in each[workers.rank]]
    missing = max(len(groups) for groups in each) - len(found) if level else 0
    return found + [Pass(prompts[:1], counts=False)] * missing


@dataclass
class Reading:
    """What the targets of a step brought."""

    samples: Ints
    """The targets' samples, ascending, each once."""
    names: tuple[str, ...]
    """Of the losses."""
    losses: Floats = field(init=False)
    """A mean over the targets each; so far as they were read."""
    tokens: int = field(init=False, default=0)
    _logit: Floats = field(init=False)
    _times: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.losses = np.zeros(len(self.names), np.float32)
        self._logit, self._times = np.zeros((2, len(self.samples)), np.float32)

    def record(self, sample: Ints, logit: Floats, losses: Sequence[float], tokens: int) -> None:
        """What one pass brought."""
        place = np.searchsorted(self.samples, sample)
        self._logit[place], self._times[place] = logit, 1
        self.losses += np.asarray(losses, np.float32)
        self.tokens += tokens

    @property
    def logits(self) -> Floats:
        """The logit of each of `samples` before this step, once all workers' numbers are in."""
        return self._logit / self._times

    @property
    def numbers(self) -> Floats:
        """What workers add up."""
        return np.concatenate([self.losses, [np.float32(self.tokens)], self._logit, self._times], dtype=np.float32)

    def take(self, numbers: Floats) -> None:
        """The sums of all workers' `numbers`."""
        count, size = len(self.names), len(self.samples)
        self.losses, tokens, self._logit, self._times = np.split(numbers, [count, count + 1, count + 1 + size])
        self.tokens = round(float(tokens[0]))


def reading_of(step: Step, names: tuple[str, ...]) -> Reading:
    """Of a step that nobody has read yet; `names`: its losses."""
    return Reading(np.unique(np.concatenate([np.atleast_1d(p.sample) for p in step.prompts])), names)

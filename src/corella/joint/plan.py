"""Which prompts each step of stages 2 and 3 reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.config import JointConfig
from corella.data.samples import Samples
from corella.llm.scoring import Prompts


@dataclass(frozen=True)
class Step:
    """One optimiser step: its stage and the planned prompts it reads."""

    stage: int
    prompts: list[Any]
    targets: int


def plan_steps(
    prompts: Prompts,
    train: Samples,
    config: JointConfig,
    context_share: float,
    seed: int,
    worth: npt.NDArray[np.float64] | None = None,
) -> list[Step]:
    """All steps of stages 2 and 3. Prompts are drawn at random without replacement until none is left, then anew.

    `worth`: of every sample, float64 [n], above 0; a prompt is drawn the sooner, the larger the mean of its targets'.
    """
    wanted = {2: config.stage2_targets, 3: config.stage3_targets}
    stages = [s for s in (2, 3) if s in config.stages]
    planned = list(prompts.plan(train, context_share))
    each = None if worth is None else np.array([worth[p.sample].mean() for p in planned])
    stream = _stream(planned, seed, each)
    steps: list[Step] = []
    for stage in stages:
        left = wanted[stage]
        while left > 0:
            group, targets = [], 0
            while targets < min(config.targets_per_step, left):
                group.append(next(stream))
                targets += _targets(group[-1])
            steps.append(Step(stage, group, targets))
            left -= targets
    return steps


def _stream(planned: list[Any], seed: int, worth: npt.NDArray[np.float64] | None) -> Iterator[Any]:
    """Epoch after epoch; with `worth` in the order of draws without replacement in proportion to it (Efraimidis and
    Spirakis, 2006)."""
    for epoch in range(10_000):
        rng = np.random.default_rng([seed, epoch])
        order = (
            rng.permutation(len(planned)) if worth is None else np.argsort(rng.exponential(size=len(planned)) / worth)
        )
        for i in order:
            yield planned[i]


def _targets(planned: Any) -> int:
    return int(np.size(planned.sample))

"""Which documents each step of pretraining and fine-tuning reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.config import RetrievalConfig
from corella.errors import UserError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One optimiser step: what kind, in which phase and epoch, and which users or items its documents are of."""

    kind: str
    """`items` (L) or `words` (C)."""
    fine_tuning: bool
    epoch: int
    members: Ints
    """Users of an L step; of a C step items, and behind them (from the number of items on) reviews."""


def plan_steps(liked: Sequence[Ints], items: int, config: RetrievalConfig, seed: int, reviews: int = 0) -> list[Step]:
    """All steps: L and C steps in turn, every user with items, every item and some of the reviews once an epoch."""
    readers = np.flatnonzero([len(codes) > 0 for codes in liked])
    if len(readers) == 0:
        raise UserError("no user likes anything among the training rows")
    steps: list[Step] = []
    for epoch in range(config.pretraining_epochs + config.fine_tuning_epochs):
        fine = epoch >= config.pretraining_epochs
        rng = np.random.default_rng([seed, epoch])
        read = np.sort(rng.permutation(items)[: config.texts_per_epoch])
        texts = np.r_[read, items + rng.permutation(reviews)[: config.reviews_per_epoch]]
        parts = {
            "items": _groups(rng.permutation(readers), config.users_per_step) if config.collaborative or fine else [],
            "words": _groups(rng.permutation(texts), config.items_per_step) if config.content else [],
        }
        steps += [Step(kind, fine, epoch, members) for kind, members in _alternate(parts)]
    return steps


def _groups(members: Ints, size: int) -> list[Ints]:
    return [members[start : start + size] for start in range(0, len(members), size)]


def _alternate(parts: dict[str, list[Ints]]) -> Iterator[tuple[str, Ints]]:
    """Both kinds of steps spread evenly over the epoch."""
    placed = []
    for kind, groups in parts.items():
        placed += [((n + 0.5) / len(groups), kind, members) for n, members in enumerate(groups)]
    for _, kind, members in sorted(placed, key=lambda p: p[:2]):
        yield kind, members

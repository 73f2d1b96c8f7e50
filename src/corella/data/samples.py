"""Samples: the one data type that flows through everything.

Arrays of users, items, and a pointer to the end of each sample's history in the user-major `Events`. Rows of the log
and new rows to score become the same `Samples`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.data.on_disk import Features
from corella.data.world import WHOLE, World, check_world

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Samples of one dataset, all arrays of length n (counts and text float32 [n, features], or `OnDisk`)."""

    user: Ints
    item: Ints
    history_end: Ints
    """The sample's history is `Events[start of its user : history_end]`."""
    counts: Features
    popularity: Ints
    """[n, 2]: the item's answers and positive answers before the sample."""
    label: Ints
    """0 or 1; -1 where the answer is not known."""
    row: Ints
    """Row in the log; -1 for a new row."""
    text: Features
    """Text features; no column without an encoder. Apart from `counts`, so that models with and without them learn from
    the same samples."""
    world: World = WHOLE
    """What the codes mean."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: npt.NDArray[Any]) -> "Samples":
        """The samples at `index` (positions or a mask)."""
        return self._with(lambda name: getattr(self, name)[index])

    def followed_by(self, other: "Samples") -> "Samples":
        """These samples, then others of the same world."""
        check_world(other, self.world)
        return self._with(lambda name: np.concatenate([getattr(self, name), getattr(other, name)]))

    def _with(self, column: Callable[[str], npt.NDArray[Any]]) -> "Samples":
        names = ("user", "item", "history_end", "counts", "popularity", "label", "row", "text")
        user, item, end, counts, popularity, label, row, text = map(column, names)
        return Samples(user, item, end, counts, popularity, label, row, text, self.world)


def sample_users(samples: Samples, most: int | None, seed: int) -> Ints:
    """Positions of the samples of users drawn at random until `most` samples are reached (all, where it is None)."""
    if most is None or most >= len(samples):
        return np.arange(len(samples))
    users, counts = np.unique(samples.user, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(users))
    until = int(np.searchsorted(np.cumsum(counts[order]), most)) + 1
    return np.flatnonzero(np.isin(samples.user, users[order[:until]]))


def liked_share(samples: Samples) -> npt.NDArray[np.float64]:
    """Popularity as a score, float64 [n]: the share of the item's earlier interactions that were positive, as if five
    more had been average."""
    answers, positives = samples.popularity.astype(np.float64).T
    average = (positives.sum() + 1) / (answers.sum() + 2)
    share: npt.NDArray[np.float64] = (positives + 5 * average) / (answers + 5)
    return share


@dataclass(frozen=True)
class Events:
    """All known answers, user by user, in order. `start[u] : start[u + 1]` are the events of user u."""

    start: Ints
    item: Ints
    label: Ints
    row: Ints

"""The small world of one request: a user, the items it names, and the user's answers, with numbers of their own.

Everything that reads a dataset (encoder, prompts, text signals) has `narrowed(scope)`, a cheap copy that reads this
world instead: so a request sees answers that the prepared log does not hold, users and items that it does not know,
and the same code scores them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from corella.data.samples import Events, Samples
from corella.data.world import World

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Described:
    """A user or an item that the dataset does not know, as its request describes it."""

    text: str
    fields: Mapping[str, object] = field(default_factory=dict)
    """Column -> value (a list for a list column); what is missing is unknown."""


@dataclass(frozen=True)
class Scope:
    """Users and items are numbered from 0 here; -1 keeps meaning unknown."""

    user: int
    """The user's code in the dataset; -1 for somebody else."""
    items: Ints
    """For each item its code in the dataset; -1 for one that it does not know."""
    events: Events
    """The answers of the one user, 0; items and rows in this world's numbers."""
    popularity: Ints
    """[events, 2]: the item's answers and positive answers before each event."""
    new_user: Described | None = None
    new_items: Mapping[int, Described] = field(default_factory=dict)
    """By this world's numbers."""
    vectors: Floats | None = None
    """[items, width]: where their texts lie, see `TextSpace`; None without an encoder."""
    world: World = field(default_factory=lambda: World("a request"))

    def samples(self, items: Ints, counts: Floats, popularity: Ints, text: Floats) -> Samples:
        """Samples of the user and `items` (this world's numbers) behind all events; counts and text [n, features] and
        popularity [n, 2] as of now."""
        n, none = len(items), np.full(len(items), -1)
        end = np.full(n, len(self.events.item), dtype=np.int64)
        return Samples(
            np.zeros(n, np.int64), np.asarray(items, np.int64), end, counts, popularity, none, none, text, self.world
        )

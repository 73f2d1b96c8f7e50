"""What everybody said up to a row, kept block by block: totals where the block begins, and what its own rows add.

Totals of a catalogue fit into a processor's cache, running sums over a whole log do not.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.features.grids import VECTOR, on_grid
from corella.features.grouping import Grouped, grouped
from corella.features.log import Log

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Totals:
    """Sums of vectors by key, row by row."""

    def __init__(self, keys: int, width: int) -> None:
        self.sums = np.zeros((keys + 1, width))
        """[keys + 1, width]: the last row is of rows without a key, code -1."""

    def take(self, by_key: Grouped, code: Ints, values: Doubles) -> Doubles:
        """Add a block of rows, float64 [n, width]; returns the sums before each of them. `by_key`: the rows gathered by
        their `code`."""
        order, heads = by_key.order, by_key.heads
        told = values[order]
        until = np.cumsum(told, axis=0)
        earlier = until - told
        found = np.empty_like(earlier)
        found[order] = earlier - earlier[by_key.begin]
        found += self.sums[code]
        last = np.r_[heads[1:], len(order)] - 1
        self.sums[code[order[heads]]] += until[last] - earlier[heads]
        return found


@dataclass(frozen=True, eq=False)
class Heard:
    """What all had said of items before each row of a block."""

    count: Doubles
    """[n]: interactions with the row's item; with those near it [n, M]; so are the others."""
    likes: Doubles
    circle: Doubles
    """[n, width]: see `kernels`."""
    near_count: Doubles
    near_likes: Doubles
    near_circle: Doubles
    """[n, M, width]"""
    profile: Doubles
    """[n, width]: of the rows' users."""


class Everybody:
    """Reads a log from its beginning, a block at a time; or several, one behind the other."""

    def __init__(self, users: int, vectors: Floats, apart: bool = True) -> None:
        """`vectors` [items + 1, width]: where texts lie, the last one is of an item that is not in the catalogue.
        `apart`: whether all may see other residuals than their own users."""
        self._vectors = vectors
        self._profiles = Totals(users, vectors.shape[1])
        self._shown = Totals(users, vectors.shape[1]) if apart else None
        items = len(vectors) - 1
        self._slot = np.full(items + 1, -1)
        self.items = Totals(items, vectors.shape[1] + 2)
        """Of every item: how many interacted with it, how many of them liked it, its circle."""

    def follow(self, log: Log, left: Doubles, told: Doubles) -> None:
        """Read this log from now on. `left`: residuals that their own users' rows may see; `told`: those that all may,
        which circles are made of, so that nothing else comes to other users through them."""
        self._log, self._left, self._told = log, left * log.known, told * log.known

    def read(self, start: int, end: int, near: Ints | None = None, asked: Ints | None = None) -> Heard | None:
        """Take in the rows from `start` to before `end`. `near` [n, M]: items near to those of the rows `asked`, places
        in the block of which something is told; None where nobody asks."""
        log, rows = self._log, slice(start, end)
        user, item = log.user[rows], log.item[rows]
        by_user, by_item = grouped(user), grouped(item)
        vectors = self._vectors[item].astype(np.float64)
        profile = self._profiles.take(by_user, user, on_grid(self._left[rows, None] * vectors, VECTOR))
        shown = profile
        if self._shown is not None:
            shown = self._shown.take(by_user, user, on_grid(self._told[rows, None] * vectors, VECTOR))
        counts = ((log.shared[rows] == 1) & (item >= 0)).astype(np.float64)[:, None]
        said = np.concatenate(
            [counts, counts * log.values[rows, :1], on_grid(counts * self._told[rows, None] * shown, VECTOR)], axis=1
        )
        if near is None or asked is None:
            self.items.take(by_item, item, said)
            return None
        around = self._near(by_item, item, said, near, asked)
        own = self.items.take(by_item, item, said)[asked] * (item[asked] >= 0)[:, None]
        return Heard(
            own[:, 0], own[:, 1], own[:, 2:], around[:, :, 0], around[:, :, 1], around[:, :, 2:], profile[asked]
        )

    def _near(self, by_item: Grouped, item: Ints, said: Doubles, near: Ints, asked: Ints) -> Doubles:
        """[n, M, 2 + width]: of the items near to the asked rows' before these, the block's own rows among them."""
        found = self.items.sums[near]
        ordered = item[by_item.order]
        heads = by_item.heads[ordered[by_item.heads] >= 0]
        self._slot[ordered[heads]] = heads
        begin = self._slot[near]
        row, place = np.nonzero(begin >= 0)  # only items that the block has too
        begin = begin[row, place]
        self._slot[ordered[heads]] = -1
        size = len(item)
        end = np.searchsorted(by_item.begin.astype(np.int64) * size + by_item.order, begin * size + asked[row])
        more = end > begin
        told = said[by_item.order]
        earlier = np.cumsum(told, axis=0) - told
        earlier = np.concatenate([earlier, earlier[-1:] + told[-1:]])
        found[row[more], place[more]] += earlier[end[more]] - earlier[begin[more]]
        return found

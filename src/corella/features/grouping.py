"""Rows gathered by a key, each key's in their order; made once and asked many times."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, eq=False)
class Grouped:
    """Places of rows, key by key."""

    order: Ints
    """[rows]"""
    begin: Ints
    """[rows]: for each entry of `order` where its key begins there."""

    def before(self, values: npt.NDArray[Any]) -> Doubles:
        """For every row the sum of the values of its key's earlier rows, float64 [rows].

        >>> grouped(np.array([7, 3, 7, 7])).before(np.array([1, 10, 2, 4])).tolist()
        [0.0, 0.0, 1.0, 3.0]
        """
        told = values[self.order].astype(np.float64)
        earlier = np.cumsum(told) - told
        return self.back(earlier - earlier[self.begin])

    def back(self, entries: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Entries in the order of `order` as rows."""
        found = np.empty_like(entries)
        found[self.order] = entries
        return found

    @cached_property
    def heads(self) -> Ints:
        """[keys]: where each key begins in `order`."""
        return np.flatnonzero(self.begin == np.arange(len(self.begin)))


_SPARSE = 4
"""Values that keys may have for each row before they are sorted, not counted."""


def grouped(code: Ints) -> Grouped:
    """Gather rows by their keys. Counting takes a fifth of the time of sorting, where the keys are dense."""
    rows = len(code)
    if not rows:
        return Grouped(np.zeros(0, np.int32), np.zeros(0, np.int32))
    low, high = int(code.min()), int(code.max())
    if high - low > _SPARSE * rows:
        order = np.argsort(code, kind="stable").astype(np.int32)
        new = np.r_[True, np.diff(code[order]) != 0]
        return Grouped(order, np.maximum.accumulate(np.where(new, np.arange(rows, dtype=np.int32), 0)))
    # Each row alone in a column of a sparse matrix: by rows, it is a stable counting sort.
    held = csr_matrix((np.ones(rows, np.int8), (code - low, np.arange(rows))), shape=(high - low + 1, rows))
    return Grouped(held.indices, np.repeat(held.indptr[:-1], np.diff(held.indptr)))

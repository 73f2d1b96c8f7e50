"""The last few rows of numbers of each key, in one array a key."""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


class Recent:
    """Of millions of keys with a few rows each, a queue each would take ten times the memory.

    >>> recent = Recent(width=2, most=2)
    >>> for row in ([1, 0.5], [2, 0.25], [3, 0.0]):
    ...     recent.add("u", row)
    >>> recent.last("u").tolist(), len(recent.last("nobody"))
    ([[2.0, 0.25], [3.0, 0.0]], 0)
    """

    def __init__(self, width: int, most: int) -> None:
        """`width`: numbers a row; `most`: rows that are kept of a key."""
        self._width, self._most = width, most
        self._rows: dict[object, array[float]] = {}

    def add(self, key: object, row: Sequence[float]) -> None:
        """Add a row behind the others of a key."""
        self.extend(key, (row,))

    def extend(self, key: object, rows: Iterable[Sequence[float]]) -> None:
        """Add rows, the oldest first."""
        known = self._rows.get(key)
        if known is None:
            known = self._rows[key] = array("d")
        for row in rows:
            known.extend(row)
        if len(known) > 2 * self._most * self._width:  # now and then, so that adding stays cheap
            self._rows[key] = known[-self._most * self._width :]

    def last(self, key: object) -> Doubles:
        """A key's last rows, the oldest first; float64 [rows, width]."""
        known = self._rows.get(key)
        if known is None or not self._most:
            return np.zeros((0, self._width))
        return np.array(known[-self._most * self._width :]).reshape(-1, self._width)

    def pop(self, key: object) -> None:
        """Forget a key, if it is there."""
        self._rows.pop(key, None)

"""Token ids of many texts in one array."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged(Sequence[Ints]):
    """Rows of different lengths; a catalogue of a million texts takes a tenth of what a list of arrays would.

    >>> rows = ragged([[1, 2], [], [3]])
    >>> len(rows), rows[0].tolist(), rows[-1].tolist(), rows.lengths.tolist()
    (3, [1, 2], [3], [2, 0, 1])
    """

    ids: npt.NDArray[np.int32]
    start: Ints
    """[rows + 1]: where each row begins in `ids`."""

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, row: int) -> Ints:  # type: ignore[override]  # no slices
        place = range(len(self))[row]
        return self.ids[self.start[place] : self.start[place + 1]].astype(np.int64)

    @property
    def lengths(self) -> Ints:
        """Of the rows, int64 [rows]."""
        return np.diff(self.start)


def ragged(rows: Iterable[Sequence[int] | Ints]) -> Ragged:
    """One array of many rows; they may come one by one."""
    parts, lengths = [np.zeros(0, np.int32)], [0]
    for row in rows:
        parts.append(np.asarray(row, np.int32))
        lengths.append(len(row))
    return Ragged(np.concatenate(parts), np.cumsum(lengths))

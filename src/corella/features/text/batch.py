"""Text features of the rows of an ordered log, in one vectorised pass: linear in the log, and in blocks."""

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig
from corella.config.text import TextConfig
from corella.features.counts import Log, residual, running_average
from corella.features.text.kernels import COMPONENTS, circle_kernels, cosines, other_kernels, own_kernels
from corella.features.text.space import TextSpace

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_BLOCK = 4096


def batch_text(log: Log, space: TextSpace, counts: CountsConfig, text: TextConfig, rows: Ints | None = None) -> Floats:
    """Text features of rows of a log (unset: all of them), each from what is strictly before it; float32
    [rows, len(text_names)]."""
    wanted = np.arange(len(log.user)) if rows is None else rows
    label, left = log.values[:, 0], residual(log, log.known, counts)
    average = running_average(label, log.shared, counts.clicks)
    said, places = Said(log, text.history), space.with_unknown
    seen = Seen(log, left, residual(log, log.shared, counts), said, places.vectors)
    parts = []
    for start in range(0, len(wanted), _BLOCK):
        row = wanted[start : start + _BLOCK]
        item, now = log.item[row], average[row]
        earlier, present = said(row)
        place = places.take(item)
        own = own_kernels(
            cosines(place.vectors, places.vectors[log.item[earlier]]),
            label[earlier], left[earlier] * present, present, now,
        )  # fmt: skip
        near = place.nearness.astype(np.float64)
        end, begin = seen.before(place.near, row[:, None])
        number = (end - begin).astype(np.float64)
        others = other_kernels(near, number, seen.likes[end] - seen.likes[begin], now, counts.smoothing)
        last, first = seen.before(item, row)
        circles = circle_kernels(
            seen.profile(row), seen.circle[last] - seen.circle[first], (last - first).astype(np.float64),
            seen.circle[end] - seen.circle[begin], number, near, counts.smoothing,
        )  # fmt: skip
        parts.append(np.concatenate([own, others, circles, place.vectors[:, :COMPONENTS]], axis=1).astype(np.float32))
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


class Said:
    """What users said before a row."""

    def __init__(self, log: Log, last: int) -> None:
        order = np.argsort(log.user, kind="stable")
        known = log.known[order]
        before = np.cumsum(known) - known
        self.last = last
        self.first, self.end = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
        self.first[order], self.end[order] = before[np.searchsorted(log.user[order], log.user[order])], before
        self.rows = np.r_[order[known == 1], -1]
        """Rows of known interactions, user by user; the last entry stands where there is none."""

    def __call__(self, row: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """[n, last]: the rows of the user's last interactions, and where there is one."""
        place = self.end[row][:, None] + np.arange(-self.last, 0)
        present = place >= self.first[row][:, None]
        return self.rows[np.where(present, place, -1)], present


class Seen:
    """What everybody said of an item before a row: running sums in the order of items, then rows."""

    def __init__(self, log: Log, left: Doubles, told: Doubles, said: Said, vectors: Floats) -> None:
        """`left`: residuals that their own users' rows may see; `told`: those that all may, which circles are made of,
        so that nothing else comes to other users through them."""
        self._said, self._size = said, len(log.user) + 1
        spoken = said.rows[:-1]
        self._profiles, shown = (_running(e[spoken][:, None] * vectors[log.item[spoken]]) for e in (left, told))
        shared = np.flatnonzero((log.shared == 1) & (log.item >= 0))
        key = log.item[shared] * self._size + shared
        order = np.argsort(key)
        rows = shared[order]
        self._key = key[order]
        self.likes = np.r_[0.0, np.cumsum(log.values[rows, 0])]
        self.circle = _running(told[rows][:, None] * (shown[said.end[rows]] - shown[said.first[rows]]))

    def profile(self, row: Ints) -> Doubles:
        """The profiles of the rows' users before them, [n, width]."""
        return np.asarray(self._profiles[self._said.end[row]] - self._profiles[self._said.first[row]])

    def before(self, item: Ints, row: Ints) -> tuple[Ints, Ints]:
        """Where the item's interactions before a row end and begin."""
        end = np.searchsorted(self._key, item * self._size + row)
        begin = np.searchsorted(self._key, item * self._size)
        return np.where(item >= 0, end, 0), np.where(item >= 0, begin, 0)


def _running(values: Doubles) -> Doubles:
    """Sums of the rows before each, from zeros; [n + 1, width]."""
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0, dtype=np.float64)])

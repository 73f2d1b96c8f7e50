"""Text features of the rows of an ordered log, in one vectorised pass: linear in the log, and in blocks."""

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig
from corella.config.text import TextConfig
from corella.features.counts import residual
from corella.features.everyone import averages
from corella.features.log import Log
from corella.features.text.everybody import Everybody
from corella.features.text.kernels import COMPONENTS, circle_kernels, cosines, other_kernels, own_kernels, text_names
from corella.features.text.space import Places, TextSpace

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BLOCK = 1024


def batch_text(log: Log, space: TextSpace, counts: CountsConfig, text: TextConfig, rows: Ints | None = None) -> Floats:
    """Text features of rows of a log (unset: all of them), each from what is strictly before it; float32
    [rows, len(text_names)]."""
    wanted = np.arange(len(log.user)) if rows is None else rows
    order = np.argsort(wanted, kind="stable")
    left, told = seen_residuals(log, counts)
    average = averages(log, counts)[:, 0]
    said, places = Said(log, text.history), space.with_unknown
    everybody = Everybody(int(log.user.max(initial=-1)) + 1, places.vectors, told is not left)
    everybody.follow(log, left, told)
    found = np.zeros((len(wanted), len(text_names(places.vectors.shape[1]))), np.float32)
    for start in range(0, len(log.user), BLOCK):
        end = min(start + BLOCK, len(log.user))
        some = order[slice(*np.searchsorted(wanted[order], [start, end]))]
        if not len(some):
            everybody.read(start, end)
            continue
        row = wanted[some]
        own = own_part(log, left, average, places, said, row)
        others = others_part(everybody, log, average, places, counts.smoothing, (start, end), row)
        found[some] = np.concatenate([own, others], axis=1)
    return found


def seen_residuals(log: Log, counts: CountsConfig) -> tuple[Doubles, Doubles]:
    """Residuals that their own users' rows may see, and those that all may; one array where these are the same."""
    left = residual(log, log.known, counts)
    return left, left if np.array_equal(log.known, log.shared) else residual(log, log.shared, counts)


def own_part(log: Log, left: Doubles, average: Doubles, places: Places, said: "Said", row: Ints) -> Doubles:
    """What the user's last interactions say of some rows, float64 [n, own kernels]; `average`: of all labels before
    each row of the log."""
    label = log.values[:, 0]
    earlier, present = said(row)
    near = cosines(places.vectors[log.item[row]], places.vectors[log.item[earlier]])
    return own_kernels(near, label[earlier], left[earlier] * present, present, average[row])


def others_part(
    everybody: Everybody, log: Log, average: Doubles, places: Places, smoothing: float, block: tuple[int, int],
    row: Ints,
) -> Doubles:  # fmt: skip
    """What everybody's interactions say of some rows of a block that is read by this, and the items' components;
    float64 [n, the other columns of `text_names`]."""
    place, now = places.take(log.item[row]), average[row]
    heard = everybody.read(*block, place.near, row - block[0])
    assert heard is not None  # noqa: S101
    near = place.nearness.astype(np.float64)
    others = other_kernels(near, heard.near_count, heard.near_likes, now, smoothing)
    circles = circle_kernels(
        heard.profile, heard.circle, heard.count, heard.near_circle, heard.near_count, near, smoothing
    )
    return np.concatenate([others, circles, place.vectors[:, :COMPONENTS]], axis=1)


class Said:
    """What users said before a row."""

    def __init__(self, log: Log, last: int) -> None:
        order = log.by_user.order
        known = log.known[order]
        before = np.cumsum(known) - known
        self.last = last
        self.first, self.end = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
        self.first[order], self.end[order] = before[log.by_user.begin], before
        self.rows = np.r_[order[known == 1], -1]
        """Rows of known interactions, user by user; the last entry stands where there is none."""

    def __call__(self, row: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """[n, last]: the rows of the user's last interactions, and where there is one."""
        place = self.end[row][:, None] + np.arange(-self.last, 0)
        present = place >= self.first[row][:, None]
        return self.rows[np.where(present, place, -1)], present

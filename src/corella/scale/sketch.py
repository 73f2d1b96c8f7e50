"""A mergeable sketch of many numbers, from which one threshold over all of them is read.

Each partition's numbers are sorted and cut into `POINTS` blocks of equal size; the largest of each block is kept, with
the block's size: an equi-depth histogram. Sketches merge as sets of blocks. Of N numbers at most N / POINTS lie between
what a block's top says and the truth, whatever the number of partitions and their order, and no partition of up to
POINTS numbers loses anything. KLL sketches (arXiv 1603.05346; the datasketches library) are smaller, but draw at random
what they keep: a rerun would route other rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POINTS = 4096


@dataclass(frozen=True)
class Sketch:
    """Blocks of numbers, the largest first."""

    tops: list[float]
    """The largest number of each block."""
    sizes: list[int]
    """How many numbers each holds."""


def sketch(values: npt.NDArray[np.float64], points: int = POINTS) -> Sketch:
    """The sketch of numbers, float64 [n]; none of them nan.

    >>> sketch(np.array([3.0, 1.0, 2.0, 5.0, 4.0]), points=3)
    Sketch(tops=[5.0, 3.0, 1.0], sizes=[2, 2, 1])
    """
    ordered = -np.sort(-values)
    size = max(1, -(-len(ordered) // points))
    tops = ordered[::size]
    sizes = [size] * len(tops)
    if sizes:
        sizes[-1] = len(ordered) - size * (len(tops) - 1)
    return Sketch(tops.tolist(), sizes)


def merged(sketches: Iterable[Sketch]) -> Sketch:
    """The sketch of all numbers of all sketches.

    >>> merged([Sketch([5.0, 1.0], [2, 2]), Sketch([3.0], [4])])
    Sketch(tops=[5.0, 3.0, 1.0], sizes=[2, 4, 2])
    """
    blocks = sorted((block for each in sketches for block in zip(each.tops, each.sizes, strict=True)), reverse=True)
    return Sketch([top for top, _ in blocks], [size for _, size in blocks])


def threshold(whole: Sketch, share: float) -> float:
    """The smallest known number that at most `share` of all numbers reach: never more, and fewer by at most N / POINTS
    and a block. Equal numbers are reached together. `inf` where no number is, `-inf` where all may be.

    >>> threshold(Sketch([5.0, 4.0, 3.0, 2.0], [1, 1, 1, 1]), 0.5)
    4.0
    """
    tops, reached = np.array(whole.tops), np.cumsum(whole.sizes)
    if share >= 1 or not len(tops):
        return float("-inf") if share >= 1 else float("inf")
    last_of_equal = np.r_[tops[1:] != tops[:-1], True]
    # Six decimals below a row: what the product of a share and a count loses in floating point.
    affordable = np.flatnonzero(last_of_equal & (reached <= share * reached[-1] + 1e-6))
    return float(tops[affordable[-1]]) if len(affordable) else float("inf")

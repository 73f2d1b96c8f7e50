"""The nearest vectors of many: all compared in blocks, or, in a large catalogue, only those of the nearest cells.

A cell is a cluster of k-means; a vector is compared with the cells nearest to it until enough candidates are at hand,
so both time and memory stay far from the square of the catalogue.
"""

import numpy as np
import numpy.typing as npt

from corella.features.text.cells import assign, fit_centres

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MOST_COMPARED = 20_000
"""Catalogues up to this size are compared whole."""
_PROBED = 8
"""Cells that are looked into for each vector."""
_BLOCK_CELLS = 8_000_000
"""Similarities in memory at a time."""


def nearest(
    asked: Floats, catalogue: Floats, count: int, same: bool = False, most: int = MOST_COMPARED
) -> tuple[Ints, Floats]:
    """Codes and cosines of the `count` vectors of the catalogue nearest to each asked one, the nearest first, int64
    and float32 [asked, count].

    Where there are no more, and for vectors of zeros (on either side), codes are 0 and cosines minus infinity. `same`:
    both are the same rows, and none is its own neighbour. Catalogues beyond `most` are compared in cells.

    >>> rows = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    >>> nearest(rows, rows, 1, same=True)[0].ravel().tolist()
    [1, 0, 1]
    """
    codes = np.zeros((len(asked), count), dtype=np.int64)
    cosines = np.full((len(asked), count), -np.inf, dtype=np.float32)
    everything = np.flatnonzero(np.abs(catalogue).sum(1) > 0)
    some = np.flatnonzero(np.abs(asked).sum(1) > 0)
    if not len(everything) or not len(some) or not count:
        return codes, cosines
    for rows, candidates in _parts(asked[some], catalogue[everything], most):
        _compare(some[rows], everything[candidates], asked, catalogue, same, codes, cosines)
    return codes, cosines


def _parts(asked: Floats, catalogue: Floats, most: int) -> list[tuple[Ints, Ints]]:
    """Which asked vectors are compared with which of the catalogue; every asked one is in one part."""
    if len(catalogue) <= most:
        return [(np.arange(len(asked)), np.arange(len(catalogue)))]
    cells = int(np.sqrt(len(catalogue)))
    centres = fit_centres(catalogue, cells)
    cell_of = assign(catalogue, centres)
    member, sizes = np.argsort(cell_of, kind="stable"), np.bincount(cell_of, minlength=len(centres))
    ends = np.cumsum(sizes)
    closest = np.argsort(-(centres @ centres.T), axis=1, kind="stable")[:, :_PROBED]
    mine = assign(asked, centres)
    parts = []
    for cell in np.unique(mine):
        around = [member[ends[c] - sizes[c] : ends[c]] for c in closest[cell]]
        parts.append((np.flatnonzero(mine == cell), np.concatenate(around)))
    return parts


def _compare(
    rows: Ints, candidates: Ints, asked: Floats, catalogue: Floats, same: bool, codes: Ints, cosines: Floats
) -> None:
    """Fill in the best candidates of some rows."""
    count = min(codes.shape[1], len(candidates))
    step = max(1, _BLOCK_CELLS // len(candidates))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        found = asked[block] @ catalogue[candidates].T
        if same:
            found[candidates[None, :] == block[:, None]] = -np.inf
        best = np.argpartition(-found, count - 1, axis=1)[:, :count]
        value = np.take_along_axis(found, best, axis=1)
        order = np.lexsort((candidates[best], -value), axis=1)
        best, value = np.take_along_axis(best, order, axis=1), np.take_along_axis(value, order, axis=1)
        codes[block, :count] = np.where(np.isfinite(value), candidates[best], 0)
        cosines[block, :count] = value

"""Whom to recommend to, what they liked in which split, and the best items of an array of scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import SPLIT, USER
from corella.data.dataset import Dataset
from corella.errors import UserError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reader:
    """Whom to recommend to: a user token (-1 for none) and liked items, oldest first."""

    user: int
    history: Ints


def training_likes(dataset: Dataset, learned: Sequence[str] = ("train",)) -> list[Ints]:
    """For every user code, the items liked in rows of the splits to learn from and in the history rows before one of
    the user's such rows: a history row of somebody who comes later belongs to the future."""
    sample = pl.col(SPLIT).is_in(list(learned))
    before = (pl.col(SPLIT) == "history") & sample.cum_sum(reverse=True).over(USER).gt(0)
    return _likes(dataset, dataset.log.select(sample | before).to_series().to_numpy())


def liked_items(dataset: Dataset, splits: Sequence[str]) -> list[Ints]:
    """For every user code, the items liked in rows of these splits, in order."""
    return _likes(dataset, dataset.log[SPLIT].is_in(list(splits)).to_numpy())


def likes_of(dataset: Dataset, user: int) -> Ints:
    """The items that a user liked in any split, in order."""
    start, end = dataset.events.start[user : user + 2]
    events = slice(int(start), int(end))
    found: Ints = dataset.events.item[events][dataset.events.label[events] == 1]
    return found


def _likes(dataset: Dataset, rows: npt.NDArray[np.bool_]) -> list[Ints]:
    return items_of(dataset, rows & (dataset.label == 1))


def items_of(dataset: Dataset, rows: npt.NDArray[np.bool_]) -> list[Ints]:
    """For every user code, the items of these rows of the log, in order."""
    events = dataset.events
    kept = rows[events.row]
    before = np.r_[0, np.cumsum(kept)]
    return np.split(events.item[kept], before[events.start[1:-1]])


def top_items(scores: Floats, exclude: Sequence[Ints], k: int, candidates: Ints | None = None) -> list[Ints]:
    """For each row of `scores` the codes of its best `k` items, best first (fewer where fewer may be recommended).

    `exclude`: items that must not come, one array a row; `candidates`: the only items that may.
    """
    if k < 1:
        raise UserError(f"k is {k}; ask for at least one item")
    scores = scores.copy()
    if candidates is not None:
        others = np.ones(scores.shape[1], dtype=bool)
        others[candidates] = False
        scores[:, others] = -np.inf
    result = []
    for row, seen in zip(scores, exclude, strict=True):
        row[seen] = -np.inf
        few = min(k, int(np.isfinite(row).sum()))
        best = np.argpartition(-row, few - 1)[:few] if few else np.zeros(0, np.int64)
        result.append(best[np.argsort(-row[best], kind="stable")])
    return result

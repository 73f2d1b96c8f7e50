"""What was not clicked: for every click items that were there at its time, for a log that holds nothing but clicks.

Half of them are drawn as often as they were clicked before (the item of an earlier row, any row alike), half evenly
among the items that were clicked at all before, so that a model must know more than popularity and no less. What the
user has clicked before is not drawn. They are samples only: nobody's history and no count ever holds them. [ours]
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import DRAWN, ITEM, LABEL, RATING, SPLIT, USER

Ints = npt.NDArray[np.int64]

_TRIES = 20
"""Times that an item is drawn anew that the user has clicked; then there is one negative less."""


def with_negatives(log: pl.DataFrame, each: int, seed: int) -> pl.DataFrame:
    """Add `each` negatives before every sample of an ordered, split log of clicks; adds the column DRAWN, true for
    them. What else a row tells is null in a negative, but for its user, its times and its split."""
    user, item = (log[name].rank("dense").to_numpy().astype(np.int64) - 1 for name in (USER, ITEM))
    samples = np.flatnonzero((log[SPLIT] != "history").to_numpy())
    row = np.repeat(samples, each)
    chosen = _drawn(user, item, row, seed)
    row, chosen = row[chosen >= 0], chosen[chosen >= 0]
    names = log[ITEM].gather(np.unique(item, return_index=True)[1].tolist())
    kept = [name for name in log.columns if name in (USER, SPLIT) or log.schema[name].is_numeric()]
    drawn = log.select(kept).drop(RATING, strict=False)[row.tolist()].with_columns(
        names.gather(chosen.tolist()).alias(ITEM), pl.lit(0, pl.Int8).alias(LABEL), pl.lit(True).alias(DRAWN)
    )  # fmt: skip
    both = pl.concat([log.with_columns(pl.lit(False).alias(DRAWN)), drawn], how="diagonal_relaxed")
    place = np.r_[2 * np.arange(log.height) + 1, 2 * row]
    ordered: pl.DataFrame = both[np.argsort(place, kind="stable").tolist()]
    return ordered.select(*log.columns, DRAWN)


def _drawn(user: Ints, item: Ints, row: Ints, seed: int) -> Ints:
    """For each of the rows an item that is not the user's by then; -1 where none was found."""
    rng = np.random.default_rng(seed)
    _, first = np.unique(item, return_index=True)
    by_age = np.argsort(first, kind="stable")
    there = np.searchsorted(np.sort(first), row)  # items that were clicked in earlier rows
    pairs, clicked = np.unique(user * (item.max(initial=0) + 1) + item, return_index=True)
    chosen, left = np.full(len(row), -1), np.flatnonzero(there > 0)
    for _ in range(_TRIES):
        popular = rng.random(len(left)) < 0.5
        some = np.where(
            popular, item[(rng.random(len(left)) * row[left]).astype(np.int64)],
            by_age[(rng.random(len(left)) * there[left]).astype(np.int64)],
        )  # fmt: skip
        key = user[row[left]] * (item.max(initial=0) + 1) + some
        place = np.minimum(np.searchsorted(pairs, key), len(pairs) - 1)
        own = (pairs[place] == key) & (clicked[place] <= row[left])
        chosen[left[~own]] = some[~own]
        left = left[own]
    return chosen

"""The order of a list: scores, and what a caller wants of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cap:
    """How many items of a list may share a value."""

    values: Sequence[Sequence[str]]
    """Of each item, in the order of the scores."""
    most: int


@dataclass(frozen=True)
class Wishes:
    """What a caller wants of the order."""

    pins: Sequence[str] = ()
    """Items that stand first."""
    odds: Doubles = field(default_factory=lambda: np.ones(0))
    """[items]: what the odds of each are multiplied by."""
    caps: Sequence[Cap] = ()


def arranged(items: Sequence[str], probability: Doubles, wishes: Wishes) -> list[int]:
    """Places of the items in the order wanted: pins, then the best; what is too much of one value comes last. All of
    them come; linear in their number but for the sorting.

    >>> both = Wishes(pins=["c"], odds=np.array([1.0, 4.0, 1.0, 1.0]))
    >>> arranged(["a", "b", "c", "d"], np.array([0.5, 0.4, 0.1, 0.2]), both)
    [2, 1, 0, 3]
    """
    place = {item: n for n, item in enumerate(items)}
    pinned = [place[item] for item in dict.fromkeys(wishes.pins) if item in place]
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    logit = np.log(inside) - np.log1p(-inside)
    if len(wishes.odds):
        logit = logit + np.log(wishes.odds)
    first = set(pinned)
    others = [n for n in np.argsort(-logit, kind="stable").tolist() if n not in first]
    return _capped([*pinned, *others], len(pinned), wishes.caps)


def _capped(order: list[int], pinned: int, caps: Sequence[Cap]) -> list[int]:
    if not caps:
        return order
    counts: list[dict[str, int]] = [{} for _ in caps]
    kept, later = [], []
    for place, n in enumerate(order):
        full = any(
            counted.get(value, 0) >= cap.most
            for cap, counted in zip(caps, counts, strict=True)
            for value in cap.values[n]
        )
        if full and place >= pinned:
            later.append(n)
            continue
        kept.append(n)
        for cap, counted in zip(caps, counts, strict=True):
            _count(counted, cap.values[n])
    return kept + later


def _count(counted: dict[str, int], values: Sequence[str]) -> None:
    for value in values:
        counted[value] = counted.get(value, 0) + 1

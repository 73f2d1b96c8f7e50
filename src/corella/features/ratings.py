"""Ratings as numbers from 0 to 1, by a scale that training rows set, so that they can be counted beside the answers."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import LABEL, RATING, SPLIT
from corella.config import DataConfig
from corella.config.data import CLICKS
from corella.errors import UserError
from corella.features.grids import VALUE, on_grid

Doubles = npt.NDArray[np.float64]

_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


@dataclass(frozen=True)
class LabelRule:
    """Which values of a column are positive answers, e.g. `rating >= 4`."""

    column: str
    compare: Callable[[Any, float], Any]
    """Of a number or a column expression and the bound."""
    bound: float

    @classmethod
    def parse(cls, text: str) -> "LabelRule":
        """The rule that `data.label` writes. Raises `UserError` for anything else."""
        match = re.fullmatch(r"(\w+)\s*(>=|<=|==|>|<)\s*(-?\d+(?:\.\d+)?)", text)
        if match is None:
            raise UserError(f"label rule '{text}' is not of the form `rating >= 4`")
        return cls(match[1], _COMPARE[match[2]], float(match[3]))


def answer_label(config: DataConfig, liked: bool | None, rating: float | None) -> int:
    """The label of one answer that says whether it was liked, or its rating, or both. Raises `UserError` where they
    contradict each other by the label rule of the training data, or where neither tells it."""
    by_rating = None
    if config.label not in (LABEL, CLICKS) and rating is not None:
        rule = LabelRule.parse(config.label)
        by_rating = bool(rule.compare(rating, rule.bound)) if rule.column == RATING else None
    if liked is None and config.label == CLICKS:
        return 1
    if liked is None:
        if by_rating is None:
            raise UserError(f"liked: say whether it was; by `data.label: {config.label}` nothing else tells it here")
        return int(by_rating)
    if by_rating not in (None, liked):
        said = "liked" if liked else "not liked"
        raise UserError(f"liked: {said}, but a rating of {rating:g} says the contrary by the rule '{config.label}'")
    return int(liked)


@dataclass(frozen=True)
class RatingScale:
    """From a rating to a number from 0 (the lowest of the training rows) to 1 (the highest)."""

    low: float
    high: float
    typical: tuple[float, float]
    """What a negative and a positive answer without a rating count as: what such training rows have on average."""

    def __call__(self, rating: float | None, label: int) -> float:
        """The number for an answer; what is beyond the scale counts as its end, and what is no number as missing.

        >>> RatingScale(1, 5, (0.25, 0.8))(4, 1), RatingScale(1, 5, (0.25, 0.8))(None, 0)
        (0.75, 0.25)
        """
        if rating is None or not math.isfinite(rating):
            return self.typical[label]
        return float(on_grid(np.float64(min(max((rating - self.low) / (self.high - self.low), 0.0), 1.0)), VALUE))


def rating_scale(log: pl.DataFrame, config: DataConfig) -> RatingScale | None:
    """The scale of a split log; None where ratings are not counted, or the training rows do not have two of them, and
    some for both answers."""
    if not config.counts.ratings or RATING not in log.columns:
        return None
    train = log.filter((pl.col(SPLIT) == "train") & pl.col(RATING).is_finite()).select(RATING, LABEL)
    values, label = train[RATING].to_numpy(), train[LABEL].to_numpy()
    if len(np.unique(label)) < 2 or values.min() == values.max():
        return None
    low, high = float(values.min()), float(values.max())
    scaled = on_grid((values - low) / (high - low), VALUE)
    return scale_of(low, high, [(float(scaled[label == of].sum()), int((label == of).sum())) for of in (0, 1)])


def scale_of(low: float, high: float, typical: Sequence[tuple[float, int]]) -> RatingScale:
    """The scale between two ratings. `typical`: of negative and of positive answers the sum of the scaled ratings, and
    how many there are."""
    none, all_ = (float(on_grid(np.float64(total / rows), VALUE)) for total, rows in typical)
    return RatingScale(low, high, (none, all_))


def answer_values(log: pl.DataFrame, scale: RatingScale | None) -> Doubles:
    """What is counted of every row's answer, float64 [rows, 1 or 2]: its label and, with a scale, its rating."""
    label = log[LABEL].to_numpy().astype(np.float64)
    if scale is None:
        return label[:, None]
    rating = log[RATING].to_numpy().astype(np.float64)
    scaled = on_grid(np.clip((rating - scale.low) / (scale.high - scale.low), 0.0, 1.0), VALUE)
    missing = ~np.isfinite(rating)
    scaled[missing] = np.array(scale.typical)[label[missing].astype(np.int64)]
    return np.stack([label, scaled], axis=1)

"""The language model's knowledge inside the conventional model: part of the gain at no cost when serving. [ours]

A fresh conventional model learns `(1 - w) label + w p_llm` where the language model has answered, the label alone
elsewhere; cross-entropy is linear in its target, so this is the usual sum of both losses (Hinton et al., 2015, arXiv
1503.02531). The language model's answers on training rows are the ones it gave before it learned from them, so they
are honest and cost nothing. On unlabelled pairs of users and items it is asked anew, and its answer is the target.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.calibration import Calibrator, fit_calibrator, probability
from corella.columns import ITEM, TIME, USER
from corella.data.dataset import Dataset
from corella.data.rows import in_order
from corella.data.samples import Samples
from corella.errors import UserError

Floats = npt.NDArray[np.float32]

TRUSTED_FROM = 0.25
"""Answers teach from this share of the steps in which rows were read for the first time: earlier ones are poor."""


@dataclass(frozen=True)
class Lesson:
    """Samples and the probabilities to learn for them, float32 [n]."""

    samples: Samples
    target: Floats


def lesson_of_training(
    train: Samples, first_logits: Floats, first_step: npt.NDArray[np.int64], weight: float
) -> tuple[Lesson, Calibrator]:
    """Training rows with mixed targets, and the calibrator of the teacher (fitted on the rows it answered)."""
    read = np.flatnonzero(first_step >= TRUSTED_FROM * max(int(first_step.max(initial=0)), 1))
    target = train.label.astype(np.float32)
    if len(read) == 0 or len(np.unique(train.label[read])) < 2:
        return Lesson(train, target), Calibrator()
    calibrator = fit_calibrator(first_logits[read], train.label[read], "temperature")
    target[read] = (1 - weight) * target[read] + weight * probability(calibrator(first_logits[read]))
    return Lesson(train, target), calibrator


def check_pairs(dataset: Dataset) -> None:
    """Raise `UserError` where the log is not in the order of time, or a pair's history could hold test rows."""
    if not dataset.in_time_order or not in_order(dataset.log):
        raise UserError("joint.distil_pairs needs a log in the order of time, or pairs' histories would hold test rows")


def draw_pairs(dataset: Dataset, count: int, seed: int) -> Samples:
    """Unlabelled samples: users at the times of their training rows, items drawn as often as training shows them, but
    none that the user answered in those rows. Fewer than `count` where chance draws an answered one.

    Raises `UserError` where the log is not in the order of time.
    """
    check_pairs(dataset)
    rng = np.random.default_rng([seed, 1])
    train = dataset.rows("train")
    at, item = rng.choice(train, count), dataset.item[rng.choice(train, count)]
    size = dataset.items.height
    pair = dataset.user * size + dataset.item
    new = ~np.isin(dataset.user[at] * size + item, pair[np.r_[train, dataset.rows("history")]])
    at, item = at[new], item[new]
    columns = {USER: dataset.log[USER][at], ITEM: dataset.items[ITEM][item], TIME: dataset.log[TIME][at]}
    return dataset.query(pl.DataFrame(columns))


def joined(one: Lesson, other: Lesson) -> Lesson:
    """Both lessons as one."""
    return Lesson(one.samples.followed_by(other.samples), np.concatenate([one.target, other.target]))

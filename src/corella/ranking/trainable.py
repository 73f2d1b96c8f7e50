"""What a ranking cannot be trained on."""

import numpy as np
import polars as pl

from corella.columns import ITEM, SPLIT, TIME, USER
from corella.config import Config
from corella.data.dataset import Dataset
from corella.data.samples import Samples, sample_users
from corella.errors import UserError
from corella.joint.distillation import check_pairs

_LEAST_VALID = 10


def validation_samples(dataset: Dataset, config: Config) -> Samples:
    """The validation rows that the language model reads: all of them, or those of users drawn at random."""
    valid = dataset.samples("valid")
    return valid.take(sample_users(valid, config.evaluation.max_valid, config.seed))


def check_trainable(dataset: Dataset, config: Config) -> None:
    """Raise `UserError`, before any training, for what could only fail or deceive after it."""
    if dataset.config.only_likes:
        raise UserError("data.only_likes leaves no negative answers: there is nothing to rank, only to retrieve")
    if dataset.config.split.by == "each-user":
        raise UserError(
            "data.split.by is each-user: a training row's history would hold validation and test answers; that "
            "split is for retrieval, use another one for ranking"
        )
    _check_order_of_users(dataset)
    valid = validation_samples(dataset, config)
    if len(valid) < _LEAST_VALID:
        raise UserError(f"{len(valid)} validation rows: too few to fit a router ({_LEAST_VALID} at least)")
    if len(np.unique(valid.label)) < 2:
        raise UserError(f"all {len(valid)} validation rows have one label; raise evaluation.max_valid")
    if config.routing.rung == 1 and (dataset.space is None or not config.crm.text):
        raise UserError("routing.rung is 1, texts read once an item, but data.text.encoder is none or crm.text is off")
    if config.joint.distil_pairs and config.joint.distil == 0:
        raise UserError("joint.distil_pairs needs joint.distil above 0")
    if config.joint.distil_pairs:
        check_pairs(dataset)


def _check_order_of_users(dataset: Dataset) -> None:
    """A training row behind a test row of its user would have that answer in its history: no column may split so."""
    judged = pl.col(SPLIT).is_in(["valid", "test"]).cast(pl.Int8).cum_max().over(USER) == 1
    if dataset.config.strict_time:  # of answers of one second none sees another
        judged = pl.col(TIME).filter(pl.col(SPLIT).is_in(["valid", "test"])).min().over(USER) < pl.col(TIME)
    late = dataset.log.filter(judged & (pl.col(SPLIT) == "train"))
    if late.height:
        raise UserError(
            f"{late.height} training rows stand behind a validation or test row of the same user (the first: user "
            f"{late[USER][0]!r}, item {late[ITEM][0]!r}), whose answer would be in their histories; split each user's "
            "rows in their order, or call those rows `history`"
        )

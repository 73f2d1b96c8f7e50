"""Quality of probabilities: AUC, per-user AUC, log loss, accuracy, calibration error, NDCG within each user's items.

All functions take arrays of one length: labels (0 or 1), scores (any order-preserving number, probabilities where
said).
"""

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from corella.evaluation.results import Quality
from corella.intervals import auc_interval

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


def quality(label: Ints, logit: Floats, user: Ints) -> Quality:
    """Every metric of a system whose probabilities are `expit(logit)`."""
    probability = expit(logit.astype(np.float64))
    low, high = auc_interval(label, logit)
    return Quality(
        auc=float(roc_auc_score(label, logit)),
        auc_low=low,
        auc_high=high,
        user_auc=_finite(user_auc(label, logit, user)),
        logloss=float(log_loss(label, probability, labels=[0, 1])),
        accuracy=float(np.mean((probability >= 0.5) == (label == 1))),
        ece=calibration_error(label, probability),
        ndcg10=_finite(ndcg(label, logit, user, 10)),
    )


def user_auc(label: Ints, score: Floats, user: Ints) -> float:
    """Mean over users of the AUC within the user; users with one kind of answer are left out, nan where all are.

    >>> user_auc(np.array([1, 0, 1, 0, 0]), np.array([.9, .1, .2, .8, .1]), np.array([1, 1, 2, 2, 2]))
    0.75
    """
    each = user_aucs(label, score, user)
    return float(each.mean()) if len(each) else float("nan")


def user_aucs(label: Ints, score: Floats, user: Ints) -> npt.NDArray[np.float64]:
    """The AUC within each user who has both answers, float64 [such users], in the order in which they come.

    >>> user_aucs(np.array([1, 0, 1, 0, 0]), np.array([.9, .1, .2, .8, .1]), np.array([1, 1, 2, 2, 2]))
    array([1. , 0.5])
    """
    table = pl.DataFrame({"user": user, "positive": label == 1, "score": np.asarray(score, np.float64)})
    ranks = (
        table.with_columns(rank=pl.col("score").rank("average").over("user"))
        .group_by("user", maintain_order=True)
        .agg(positives=pl.col("positive").sum(), rows=pl.len(), ranks=pl.col("rank").filter("positive").sum())
    )
    m, n = pl.col("positives").cast(pl.Float64), (pl.col("rows") - pl.col("positives")).cast(pl.Float64)
    each = ranks.filter((m > 0) & (n > 0)).select((pl.col("ranks") - m * (m + 1) / 2) / (m * n)).to_series()
    return each.to_numpy()


def calibration_error(label: Ints, probability: Floats, bins: int = 10) -> float:
    """Mean distance between predicted and observed share of positives, over bins of equally many samples.

    >>> calibration_error(np.array([0, 1] * 50), np.full(100, .5))
    0.0
    """
    order = np.argsort(probability, kind="stable")
    parts = [p for p in np.array_split(order, bins) if len(p)]
    gaps = [abs(float(np.mean(probability[p])) - float(np.mean(label[p]))) * len(p) for p in parts]
    return sum(gaps) / len(label)


def ndcg(label: Ints, score: Floats, user: Ints, k: int) -> float:
    """NDCG@k of each user's samples ranked by score, binary gains; samples of one score share their places. Users
    without a positive or with one sample are left out.

    >>> round(ndcg(np.array([0, 1]), np.array([.9, .1]), np.array([1, 1]), 10), 4)
    0.6309
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    values = []
    for index in _by_user(user):
        gains = label[index]
        if len(index) < 2 or gains.sum() == 0:
            continue
        place = np.unique(-score[index], return_inverse=True)[1]
        share = np.bincount(place, gains) / np.bincount(place)  # what a random order of equal scores has on average
        ranked = share[np.sort(place)][:k]
        ideal = np.sort(gains)[::-1][:k]
        values.append(float(ranked @ discount[: len(ranked)]) / float(ideal @ discount[: len(ideal)]))
    return float(np.mean(values)) if values else float("nan")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _by_user(user: Ints) -> list[npt.NDArray[np.int64]]:
    order = np.argsort(user, kind="stable")
    return list(np.split(order, np.flatnonzero(np.diff(user[order])) + 1))

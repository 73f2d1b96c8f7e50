"""Quality of retrieved lists, one number a user, by the definitions of CLLM4Rec (and of Multi-VAE before it).

A list holds each user's items, best first; relevant are the held-out items, at least one a user (`ValueError`). Means
over users and their intervals are taken elsewhere, so that systems can be compared user by user.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def recall_at(k: int, lists: Sequence[Ints], relevant: Sequence[Ints]) -> Floats:
    """Hits among the first k over `min(k, number of relevant items)`, float64 [users].

    >>> recall_at(2, [np.array([3, 1, 2])], [np.array([1, 2, 4])])
    array([0.5])
    """
    _some(relevant)
    hits = [np.isin(found[:k], wanted).sum() for found, wanted in zip(lists, relevant, strict=True)]
    return np.array([h / min(k, len(w)) for h, w in zip(hits, relevant, strict=True)])


def ndcg_at(k: int, lists: Sequence[Ints], relevant: Sequence[Ints]) -> Floats:
    """Discounted hits among the first k, `1 / log2(place + 1)` each, over those of a perfect list, float64 [users].

    >>> ndcg_at(2, [np.array([3, 1])], [np.array([1])]).round(4)
    array([0.6309])
    """
    _some(relevant)
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(discount)
    gains = [
        (discount[: len(found[:k])] * np.isin(found[:k], wanted)).sum()
        for found, wanted in zip(lists, relevant, strict=True)
    ]
    return np.array([g / best[min(k, len(w)) - 1] for g, w in zip(gains, relevant, strict=True)])


def ndcg_of_places(k: int, place: Ints, user: Ints, relevant: Sequence[int]) -> Floats:
    """The same from the places of the relevant items (the best is 1), whose users are `user`; `relevant`: how many each
    user has.

    >>> ndcg_of_places(2, np.array([2, 9]), np.array([0, 1]), [1, 1]).round(4)
    array([0.6309, 0.    ])
    """
    gain = np.where(place <= k, 1 / np.log2(place + 1.0), 0.0)
    best = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    found: Floats = np.bincount(user, gain, minlength=len(relevant)) / best[np.minimum(relevant, k) - 1]
    return found


def _some(relevant: Sequence[Ints]) -> None:
    if any(len(wanted) == 0 for wanted in relevant):
        raise ValueError("a user without relevant items has no recall; leave such users out")

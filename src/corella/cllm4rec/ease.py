"""The closed-form item-item model beside the items' head: cheap, and right where the head is not. [ours]

EASE (Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019): the weights that predict each item of a
user from the others, with a zero diagonal and a ridge penalty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ease:
    """Item-item weights, and how much they say beside the head's logits."""

    weights: Floats
    """[items, n]: what an item of the history says for each of n items; of the items themselves 0 on the diagonal."""
    weight: float

    def logits(self, histories: Sequence[Ints]) -> Floats:
        """To be added to the head's, float32 [histories, items]."""
        told: Floats = _told(histories, len(self.weights)) @ self.weights
        return np.float32(self.weight) * told


def fit_ease(liked: Sequence[Ints], items: int, penalty: float) -> Floats:
    """The weights (Steck, equation 8), float32 [items, items]; time grows with the cube of the items. `liked`: each
    user's items."""
    told = _told(liked, items)
    inverse = np.linalg.inv((told.T @ told).toarray().astype(np.float64) + penalty * np.eye(items))
    weights: Floats = (inverse / -np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights


def _told(histories: Sequence[Ints], items: int) -> csr_matrix:
    """[histories, items]: 1 where an item is in a history, however often."""
    column = np.concatenate([np.zeros(0, np.int64), *histories])
    row = np.repeat(np.arange(len(histories)), [len(codes) for codes in histories])
    told = csr_matrix((np.ones(len(column), np.float32), (row, column)), shape=(len(histories), items))
    told.sum_duplicates()
    told.data[:] = 1
    return told

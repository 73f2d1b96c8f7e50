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
    """[items, items]: what an item of the history says for each item; 0 on the diagonal."""
    weight: float

    def logits(self, histories: Sequence[Ints]) -> Floats:
        """To be added to the head's, [histories, items]."""
        rows = [self.weights[items].sum(0) for items in histories]
        return np.float32(self.weight) * np.stack(rows)


def fit_ease(liked: Sequence[Ints], items: int, penalty: float) -> Floats:
    """The weights (Steck, equation 8), float32 [items, items]; time grows with the cube of the items. `liked`: each
    user's items."""
    column = np.concatenate(liked)
    row = np.repeat(np.arange(len(liked)), [len(codes) for codes in liked])
    told = csr_matrix((np.ones(len(column)), (row, column)), shape=(len(liked), items))
    inverse = np.linalg.inv((told.T @ told).toarray() + penalty * np.eye(items))
    weights: Floats = (inverse / -np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights

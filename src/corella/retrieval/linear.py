"""A linear model of items on items in closed form, regularised towards what their texts say. [ours, after two papers]

With X users x items, W the recency-weighted histories before every next item and Y that item, the weights B minimise

    |X - X B|^2 + a |Y - W B|^2 + l |B|^2 + g |B - S|^2,   zero diagonal (where a = g = 0: EASE, Steck, WWW 2019).

S are the weights that EASE finds in the texts alone (L3AE, arXiv 2508.13500, written from the mathematics). With
P = (X'X + a W'W + (l + g) I)^-1, the solution is B = B0 - P diag(diag(B0) / diag(P)), where

    B0 = P (X'X + a W'Y + g S) = I - (l + g) P + a P (W'Y - W'W) + g P S,

so one inversion is all that grows with the cube of the items. A user's scores are w B, w falling with an item's age: a
sum over the history, whose parts say why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix, diags

from corella.errors import UserError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

TEXT_PENALTY = 1.0
"""Ridge penalty of the text part; vectors have length 1."""
_WINDOW, _STEP = 20, 0.7
"""Items of a history that speak for the next one, and how much less each older one says."""


@dataclass(frozen=True)
class Strengths:
    """What the parts weigh; all are chosen on validation rows, and 0 is a choice."""

    penalty: float
    """l: ridge penalty, above 0."""
    text: float = 0.0
    """g: pull towards the weights of the texts."""
    following: float = 0.0
    """a: weight of what comes next beside what comes together."""
    recency: float = 1.0
    """What an item says beside the one that followed it: 1 is as much."""


@dataclass(frozen=True)
class TogetherCounts:
    """Sums over the users, sparse [items, items] each."""

    together: csr_matrix
    """X'X."""
    before: csr_matrix
    """W'W."""
    follows: csr_matrix
    """W'Y."""

    @property
    def items(self) -> int:
        """How many items the catalogue has."""
        return int(self.together.shape[0])


def count_together(histories: Sequence[Ints], items: int) -> TogetherCounts:
    """Count histories, each a user's items, oldest first."""
    rows = history_rows(histories, items)
    rows.data[:] = 1
    before, following = _prefixes(histories, items)
    return TogetherCounts((rows.T @ rows).tocsr(), (before.T @ before).tocsr(), (before.T @ following).tocsr())


def history_rows(histories: Sequence[Ints], items: int, recency: float = 1.0) -> csr_matrix:
    """Sparse [histories, items]: `recency` to the power of the age of an item, the newest 0.

    >>> history_rows([np.array([2, 0])], 3, recency=0.5).toarray()
    array([[1. , 0. , 0.5]], dtype=float32)
    """
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    column = np.concatenate([np.zeros(0, np.int64), *histories])
    age = np.concatenate([np.zeros(0), *(np.arange(n - 1, -1, -1) for n in lengths)])
    row = np.repeat(np.arange(len(lengths)), lengths)
    weight = (recency**age).astype(np.float32)
    order = np.lexsort((age, column, row))  # an item that comes twice says what its newest place says
    first = np.r_[True, (np.diff(row[order]) != 0) | (np.diff(column[order]) != 0)][: len(order)]
    kept = order[first]
    return csr_matrix((weight[kept], (row[kept], column[kept])), shape=(len(lengths), items))


def _prefixes(histories: Sequence[Ints], items: int) -> tuple[csr_matrix, csr_matrix]:
    """W and Y: a row for every item that follows others."""
    flat = np.concatenate([np.zeros(0, np.int64), *histories])
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    target = np.flatnonzero(place > 0)
    rows, columns, weights = [], [], []
    for back in range(1, _WINDOW + 1):
        inside = target[place[target] >= back]
        rows.append(np.searchsorted(target, inside))
        columns.append(flat[inside - back])
        weights.append(np.full(len(inside), _STEP ** (back - 1), np.float32))
    shape = (len(target), items)
    before = csr_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    return before, csr_matrix((np.ones(len(target), np.float32), (np.arange(len(target)), flat[target])), shape=shape)


@dataclass(frozen=True)
class Centre:
    """What the texts of a catalogue have in common."""

    mean: Floats
    """[width]"""

    def unit(self, vectors: Floats) -> Floats:
        """Vectors of texts without it, each of length 1; float32 [n, width]."""
        return _unit(vectors - self.mean)


@dataclass(frozen=True)
class TextPart:
    """The weights that EASE finds in texts, in the form of a product: S = F C F' / (1 - q), zero diagonal."""

    vectors: Floats
    """F [items, width]: the items' texts, centred, each of length 1."""
    mapped: Floats
    """F C [items, width], where C = (F'F + penalty)^-1."""
    own: Floats
    """q [items]: what an item's own text would say of it, the diagonal of F C F'."""
    centre: Centre
    """What was subtracted."""

    def weights(self, row: slice | Ints, column: slice | Ints) -> Floats:
        """Part of S without regard to its diagonal, float32 [rows, columns]."""
        said: Floats = self.mapped[row] @ self.vectors[column].T / (1 - self.own[column])
        return said


def text_part(vectors: Floats, penalty: float = TEXT_PENALTY) -> TextPart:
    """Fit on a catalogue's vectors, float32 [items, width]."""
    centre = Centre(vectors.mean(axis=0))
    unit = centre.unit(vectors)
    inverse = np.linalg.inv(unit.T @ unit + penalty * np.eye(unit.shape[1], dtype=np.float32))
    mapped = (unit @ inverse).astype(np.float32)
    return TextPart(unit, mapped, (mapped * unit).sum(axis=1), centre)


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-9)
    return found


@dataclass(frozen=True)
class Linear:
    """Item-item weights."""

    weights: Floats | csr_matrix
    """[items, items]: what an item of a history (row) says for each item."""
    strengths: Strengths
    to_new: Floats
    """[items, width]: what an item says for an item of which only the text is known: this times its vector."""
    from_new: Floats
    """[width, items]: what such an item says for each item, once somebody likes it."""

    @property
    def items(self) -> int:
        """How many items the catalogue has."""
        return int(self.weights.shape[0])

    def scores(self, histories: Sequence[Ints], recency: float | None = None) -> Floats:
        """float32 [histories, items]. `recency`: in place of the chosen one."""
        age = self.strengths.recency if recency is None else recency
        found = history_rows(histories, self.items, age) @ self.weights
        return np.asarray(found.toarray() if isinstance(found, csr_matrix) else found, dtype=np.float32)

    def new_scores(self, histories: Sequence[Ints], vectors: Floats) -> Floats:
        """Scores of items of which only the text is known, comparable with `scores`; float32 [histories, n].
        `vectors` [n, width]: see `Centre.unit`."""
        said: Floats = history_rows(histories, len(self.to_new), self.strengths.recency) @ (self.to_new @ vectors.T)
        return said

    def reasons(self, history: Ints, item: int) -> Floats:
        """What each item of a history adds to the score of `item`, float32 [items of the history]; they sum to it."""
        age = np.arange(len(history) - 1, -1, -1)
        column = self.weights[history, item]
        said = np.asarray(column.toarray() if isinstance(column, csr_matrix) else column).ravel()
        return np.asarray(said * self.strengths.recency**age, dtype=np.float32)


def fit_linear(counts: TogetherCounts, text: TextPart | None, strengths: Strengths) -> Linear:
    """The weights of all pairs: memory grows with the square of the items, time with the cube.

    Raises `UserError` where the penalty is not above 0.
    """
    l, g, a = strengths.penalty, strengths.text if text is not None else 0.0, strengths.following  # noqa: E741
    if l <= 0:
        raise UserError(f"retrieval.penalty is {l:g}; it must be above 0")
    known = counts.together + a * counts.before + diags(np.full(counts.items, l + g))
    inverse = _inverse(known.toarray().astype(np.float32))
    weights = -(l + g) * inverse
    if a > 0:
        # The inverse is symmetric, so the sparse matrix may stand at the left.
        weights += ((a * (counts.follows - counts.before)).T.tocsr().astype(np.float32) @ inverse).T
    to_new, width = np.zeros((counts.items, 0), np.float32), 0
    if text is not None and g > 0:
        to_new, width = g * (inverse @ text.mapped), text.mapped.shape[1]
        weights += to_new @ (text.vectors / (1 - text.own)[:, None]).T
        weights -= inverse * (g * text.own / (1 - text.own))  # S has a zero diagonal
    # The identity in B0 touches the diagonal alone, which the constraint then takes away.
    weights -= inverse * ((weights.diagonal() + 1) / inverse.diagonal())
    np.fill_diagonal(weights, 0.0)
    from_new = text.mapped.T @ weights if text is not None and width else np.zeros((width, counts.items), np.float32)
    return Linear(weights, replace(strengths, text=g), to_new, from_new)


def _inverse(matrix: Floats) -> Floats:
    """The inverse of a symmetric positive definite matrix."""
    factor = torch.linalg.cholesky(torch.from_numpy(matrix))
    inverse: Floats = torch.cholesky_inverse(factor).numpy()
    # Its rows are its columns; sparse products copy whatever does not lie row by row.
    return inverse if inverse.flags.c_contiguous else inverse.T

"""Item-based nearest neighbours as count features: what a user's earlier answers say of an item, by how the same
users answered both items.

The residual e of an answer is what neither the item's mean nor the user's bias explained at the time. For a pair of
items, n is how often a user who answered one had the other among the last `last` answers before it, and c the sum of
the products of both residuals. For a row with item i, over the user's last answers j before it,

    agreement = sum_j e_j c_ij / (n_ij + k)          (a covariance, shrunk where it is known from few answers)
    mean      = sum_j e_j n_ij / (k + sum_j n_ij)

n and c are learned from training rows, and the histories of their users, strictly before the row. Behind the last of
them they stay as they are, like the weights of a model, also in a server; the user's answers are those up to date.
(Sarwar et al., Item-based collaborative filtering recommendation algorithms, WWW 2001; shrinking as in Bell and Koren,
ICDM 2007.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.ahead import ahead
from corella.features.grids import TERM, on_grid

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.signedinteger[Any]]
"""Of 32 bits where that is enough: half the memory."""

NAMES = ("neighbours_agreement", "neighbours_mean")
_MOST_SORTED, _MOST_HELD = 4_000_000, 64_000_000
"""Pairs of answers in memory, at 12 to 16 bytes each."""
_BLOCK = 100_000


@dataclass(frozen=True)
class Answers:
    """The ordered log, one entry a row."""

    user: Ints
    item: Ints
    """-1: unknown, which has no neighbours."""
    residual: Doubles
    """On the grid `RESIDUAL`."""
    taught: Doubles
    """The residual where the user's bias knows of learned answers only: what c learns from, so that no answer of the
    test rows comes to other users through it. 0 where the answer is not learned."""
    known: Ints
    """1 where the answer is part of the user's history later."""
    learned: Ints
    """1 where n and c learn from the answer."""


def neighbour_features(answers: Answers, last: int, smoothing: float) -> list[Doubles]:
    """The features `NAMES` of every row, float64 [rows] each; `last`: how many of the user's answers speak."""
    rows = len(answers.user)
    agreement, total, together = np.zeros(rows), np.zeros(rows), np.zeros(rows)
    # Small numbers are gathered several times as fast; on their grid, these are exact as float32.
    residual, taught = (array.astype(np.float32) for array in (answers.residual, answers.taught))
    learned = answers.learned.astype(bool)

    def sums(pairs: tuple[Ints, Ints, Ints]) -> list[Doubles]:
        row, earlier, key = pairs
        product = taught[row].astype(np.float64) * taught[earlier]
        both = (learned[row] & learned[earlier]).astype(np.float64)
        found = pair_terms(row, key, residual[earlier].astype(np.float64), product, both, smoothing)
        return [np.asarray(np.bincount(row, weights=terms, minlength=rows), np.float64) for terms in found]

    for more in ahead(sums, _pairs(answers, last), most=1):  # while the next pairs are sorted
        agreement, total, together = agreement + more[0], total + more[1], together + more[2]
    return [agreement, total / (together + smoothing)]


def pair_terms(
    row: Ints, key: Ints, said: Doubles, product: Doubles, learned: Doubles, smoothing: float
) -> tuple[Doubles, Doubles, Doubles]:
    """What pairs of a row and an earlier answer of its user add to the row's sums e c / (n + k), e n and n. All arrays
    [pairs], by ascending key and row, and all pairs of each key; `said`: e of the earlier answer."""
    new = _changes(key)
    # A row's own answer is not before it, even where the user answered this neighbour twice.
    begin, here = _latest(new), _latest(new | _changes(row))
    count, taught = _total(learned, begin, here), _total(product, begin, here)
    return on_grid(said * taught / (count + smoothing), TERM), said * count, count


@dataclass(frozen=True)
class PairTable:
    """n and c of all pairs of items that have any, by ascending key; 20 to 24 bytes a pair."""

    size: int
    """Items from this number on have no neighbours."""
    key: Ints
    count: Doubles
    product: Doubles

    def features(self, items: Sequence[int | None], said: Doubles, smoothing: float) -> Doubles:
        """The features `NAMES` of items, float64 [items, 2]; `said` [answers, 2]: items and residuals of the last
        ones of a user."""
        if not len(said):
            return np.zeros((len(items), 2))
        asked = np.array([-1 if item is None else item for item in items], dtype=np.int64)
        order = np.argsort(asked)  # looking up neighbouring places is several times as fast
        other, residual = said[:, :1].astype(np.int64), said[:, 1]
        count, product = self._find(other, asked[order])
        columns = np.empty((len(items), 2))
        columns[order, 0] = on_grid(residual[:, None] * product / (count + smoothing), TERM).sum(axis=0)
        columns[order, 1] = residual @ count / (count.sum(axis=0) + smoothing)
        return columns

    def rows(self, answers: Answers, rows: Ints, last: int, smoothing: float) -> Doubles:
        """The same of rows of a log, all of them behind the last learned one; float64 [rows, 2]."""
        answered, begin, end = _histories(answers, last)
        columns = np.zeros((len(rows), 2))
        for first in range(0, len(rows), _BLOCK):
            some = rows[first : first + _BLOCK]
            place, earlier = _earlier(answered, begin[some], end[some])
            count, product = self._find(answers.item[some[place]], answers.item[earlier])
            said = answers.residual[earlier]
            agreement, total, together = (
                np.bincount(place, weights=part, minlength=len(some))
                for part in (on_grid(said * product / (count + smoothing), TERM), said * count, count)
            )
            columns[first : first + _BLOCK] = np.stack([agreement, total / (together + smoothing)], axis=1)
        return columns

    def _find(self, one: Ints, other: Ints) -> tuple[Doubles, Doubles]:
        """n and c of pairs of items; 0 where there is nothing."""
        key = _key(one, other, self.size)
        if not len(self.key):
            return np.zeros(key.shape), np.zeros(key.shape)
        place = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        found = self.key[place] == key
        return self.count[place] * found, self.product[place] * found


def pair_table(answers: Answers, last: int) -> PairTable:
    """What all learned answers say of pairs of items."""
    tables = []
    for row, earlier, key in _pairs(answers, last):
        learned = np.flatnonzero(answers.learned[row] * answers.learned[earlier])
        unique, place = np.unique(key[learned], return_inverse=True)
        product = answers.taught[row[learned]] * answers.taught[earlier[learned]]
        tables.append((unique, np.bincount(place).astype(np.float64), np.bincount(place, weights=product)))
    key, count, product = (np.concatenate(columns) for columns in zip(*tables, strict=True))
    order = np.argsort(key)
    return PairTable(int(answers.item.max(initial=-1)) + 1, key[order], count[order], product[order])


def _pairs(answers: Answers, last: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Every row with each of the user's last answers before it: rows, those answers' rows, and keys of the two items,
    by ascending key and row. In parts that hold every pair of their keys."""
    _, begin, end = _histories(answers, last)
    size, total = int(answers.item.max(initial=-1)) + 1, int((end - begin).sum())
    passes = max(1, -(-total // _MOST_HELD))  # what does not fit into memory is made again
    parts = max(1, -(-total // (passes * _MOST_SORTED)))
    for turn in range(passes):
        found: list[list[tuple[Ints, Ints, Ints]]] = [[] for _ in range(parts)]
        for row, earlier, key in each_pair(answers, last, size):
            part = np.where((key >= 0) & (key % passes == turn), key // passes % parts, parts)
            order = np.argsort(part.astype(np.uint16), kind="stable")
            ends = np.cumsum(np.bincount(part, minlength=parts))[:parts]
            for mine, chosen in zip(found, np.split(order, ends)[:parts], strict=True):
                mine.append((row[chosen], earlier[chosen], key[chosen]))
        for mine in found:
            row, earlier, key = (np.concatenate(columns) for columns in zip(*mine, strict=True))
            mine.clear()
            key, order = sorted_keys(key, size * size)
            yield row[order], earlier[order], key


def pair_keys(answers: Answers, rows: Ints, last: int, size: int) -> Ints:
    """The keys of `rows` with their users' last answers before them, each once, ascending."""
    answered, begin, end = _histories(answers, last)
    place, earlier = _earlier(answered, begin[rows], end[rows])
    found = np.unique(_key(answers.item[rows[place]], answers.item[earlier], size))
    return found[found >= 0]


def sorted_keys(key: Ints, most: int) -> tuple[Ints, Ints]:
    """Keys, from 0 to before `most`, in ascending order, and their places before, those of equal ones ascending."""
    bits = max(len(key) - 1, 1).bit_length()
    if most.bit_length() + bits > 64:
        order = np.argsort(key, kind="stable")
        return key[order], order
    # A key and its place in one number: these are sorted without a second array.
    packed = key.astype(np.uint64) << np.uint64(bits) | np.arange(len(key), dtype=np.uint64)
    packed.sort()
    return (packed >> np.uint64(bits)).astype(key.dtype), (packed & np.uint64((1 << bits) - 1)).astype(np.int64)


def each_pair(answers: Answers, last: int, size: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Every row with each of the user's last answers before it: rows, those answers' rows, and keys of the two of
    `size` items, -1 for none; a block of rows at a time, by ascending row."""
    answered, begin, end = _histories(answers, last)
    for first in range(0, max(len(end), 1), _BLOCK):
        block = slice(first, first + _BLOCK)
        row, earlier = _earlier(answered, begin[block], end[block])
        row += np.int32(first)
        yield row, earlier, _key(answers.item[row], answers.item[earlier], size)


def _earlier(answered: Ints, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Pairs of the place of a row and the row of one of its user's last answers, by ascending place."""
    number = end - begin
    place = np.repeat(np.arange(len(number), dtype=np.int32), number)
    before = np.cumsum(number) - number
    return place, answered[np.arange(len(place)) + np.repeat(begin - before, number)]


def _histories(answers: Answers, last: int) -> tuple[Ints, Ints, Ints]:
    """Rows of known answers, user by user, and for every row where its user's last ones before it begin and end among
    those."""
    order = np.argsort(answers.user, kind="stable")
    user, known = answers.user[order], answers.known[order]
    before = np.cumsum(known) - known
    first = before[group_start(user)]
    begin, end = np.empty(len(order), dtype=np.int64), np.empty(len(order), dtype=np.int64)
    begin[order], end[order] = np.maximum(before - last, first), before
    return order[known == 1].astype(np.int32), begin, end


def group_start(ordered: Ints) -> Ints:
    """For every entry of an ordered array, the place of the first one like it."""
    return _latest(_changes(ordered))


def _changes(values: Ints) -> npt.NDArray[np.bool_]:
    """Where an entry is not the one before it."""
    found: npt.NDArray[np.bool_] = np.r_[True, values[1:] != values[:-1]][: len(values)]
    return found


def _latest(marked: npt.NDArray[np.bool_]) -> Ints:
    """For every entry the place of the latest marked one, itself included."""
    return np.maximum.accumulate(np.where(marked, np.arange(len(marked), dtype=np.int32), np.int32(0)))


def _total(values: Doubles, begin: Ints, end: Ints) -> Doubles:
    """For every entry the sum of the values from one place to before another."""
    before = np.cumsum(values) - values
    return np.asarray(before[end] - before[begin])


def _key(one: Ints, other: Ints, size: int) -> Ints:
    """The number of a pair of items, whichever comes first; -1 where they are the same or one is unknown."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    key = low * size + high
    key[(low < 0) | (low == high) | (high >= size)] = -1
    return key if size * size >= 2**31 else key.astype(np.int32)

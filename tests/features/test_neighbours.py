"""Neighbours of items: a case by hand, and the same numbers in parts, pair by pair and from the table."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corella.features import neighbours
from corella.features.neighbours import Answers, neighbour_features, pair_table

A, B, C = 0, 1, 2


def _answers(rows: list[tuple[int, int, float, int, int]]) -> Answers:
    user, item, residual, known, learned = np.array(rows, dtype=np.float64).T
    whole = [column.astype(np.int64) for column in (user, item, known, learned)]
    return Answers(whole[0], whole[1], residual, residual * learned, whole[2], whole[3])


def test_by_hand() -> None:
    answers = _answers(
        [
            (0, A, 0.5, 1, 1), (0, B, 0.25, 1, 1),
            (1, A, -0.5, 1, 1), (1, B, 1.0, 1, 1),
            (2, B, 0.5, 1, 0), (2, A, 0.0, 0, 0),  # a test user, and a query
            (3, A, 0.25, 1, 1), (3, B, 0.25, 1, 1), (3, C, 0.0, 1, 1),
        ]
    )  # fmt: skip
    agreement, mean = neighbour_features(answers, last=2, smoothing=1)
    # Before row 3 both were answered by user 0: n = 1, c = 1/8. Behind it n = 2, c = 1/8 - 1/2.
    np.testing.assert_allclose(agreement[[0, 1, 2, 3]], [0, 0, 0, -0.5 * (1 / 8) / 2])
    np.testing.assert_allclose(mean[[0, 1, 2, 3]], [0, 0, 0, -0.5 / 2])
    np.testing.assert_allclose(agreement[[4, 5, 6, 7, 8]], [0, 0.5 * (-3 / 8) / 3, 0, 0.25 * (-3 / 8) / 3, 0])
    np.testing.assert_allclose(mean[[4, 5, 6, 7, 8]], [0, 0.5 * 2 / 3, 0, 0.25 * 2 / 3, 0])
    table = pair_table(answers, last=2)
    assert (table.key.tolist(), table.count.tolist()) == ([1, 2, 5], [3, 1, 1])  # a and b, a and c, b and c
    np.testing.assert_allclose(table.product, [1 / 8 - 1 / 2 + 1 / 16, 0, 0])
    found = table.features([A, None, 7], np.array([(B, 0.5), (9, 1.0)]), smoothing=1)
    np.testing.assert_allclose(found, [[0.5 * (-5 / 16) / 4, 0.5 * 3 / 4], [0, 0], [0, 0]])


def _slow(answers: Answers, last: int, smoothing: float) -> npt.NDArray[np.float64]:
    """Row by row, pair by pair."""
    pairs: dict[frozenset[int], list[float]] = {}
    said: dict[int, list[int]] = {}
    found = []
    columns = (answers.user, answers.item, answers.residual, answers.known, answers.learned)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    for user, item, residual, known, learned in rows:
        mine = said.setdefault(user, [])[-last:]
        others = [j for j in mine if item >= 0 and rows[j][1] not in (-1, item)]
        stats = [(rows[j][2], *pairs.get(frozenset((item, rows[j][1])), [0, 0])) for j in others]
        agreement = sum(e * c / (n + smoothing) for e, n, c in stats)
        mean = sum(e * n for e, n, _ in stats) / (smoothing + sum(n for _, n, _ in stats))
        found.append((agreement, mean))
        for j in others:
            pair = pairs.setdefault(frozenset((item, rows[j][1])), [0, 0])
            pair[0] += learned * rows[j][4]
            pair[1] += learned * rows[j][4] * residual * rows[j][2]
        if known:
            said[user].append(len(found) - 1)
    return np.array(found).reshape(-1, 2)


ROW = st.tuples(st.integers(0, 3), st.integers(-1, 4), st.integers(-8, 8), st.integers(0, 2))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROW, max_size=40), last=st.integers(1, 6), most=st.integers(1, 200), block=st.integers(1, 50))
def test_the_same_pair_by_pair_and_in_parts(rows: list[tuple[int, ...]], last: int, most: int, block: int) -> None:
    """Rows are queries (0), answers (1), and answers that are learned from (2); a user may answer an item twice."""
    given_rows = [(u, i, e / 8, int(v >= 1 and i >= 0), int(v == 2 and i >= 0)) for u, i, e, v in rows]
    answers = _answers(given_rows) if rows else _answers([(0, 0, 0, 0, 0)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_MOST_SORTED", most)
        patch.setattr(neighbours, "_MOST_HELD", 3 * most)
        patch.setattr(neighbours, "_BLOCK", block)
        found = np.stack(neighbour_features(answers, last, 2.0), axis=1)
        table = pair_table(answers, last)
    np.testing.assert_allclose(found, _slow(answers, last, 2.0), atol=1e-12)
    late = np.arange(int(np.flatnonzero(np.r_[1, answers.learned])[-1]), len(answers.user))  # behind the learned rows
    np.testing.assert_allclose(table.rows(answers, late, last, 2.0), found[late], atol=1e-12)
    assert np.all(np.diff(table.key) > 0) and np.all(table.count > 0)

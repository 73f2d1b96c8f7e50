"""One threshold over all partitions: never more than the share, and less by a known bound at most."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corella.scale.sketch import POINTS, Sketch, merged, sketch, threshold

Parts = list[list[int]]


@given(st.lists(st.lists(st.integers(0, 50), max_size=60), max_size=6), st.integers(1, 9), st.floats(0, 1))
def test_never_more_than_the_share(parts: Parts, points: int, share: float) -> None:
    values = [np.array(part, dtype=np.float64) for part in parts]
    whole = merged(sketch(part, points) for part in values)
    everything = np.concatenate([np.zeros(0), *values])
    assert sum(whole.sizes) == len(everything)
    assert whole == merged(sketch(part, points) for part in reversed(values))
    reached = int((everything >= threshold(whole, share)).sum())
    assert reached <= share * len(everything) + 1e-6 or share == 1


@given(st.integers(0, 10**6), st.lists(st.integers(0, 300), max_size=6), st.integers(1, 40), st.floats(0, 0.999))
def test_little_of_the_share_is_left(seed: int, sizes: list[int], points: int, share: float) -> None:
    values = np.random.default_rng(seed).permutation(sum(sizes)).astype(np.float64)
    sketches = [sketch(part, points) for part in np.split(values, np.cumsum(sizes)[:-1])] if sizes else []
    reached = int((values >= threshold(merged(sketches), share)).sum())
    steps = [max(each.sizes, default=1) for each in sketches]
    assert reached > share * len(values) - sum(step - 1 for step in steps) - max(steps, default=1) - 1e-6


def test_a_small_partition_is_exact() -> None:
    values = np.random.default_rng(1).normal(size=POINTS)
    assert threshold(sketch(values), 0.25) == np.sort(values)[-POINTS // 4]


def test_equal_numbers_go_together() -> None:
    whole = sketch(np.array([2.0, 1.0, 1.0, 1.0]))
    assert threshold(whole, 0.5) == 2.0
    assert threshold(whole, 0.2) == float("inf")
    assert threshold(whole, 1.0) == float("-inf")
    assert threshold(Sketch([], []), 0.5) == float("inf")

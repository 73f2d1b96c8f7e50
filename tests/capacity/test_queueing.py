"""The queue simulation against queues whose answer is known."""

from math import exp, factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corella.capacity.queueing import Stage, alone_seconds, enough_servers, response_seconds, waits


def erlang_c(servers: int, load: float) -> float:
    """Chance of waiting in M/M/c."""
    full = load**servers / factorial(servers) * servers / (servers - load)
    return full / (sum(load**n / factorial(n) for n in range(servers)) + full)


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.5), (3, 0.8), (20, 0.9)])
def test_exponential_services_wait_as_erlang_says(servers: int, busy: float) -> None:
    rng = np.random.default_rng(5)
    load = servers * busy
    arrival, service = np.cumsum(rng.exponential(1 / load, 400_000)), rng.exponential(1.0, 400_000)
    found = waits(arrival, service, servers)[50_000:]
    chance, leaving = erlang_c(servers, load), servers - load
    assert np.mean(found > 0) == pytest.approx(chance, rel=0.03)
    assert found.mean() == pytest.approx(chance / leaving, rel=0.08)
    # P(W > t) = C exp(-(c - a) t)
    assert np.mean(found > 1 / leaving) == pytest.approx(chance * exp(-1), rel=0.08)


def test_constant_services_wait_half_as_long() -> None:
    rng = np.random.default_rng(6)
    arrival = np.cumsum(rng.exponential(1 / 0.7, 300_000))
    found = waits(arrival, np.ones(300_000), 1)[30_000:]
    assert found.mean() == pytest.approx(0.7 / (2 * 0.3), rel=0.05)  # Pollaczek and Khinchine


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40), st.integers(1, 4))
def test_more_servers_make_nobody_later(rows: list[tuple[int, int]], servers: int) -> None:
    gaps, service = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    arrival = np.cumsum(gaps)
    assert np.all(waits(arrival, service, servers + 1) <= waits(arrival, service, servers))
    assert not waits(arrival, service, len(rows)).any()


def test_the_second_stage_serves_in_the_order_in_which_the_first_ends() -> None:
    arrival, first, second = np.array([0.0, 1.0]), np.array([10.0, 1.0]), np.array([5.0, 5.0])
    assert response_seconds(arrival, [first, second], 2).tolist() == [15.0, 6.0]
    # One server each: the second request waits for the first one in both stages.
    assert response_seconds(arrival, [first, second], 1).tolist() == [15.0, 19.0]


def test_the_fewest_servers_that_keep_the_claim() -> None:
    stages = [Stage(0.010, 0.3), Stage(0.005, 0.3)]
    found = enough_servers(400.0, stages, within=0.040, busy=1.0)
    assert found is not None
    assert found.seconds <= 0.040
    assert found.busy == pytest.approx(4.0 / found.servers)
    tight = enough_servers(400.0, stages, within=0.030, busy=1.0)
    assert tight is not None
    assert tight.servers > found.servers > 4
    spare = enough_servers(400.0, stages, within=0.040, busy=0.25)
    assert spare is not None
    assert spare.servers == 16
    assert enough_servers(400.0, stages, within=0.040, busy=1.0) == found  # seeded


def test_a_claim_that_no_number_of_servers_keeps() -> None:
    stages = [Stage(0.050, 0.5)]
    alone = alone_seconds(stages)
    assert enough_servers(1.0, stages, within=0.9 * alone) is None
    assert enough_servers(1.0, stages, within=1.1 * alone) is not None

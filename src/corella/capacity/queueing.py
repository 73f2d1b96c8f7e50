"""A queue simulated: requests that arrive at random, servers that each serve one at a time, first come first served.

The recursion of Kiefer and Wolfowitz (1955): a request begins when the first server is free, or at once. That is also
what a proxy does that gives each request to the replica with the least work left.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_REQUESTS, _A_SERVER, _MOST = 30_000, 150, 300_000
"""Requests of a simulation: at least, for each server, and at most."""
_WARM = 1 / 3
"""Share of them that only fill the queue: it begins empty."""
_SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Stage:
    """One of the services that a request needs, one after the other."""

    seconds: float
    """Mean of the service time."""
    variation: float
    """Standard deviation over mean; service times are lognormal."""


@dataclass(frozen=True)
class Staffed:
    """Enough servers, and what a request then takes."""

    servers: int
    seconds: float
    """The quantile of the response time; the worst of three simulations."""
    busy: float
    """Share of the time that a server of the slowest stage serves."""


def waits(arrival: Doubles, service: Doubles, servers: int) -> Doubles:
    """Seconds that each request waits, float64 [n]; `arrival` [n] rising, `service` [n] in seconds.

    >>> waits(np.array([0.0, 1.0, 2.0]), np.array([5.0, 5.0, 5.0]), 2)
    array([0., 0., 3.])
    """
    free = [0.0] * servers
    found = np.empty(len(arrival))
    for n, (now, seconds) in enumerate(zip(arrival.tolist(), service.tolist(), strict=True)):
        begins = max(now, free[0])
        heapq.heapreplace(free, begins + seconds)
        found[n] = begins - now
    return found


def response_seconds(arrival: Doubles, services: Sequence[Doubles], servers: int) -> Doubles:
    """Seconds from arrival to the end of the last stage, float64 [n], in the order of arrival. Every stage has
    `servers` of its own; `services`: [n] for each stage."""
    now = arrival
    for service in services:
        order = np.argsort(now, kind="stable")
        at = np.empty_like(now)
        at[order] = now[order] + waits(now[order], service[order], servers) + service[order]
        now = at
    return now - arrival


def enough_servers(
    rate: float, stages: Sequence[Stage], within: float, quantile: float = 0.99, busy: float = 0.8
) -> Staffed | None:
    """Servers with which `quantile` of the requests are answered `within` seconds, none of them busy for more than
    `busy` of the time; None where a request that never waits takes longer.

    `rate`: requests a second, Poisson. Servers are added until the claim holds; a bisection then takes back what was
    too many.
    """
    load = rate * max(stage.seconds for stage in stages)
    least = max(int(np.ceil(load / busy - 1e-9)), 1)
    draws = [_draw(rate, stages, min(max(_REQUESTS, _A_SERVER * least), _MOST), seed) for seed in _SEEDS]

    def seconds(servers: int) -> float:
        return max(_tail(response_seconds(arrival, services, servers), quantile) for arrival, services in draws)

    if max(_tail(np.sum(services, axis=0), quantile) for _, services in draws) > within:
        return None
    below, above, step = least - 1, least, 1
    while seconds(above) > within:
        below, above, step = above, above + step, 2 * step
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if seconds(middle) <= within else (middle, above)
    return Staffed(above, seconds(above), load / above)


def alone_seconds(stages: Sequence[Stage], quantile: float = 0.99) -> float:
    """The quantile of what a request takes that never waits."""
    return max(_tail(np.sum(_draw(1.0, stages, _REQUESTS, seed)[1], axis=0), quantile) for seed in _SEEDS)


def _tail(seconds: Doubles, quantile: float) -> float:
    return float(np.quantile(seconds[int(_WARM * len(seconds)) :], quantile))


def _draw(rate: float, stages: Sequence[Stage], requests: int, seed: int) -> tuple[Doubles, list[Doubles]]:
    """Arrivals, and service times of each stage."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / rate, requests))
    services = []
    for stage in stages:
        spread = np.sqrt(np.log1p(stage.variation**2))
        services.append(stage.seconds * np.exp(spread * rng.standard_normal(requests) - spread**2 / 2))
    return arrival, services

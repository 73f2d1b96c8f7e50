"""The operators' window: totals, percentiles to 5 %, and what is too old."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corella.serving.http.traffic import Request, Traffic

NOW = 1_000_000.0


def _request(moment: float, milliseconds: float = 5.0, routed: int = 0, fallbacks: tuple[str, ...] = ()) -> Request:
    return Request(moment, milliseconds, 10, routed, max(routed - len(fallbacks), 0), fallbacks)


def test_totals_and_slots() -> None:
    traffic = Traffic(600.0, clock=lambda: NOW)
    for request in (
        _request(NOW - 700), _request(NOW - 95), _request(NOW - 95, routed=4, fallbacks=("deadline", "deadline")),
        _request(NOW), _request(NOW - 1e-3, routed=6, fallbacks=("overload",)),
    ):  # fmt: skip
        traffic.add(request)
    found = traffic.summary()
    assert (found.requests, found.items) == (4, 40)
    assert (found.share_routed, found.share_answered) == (0.25, 0.175)
    assert found.fallbacks == {"deadline": 2, "overload": 1}
    assert found.latency["llm"].requests == 2
    assert found.slots["crm"][-1] == 1 and found.slots["crm"][49] == 1 and sum(found.slots["llm"]) == 2


def test_nothing_yet() -> None:
    found = Traffic(clock=lambda: NOW).summary()
    assert found.requests == 0 and found.latency == {} and found.share_routed == 0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.2, 50_000), min_size=1, max_size=300))
def test_percentiles_are_right_to_five_percent(milliseconds: list[float]) -> None:
    traffic = Traffic(clock=lambda: NOW)
    for value in milliseconds:
        traffic.add(_request(NOW, value))
    found = traffic.summary().latency["crm"]
    for q in (50, 95, 99):
        wanted = float(np.percentile(milliseconds, q, method="inverted_cdf"))
        assert getattr(found, f"p{q}") == pytest.approx(wanted, rel=0.05)


def test_much_traffic_is_all_counted_in_few_slots() -> None:
    traffic = Traffic(600.0, clock=lambda: NOW)
    for n in range(60_000):
        traffic.add(_request(NOW - 1500 + n / 40))
    assert traffic.summary().requests == pytest.approx(24_000, rel=0.02)
    assert len(traffic._slots) <= 60


def test_a_clock_set_back() -> None:
    traffic = Traffic(600.0, clock=lambda: NOW - 5000)
    traffic.add(_request(NOW))
    traffic.add(_request(NOW - 5000))
    assert traffic.summary().requests == 1

"""How much can be read in a given time."""

import pytest

from corella.serving.engine import speed as speed_module
from corella.serving.engine.speed import Speed


class Clock:
    """What time it is, as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(speed_module, "time", found)
    return found


def _speed(clock: Clock) -> Speed:
    return Speed(fixed=0.1, per_token=0.001, _told=clock.now)


def test_room(clock: Clock) -> None:
    """By hand: 0.8 of a second, less 0.1, at 1 ms a token."""
    assert _speed(clock).room(1.0) == pytest.approx(700)
    assert _speed(clock).room(0.12) == 0 and _speed(clock).room(-1.0) == 0


def test_small_passes_do_not_make_it_look_slow(clock: Clock) -> None:
    """A pass of five tokens takes the fixed time: twenty tokens a second, and as fast as expected."""
    speed = _speed(clock)
    for _ in range(100):
        speed.passed(5, 0.105)
    assert speed.room(1.0) == pytest.approx(700)


def test_it_follows_what_passes_take(clock: Clock) -> None:
    speed = _speed(clock)
    for _ in range(100):
        clock.now += 1.0
        speed.passed(400, 1.0)  # twice the time expected
    assert speed.room(1.0) == pytest.approx(300, rel=1e-3)
    speed.passed(400, 1000.0)  # once the machine stood still
    assert speed.room(1.0) > 0


def test_trust_falls_fast_and_recovers_slowly(clock: Clock) -> None:
    speed = _speed(clock)
    for _ in range(50):
        speed.late()
    assert speed.trust == pytest.approx(0.05)
    speed.in_time()
    assert speed.trust == pytest.approx(0.06)
    for _ in range(100):
        speed.in_time()
    assert speed.trust == pytest.approx(0.8)


def test_who_is_never_asked_is_asked_again(clock: Clock) -> None:
    """Slow once and mistrusted, so that nothing fits any more: after a while without news it is asked again."""
    speed = _speed(clock)
    for _ in range(200):
        speed.passed(400, 50.0)
        speed.late()
    assert speed.room(0.4) == 0
    clock.now += 2.0
    assert speed.room(0.4) == 0 and speed.trust == pytest.approx(0.05)
    clock.now += 5.0
    assert speed.room(0.4) == 0 and speed.trust == pytest.approx((0.8 + 0.05) / 2)
    clock.now += 55.0
    assert speed.room(0.4) > 200 and speed.trust == pytest.approx(0.8, abs=1e-3)


def test_what_is_true_is_not_forgotten(clock: Clock) -> None:
    """A slower machine that is asked once an hour: every answer comes in time once that is known."""
    speed = _speed(clock)
    late = 0
    for _ in range(60):
        clock.now += 3600.0
        speed.room(0.02)  # somebody in a hurry, for whom there never was room
        tokens = int(speed.room(0.4))
        seconds = 1.5 * (0.1 + 0.001 * tokens)
        speed.passed(tokens, seconds)
        late += seconds > 0.4
        speed.late() if seconds > 0.4 else speed.in_time()
    assert late < 10 and speed.room(0.4) > 64


def test_what_was_found_beside_other_work_is_put_right(clock: Clock) -> None:
    """Passes take a quarter of what was found at the start: more room, and no way back when nothing is asked."""
    speed = _speed(clock)
    for _ in range(100):
        speed.passed(400, 0.125)
    assert speed.room(1.0) == pytest.approx(0.8 * 4000 - 100, rel=1e-3)
    clock.now += 3600
    assert speed.room(1.0) == pytest.approx(0.8 * 4000 - 100, rel=1e-3)
    for _ in range(400):
        speed.passed(400, 1.0)  # and then it is slow for good
    assert speed.room(0.2) == 0
    clock.now += 3600
    assert speed.room(0.2) == 0 and speed.room(1.0) == pytest.approx(300, rel=0.1)

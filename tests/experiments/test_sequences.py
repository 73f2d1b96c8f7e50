"""The confidence sequence: its formula by hand, its alarms where there is nothing, its power where there is."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from corella.errors import UserError
from corella.experiments.sequences import LEAST_COUNT, Arm, bounds, interval, needed


def _watched(p: float, lift: float, horizon: float, seed: int, share: float = 0.5) -> tuple[np.ndarray, ...]:
    """Bounds [1000 experiments, 10,000 events] after every event, each of which goes to the treatment with `share`."""
    rng = np.random.default_rng(seed)
    ends = []
    for _ in range(4):  # four blocks, to spare memory
        treated = rng.random((250, 10_000), dtype=np.float32) < share
        clicked = rng.random((250, 10_000), dtype=np.float32) < np.where(treated, p + lift, p)
        count, clicks = (
            np.stack([np.cumsum(of & ~treated, 1, dtype=np.int32), np.cumsum(of & treated, 1, dtype=np.int32)])
            for of in (np.ones_like(treated), clicked)
        )
        low, high = bounds(count, clicks, clicks, horizon)
        ends.append((low.max(1), high.min(1)))  # the sequence misses d at some time where max low > d or min high < d
    return tuple(np.concatenate(column) for column in zip(*ends, strict=True))


@pytest.mark.parametrize(("p", "horizon"), [(0.01, 500), (0.1, 500), (0.1, 5000), (0.3, 500), (0.3, 176_327)])
def test_few_false_alarms_though_watched_at_every_event(p: float, horizon: float) -> None:
    low, high = _watched(p, 0.0, horizon, seed=1)
    assert np.mean((low > 0) | (high < 0)) <= 0.05


def test_few_false_alarms_with_uneven_arms() -> None:
    low, high = _watched(0.1, 0.0, 500, seed=3, share=0.1)
    assert np.mean((low > 0) | (high < 0)) <= 0.05


def test_the_true_difference_stays_inside() -> None:
    low, high = _watched(0.1, 0.1, 500, seed=4)
    assert np.mean((low > 0.1) | (high < 0.1)) <= 0.05
    assert np.mean(low > 0) == 1  # and all of them find it


def test_a_usual_interval_would_alarm_often() -> None:
    """So the simulation can tell a bad interval: 1.96 standard errors, watched, alarm in far more than 5 %."""
    rng = np.random.default_rng(5)
    n = np.arange(1, 5001)
    mean = np.cumsum(rng.random((200, 2, 5000)) < 0.3, 2) / n
    half = 1.96 * np.sqrt((mean * (1 - mean)).sum(1) / n)
    assert np.mean((np.abs(mean[:, 1] - mean[:, 0]) > half)[:, LEAST_COUNT:].any(1)) > 0.25


@pytest.mark.parametrize(("rate", "lift", "seed"), [(0.3, 0.02, 1), (0.1, -0.05, 2), (0.05, 0.1, 3)])
def test_what_is_needed_gives_the_power(rate: float, lift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = needed(rate, lift)
    block = np.diff(np.linspace(0, n, 201).astype(int))
    clicks = np.stack([np.cumsum(rng.binomial(block, p, (600, 200)), 1) for p in (rate, rate * (1 + lift))])
    low, high = bounds(np.broadcast_to(np.cumsum(block), clicks.shape), clicks, clicks, horizon=n)
    found = low > 0 if lift > 0 else high < 0
    assert 0.75 < found[:, -1].mean() < 0.85  # the last look alone, which the formula is of
    assert 0.80 <= found.any(1).mean() < 0.92  # all looks
    assert found[:, :120].any(1).mean() > 0.5  # many experiments can stop early


def test_needed_follows_the_effect() -> None:
    assert needed(0.3, 0.01) / needed(0.3, 0.02) == pytest.approx(4, rel=0.02)
    assert needed(0.3, 0.02, power=0.9) > needed(0.3, 0.02) > needed(0.3, 0.02, alpha=0.1)
    assert needed(0.5, 0.9) == LEAST_COUNT


def test_the_interval_by_hand() -> None:
    control, treatment = Arm(1000, 300, 300), Arm(3000, 1200, 1200)
    variance = 0.3 * 0.7 / 1000 + 0.4 * 0.6 / 3000
    count = 2 / (1 / 1000 + 1 / 3000)

    def half(rho2: float, t: float = count) -> float:
        """Theorem 2.2, with sigma^2 = t times the variance."""
        inside = (t * rho2 + 1) / (t**2 * rho2) * np.log((t * rho2 + 1) / 0.05**2)
        return float(np.sqrt(t * variance * inside))

    best = minimize_scalar(half, bounds=(1e-6, 1), method="bounded", options={"xatol": 1e-10})
    low, high = interval(control=control, treatment=treatment, horizon=count)
    assert (low, high) == pytest.approx((0.1 - best.fun, 0.1 + best.fun))
    later = interval(control=control, treatment=treatment, horizon=10 * count)
    assert later == pytest.approx((0.1 - half(best.x / 10), 0.1 + half(best.x / 10)))


def test_it_is_narrowest_at_its_horizon() -> None:
    arm = Arm(5000, 1500, 1500)
    widths = [
        np.subtract(*reversed(interval(control=arm, treatment=arm, horizon=h))) for h in (500, 4000, 5000, 6000, 50_000)
    ]
    assert int(np.argmin(widths)) == 2


def test_nothing_is_claimed_early_or_of_no_clicks() -> None:
    few, many = Arm(LEAST_COUNT - 1, 99, 99), Arm(10**6, 10**5, 10**5)
    assert interval(control=few, treatment=many, horizon=1000) == (-1, 1)
    assert interval(control=many, treatment=few, horizon=1000) == (-1, 1)
    assert interval(control=Arm(), treatment=Arm(), horizon=1000) == (-1, 1)
    none = Arm(200, 0, 0)
    low, high = interval(control=none, treatment=none, horizon=1000)
    assert low < -0.05 and high > 0.05  # no spread in the sample is not certainty
    assert interval(control=many, treatment=Arm(5000, 0, 0), horizon=1000)[1] < 0  # a broken arm is found all the same


def test_outcomes_need_not_be_clicks() -> None:
    rng = np.random.default_rng(6)
    control, treatment = Arm.of(rng.beta(3, 7, 4000)), Arm.of(rng.beta(3.3, 6.7, 4000))
    low, high = interval(control=control, treatment=treatment, horizon=4000)
    assert 0 < low < 0.03 < high
    clicks = interval(control=Arm(4000, 1200, 1200), treatment=Arm(4000, 1320, 1320), horizon=4000)
    assert high - low < 0.5 * (clicks[1] - clicks[0])


def test_statistics_add_up() -> None:
    values = np.random.default_rng(7).random(50)
    one_by_one = Arm()
    for value in values:
        one_by_one = one_by_one.seen(float(value))
    for arm in (one_by_one, Arm.of(values[:20]) + Arm.of(values[20:])):
        assert arm.count == 50
        assert (arm.total, arm.squares) == pytest.approx((values.sum(), values @ values))
    assert Arm.of(np.array([])) == Arm()


@pytest.mark.parametrize("outcome", [-0.1, 1.1, float("nan"), float("inf")])
def test_outcomes_are_shares(outcome: float) -> None:
    with pytest.raises(UserError, match="from 0 to 1"):
        Arm().seen(outcome)


def test_settings_that_make_no_sense() -> None:
    arm = Arm(200, 20, 20)
    for horizon in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="horizon"):
            interval(control=arm, treatment=arm, horizon=horizon)
    for alpha in (0, 1, float("nan")):
        with pytest.raises(UserError, match="alpha"):
            interval(control=arm, treatment=arm, horizon=100, alpha=alpha)
        with pytest.raises(UserError, match="alpha"):
            needed(0.3, 0.1, alpha=alpha)
    for rate, lift in ((0, 0.1), (1, -0.1), (0.3, 0), (0.6, 0.7), (0.3, -1), (float("nan"), 0.1)):
        with pytest.raises(UserError, match="rate"):
            needed(rate, lift)
    with pytest.raises(UserError, match="power"):
        needed(0.3, 0.1, power=1)

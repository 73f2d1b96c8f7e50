"""One budget for all servers on a store."""

import asyncio
import random
from collections.abc import Callable

import pytest
from spoken_for import SpokenFor
from test_store import postgres_url, redis_url  # noqa: F401  # servers

from corella.serving.budget import Budget
from corella.serving.service import Asker, Service
from corella.serving.store.records import StoreError
from corella.serving.store.spending import Left, Spending, open_spending


class _Bucket:
    """The store's, by a clock of the test's; away where the test says so."""

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.away, self.spent = clock, False, 0.0
        self._level: float | None = None
        self._last = clock[0]
        self._servers: set[str] = set()

    def exchange(self, server: str, rate: float, spent: float) -> Left:
        if self.away:
            raise StoreError("away")
        level = 2 * rate if self._level is None else self._level
        self._level = min(level + (self.clock[0] - self._last) * rate, 2 * rate) - spent
        self._last = self.clock[0]
        self.spent += spent
        self._servers.add(server)
        return Left(self._level, len(self._servers))

    def close(self) -> None:
        """Nothing to let go of."""


def _spend(
    budgets: list[Budget], wanted: list[float], clock: list[float], bucket: _Bucket, seconds: float
) -> list[float]:
    """What each has spent, where each wants so much a tick of a tenth of a second, and settles every second one."""
    spent = [0.0] * len(budgets)
    for tick in range(round(10 * seconds)):
        clock[0] += 0.1
        for n, budget in enumerate(budgets):
            now = min(wanted[n], budget.room())
            budget.spend(now)
            spent[n] += now
            if (tick + n) % 2:
                asyncio.run(budget.settle(bucket))
    return spent


@pytest.mark.parametrize("wanted", [[500.0, 500.0], [500.0, 0.0], [500.0, 20.0, 5.0]])
def test_together_they_spend_one_budget(wanted: list[float]) -> None:
    clock = [0.0]
    bucket = _Bucket(clock)
    budgets = [Budget(1000.0, bucket, lambda: clock[0]) for _ in wanted]
    for budget in budgets:
        asyncio.run(budget.settle(bucket))
    _spend(budgets, wanted, clock, bucket, 10.0)
    spent = _spend(budgets, wanted, clock, bucket, 60.0)
    asked = 600 * sum(wanted)
    assert sum(spent) == pytest.approx(min(asked, 60_000), rel=0.05)  # all of it, and no more
    if len(set(wanted)) == 1:
        assert spent[0] == pytest.approx(spent[1], rel=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_no_demand_spends_much_more(seed: int) -> None:
    """Servers that take all they may, at moments of their own, settle about every fifth of a second."""
    draw = random.Random(seed)
    clock, servers = [0.0], seed + 1
    bucket = _Bucket(clock)
    budgets = [Budget(1000.0, bucket, lambda: clock[0]) for _ in range(servers)]
    for budget in [*budgets, *budgets]:
        asyncio.run(budget.settle(bucket))
    due, spent = [0.2 * draw.random() for _ in budgets], 0.0
    for _ in range(500):
        clock[0] += 0.02
        for n, budget in enumerate(budgets):
            if draw.random() < (0.1 if seed % 2 else 0.9):
                spent += budget.room()
                budget.spend(budget.room())
            if clock[0] >= due[n]:
                asyncio.run(budget.settle(bucket))
                due[n] = clock[0] + 0.2 * draw.uniform(0.8, 1.2)
        assert spent <= 1000 * (clock[0] + 3)
    assert spent >= 1000 * (clock[0] - 1)


def test_debts_are_paid_before_anything_else() -> None:
    clock = [0.0]
    budget = Budget(100.0, None, lambda: clock[0])
    assert budget.room() == 200
    budget.spend(500)
    assert budget.room() == 0
    clock[0] = 2.9
    assert budget.room() == 0
    clock[0] = 3.5
    assert budget.room() == pytest.approx(50)
    clock[0] = 100
    assert budget.room() == 200


def test_without_the_store_each_has_its_part() -> None:
    clock = [0.0]
    bucket = _Bucket(clock)
    budgets = [Budget(1000.0, bucket, lambda: clock[0]) for _ in range(2)]
    for _ in range(2):
        for budget in budgets:
            asyncio.run(budget.settle(bucket))
    bucket.away = True
    _spend(budgets, [500.0, 500.0], clock, bucket, 10.0)
    alone = _spend(budgets, [500.0, 0.0], clock, bucket, 20.0)
    assert alone[0] == pytest.approx(10_000, rel=0.05)
    before = bucket.spent
    bucket.away = False
    asyncio.run(budgets[0].settle(bucket))
    assert bucket.spent - before > 10_000  # what was spent meanwhile is told


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_a_bucket_in_a_store(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    one, other = open_spending(url), open_spending(url)
    assert one is not None and other is not None
    assert one.exchange("a", 0.001, 0.0) == Left(pytest.approx(0.002), 1)
    assert other.exchange("b", 0.001, 0.5) == Left(pytest.approx(-0.498, abs=1e-3), 2)
    assert one.exchange("a", 0.001, 0.25) == Left(pytest.approx(-0.748, abs=1e-3), 2)
    filled = one.exchange("a", 1e9, 0.0)  # refilled with the time that passes, up to what it holds
    assert 0 < filled.tokens <= 2e9
    one.close()
    other.close()


def test_what_is_beyond_it_falls_back(make_service: Callable[..., Service]) -> None:
    clock, engine = [0.0], SpokenFor()
    service = make_service(engine)
    service.budget = Budget(1000.0, None, lambda: clock[0])
    asked, items = Asker("u03"), ["i00", "i01"]
    assert asyncio.run(service.score(asked, items, 1.0)).fallback == ["", ""]
    ((_, prompt),) = engine.asked
    read = len(prompt.prefix) + sum(map(len, prompt.branches))
    assert service.budget.room() == 2000 - read
    service.budget.spend(2000 - read - len(prompt.prefix) - len(prompt.branches[0]))  # there is room for one of two
    assert sorted(asyncio.run(service.score(asked, items, 1.0)).fallback) == ["", "budget"]
    assert service.budget.room() == 0
    assert asyncio.run(service.score(asked, items, 1.0)).fallback == ["budget", "budget"]
    assert not engine.warmed  # nothing is read ahead of time from nothing
    clock[0] = 0.01
    assert asyncio.run(service.score(asked, items, 1.0)).fallback == ["budget", "budget"]
    assert engine.warmed == ["u03"] and service.budget.room() == 0  # a debt
    engine.space = 0.0
    clock[0] = 10.0
    assert asyncio.run(service.score(asked, items, 1.0)).fallback == ["overload", "overload"]


def test_a_file_is_one_machines() -> None:
    assert open_spending("events.db") is None and open_spending("sqlite:///x/events.db") is None


def test_a_store_that_is_away() -> None:
    for url in ("redis://127.0.0.1:1/0", "postgresql://127.0.0.1:1/x"):
        found: Spending | None = open_spending(url)
        assert found is not None
        with pytest.raises(StoreError):
            found.exchange("a", 1.0, 0.0)
        found.close()

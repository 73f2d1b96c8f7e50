"""Several language models as one: who is asked, and what happens where one is gone."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoken_for import SpokenFor

from corella.config import LLMConfig
from corella.errors import UserError
from corella.llm.prefix import SharedPrompt
from corella.retrieval.live import Reason
from corella.serving.engine.asking import Allowed, Answer, Candidates, NewItem
from corella.serving.engine.elsewhere import engine_elsewhere
from corella.serving.engine.network import NetworkEngine
from corella.serving.engine.pool import PoolEngine, home
from corella.serving.engine.pulse import Pulse
from corella.serving.engine.remote import RemoteEngine
from corella.serving.engine.wanted import Wanted
from corella.serving.settings import ServingSettings

USERS = [f"u{n}" for n in range(300)]
PROMPT = SharedPrompt(np.arange(5), [np.arange(3)], np.zeros(1, np.int64))


class _Worker(SpokenFor):
    """What it is asked, it says its number."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.load = 0.0
        self.answer = lambda prompt: Answer(np.full(len(prompt.branches), number, np.float32))
        self.found = [[Reason(f"i{number:g}", 1.0)]]


def _pool() -> tuple[PoolEngine, _Worker, _Worker]:
    one, other = _Worker(1), _Worker(2)
    return PoolEngine({"http://one": one, "http://other": other}), one, other


def _ask(pool: PoolEngine, user: str, seconds: float = 10.0) -> Answer:
    return asyncio.run(pool.ask(user, [PROMPT], time.monotonic() + seconds))[0]


def _said(pool: PoolEngine, users: list[str]) -> set[float]:
    """The numbers of those that answered."""
    found = [_ask(pool, user).logits for user in users]
    return {float(logits[0]) for logits in found if logits is not None}


def test_where_a_worker_goes_only_its_users_move() -> None:
    before = {user: home(user, {"a": 0.0, "b": 0.0, "c": 0.0}) for user in USERS}
    after = {user: home(user, {"a": 0.0, "c": 0.0}) for user in USERS}
    assert min(Counter(before.values()).values()) > len(USERS) / 6
    assert all(after[user] == before[user] for user in USERS if before[user] != "b")


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.text(max_size=8))
def test_nobody_goes_to_a_worker_far_above_the_mean(loads: list[float], user: str) -> None:
    named = {f"w{n}": load for n, load in enumerate(loads)}
    found = named[home(user, named)]
    assert found <= max(1.25 * float(np.mean(loads)) + 1024, min(loads))
    assert user or found == min(loads)


def test_a_user_stays_until_their_worker_is_busy() -> None:
    pool, one, other = _pool()
    user = next(user for user in USERS if home(user, {"http://one": 0.0, "http://other": 0.0}) == "http://one")
    one.space, other.space, one.load = 7.0, 9.0, 1000.0
    assert pool.room(1.0, user) == 7 and _said(pool, [user]) == {1}
    one.load = 5000.0
    assert pool.room(1.0, user) == 9 and _said(pool, [user]) == {2}
    pool.warm(user, PROMPT.prefix)
    assert other.warmed == [user] and not one.warmed
    assert pool.room(1.0) == 9  # nobody in particular goes where least waits


def test_a_fault_is_asked_about_once_more_elsewhere() -> None:
    pool, one, other = _pool()
    one.answer = lambda prompt: Answer(None, "fault")
    assert _said(pool, USERS[:20]) == {2.0}
    other.answer = one.answer
    one.asked.clear()
    other.asked.clear()
    assert _ask(pool, "u").reason == "fault" and len(one.asked) == len(other.asked) == 1
    assert _ask(pool, "u", seconds=-1.0).reason == "fault" and len(one.asked) + len(other.asked) == 3
    one.answer = lambda prompt: Answer(None, "deadline")
    other.answer = one.answer
    assert _ask(pool, "u").reason == "deadline" and len(one.asked) + len(other.asked) == 4


def test_who_is_not_there_is_not_asked() -> None:
    pool, one, other = _pool()
    one.ready = False
    assert pool.ready and _said(pool, USERS[:20]) == {2.0} and not one.asked
    other.ready, other.loading = False, True
    assert not pool.ready and pool.loading and pool.room(1.0, "u") == 0 and pool.trust == 0
    assert _ask(pool, "u").reason == "fault" and pool.unread("u", PROMPT.prefix) == 5


def test_retrieval_by_one_that_has_one_and_news_for_all() -> None:
    pool, one, other = _pool()
    one.retrieves = False
    question = Candidates("u", ["i"], [], 1, Allowed(np.ones(1, bool), []))
    assert pool.retrieves
    assert asyncio.run(pool.retrieve(question, 0.0)) == [[Reason("i2", 1.0)]] and not one.questions
    other.retrieves = False
    assert not pool.retrieves and asyncio.run(pool.retrieve(question, 0.0)) is None
    pool.put([NewItem("n", np.zeros(2, np.float32))])
    pool.forget("u")
    assert [item.item_id for item in one.new] == [item.item_id for item in other.new] == ["n"]
    assert one.forgotten == other.forgotten == ["u"]


def test_what_is_wrong_is_told_of_all_together() -> None:
    pool, one, other = _pool()
    told: list[str] = []
    pool.on_fault, pool.on_ready = told.append, lambda: told.append("")
    one.on_fault("gone")
    other.on_fault("gone too")
    one.on_ready()
    other.on_ready()
    assert told == ["1 of 2: gone", "2 of 2: gone; gone too", "1 of 2: gone too", ""]


def test_addresses_of_both_kinds() -> None:
    wanted, llm = Wanted(Path("run"), "a" * 64, ""), LLMConfig()

    def made(given: object) -> object:
        return engine_elsewhere(ServingSettings.model_validate({"llm_url": given}), wanted, llm)

    assert isinstance(made("http://llm:8000/v1"), RemoteEngine)
    assert isinstance(made(["corella+https://llm"]), NetworkEngine)
    assert isinstance(made(["corella+http://a:1", "http://b:2/v1"]), PoolEngine)
    for wrong, said in (([], "empty"), ("llm:8000", "no http address"), (["http://a", "http://a"], "twice")):
        with pytest.raises(UserError, match=said):
            made(wrong)


def test_a_server_that_comes_back_is_found() -> None:
    """Doubt has it looked at at once; while it is away it is looked at again and again."""

    async def run() -> None:
        answers = ["", "", "away", "away", ""]
        seen: list[tuple[bool, str]] = []

        async def look() -> str:
            return answers.pop(0) if len(answers) > 1 else answers[0]

        pulse = Pulse(look, None, up=True)
        pulse.on_change = lambda: seen.append((pulse.up, pulse.why))
        pulse.start()
        for _ in range(200):
            pulse.doubt()
            await asyncio.sleep(0.01)
            if seen and seen[-1] == (True, ""):
                break
        assert seen == [(False, "away"), (True, "")]
        pulse.failed("refused")
        assert not pulse.up
        for _ in range(200):
            await asyncio.sleep(0.01)
        assert pulse.up
        await pulse.stop()

    asyncio.run(run())

"""The language model's process: right answers, deadlines kept, faults survived."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvloop
from spoken_for import ReallyAsked

from corella.data.dataset import Dataset
from corella.llm.prefix import SharedPrompt
from corella.ranking.io import save_ranking
from corella.ranking.model import FittedRanking
from corella.retrieval.live import Reason
from corella.retrieval.system import Retrieval
from corella.serving.engine import process as engine_module
from corella.serving.engine.asking import Allowed, Because, Candidates, NewItem, Similar
from corella.serving.engine.messages import Asked, Forget, Found, Job, Late, Put, Ready, Refused, Scored, pack, unpack
from corella.serving.engine.process import ProcessEngine
from corella.serving.engine.wanted import Wanted, manifest_hash


@pytest.fixture(scope="module")
def folder(tiny_system: FittedRanking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    save_ranking(tiny_system, path / "model")
    return path


def _prompt(seed: int, branches: int = 3) -> SharedPrompt:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, 400, n).astype(np.int64) for n in (40, *([6] * branches))]
    return SharedPrompt(ids[0], ids[1:], np.arange(branches))


def _wanted(folder: Path) -> Wanted:
    return Wanted(folder, manifest_hash(folder / "model"), manifest_hash(folder / "retrieval"))


def _allowed(open_now: int = 40, new: Sequence[str] = ()) -> Allowed:
    """The first items of the tiny dataset."""
    return Allowed(np.arange(40) < open_now, list(new))


def _names(found: list[list[Reason]] | None) -> list[str]:
    return [one.item_id for one in found[0]] if found else []


def _with_engine(folder: Path, use: Callable[[ProcessEngine], Awaitable[None]]) -> None:
    async def loaded(engine: ProcessEngine) -> None:
        await engine.start()
        assert await engine.wait_ready()
        await use(engine)

    _with_unstarted_engine(folder, loaded)


def _with_unstarted_engine(
    folder: Path, use: Callable[[ProcessEngine], Awaitable[None]], load_seconds: float = 600.0
) -> None:
    async def run() -> None:
        engine = ProcessEngine(_wanted(folder), 1 << 20, 1024, 0.003, 1, load_seconds)
        try:
            await use(engine)
        finally:
            await engine.stop()

    asyncio.run(run())


def _soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def test_jobs_survive_the_pipe() -> None:
    job = Job(7, "Zo\u00eb\n", 12.5, _prompt(1))
    again = unpack(pack(job))
    assert isinstance(again, Job)
    assert (again.number, again.user, again.deadline) == (7, "Zo\u00eb\n", 12.5)
    np.testing.assert_array_equal(again.prompt.prefix, job.prompt.prefix)
    assert [b.tolist() for b in again.prompt.branches] == [b.tolist() for b in job.prompt.branches]
    alone = unpack(pack(replace(job, prompt=SharedPrompt(job.prompt.prefix, [], np.zeros(0, np.int64)))))
    assert isinstance(alone, Job) and alone.prompt.branches == []
    scored = unpack(pack(Scored(7, "", 0.5, 12, 1, np.array([0.25, -3], np.float32))))
    assert isinstance(scored, Scored) and scored.logits.tolist() == [0.25, -3] and scored.read == 12
    found = Found(4, "no room", [[Reason("i", 0.5)], []])
    for told in (
        Ready(0.1, 0.2),
        Late(3),
        found,
        Forget("u"),
        Refused("swapped"),
        Asked(1, 2.0, Because(["a"], ["b"], 2)),
    ):
        assert unpack(pack(told)) == told
    for question in (Candidates("u", ["a"], ["b"], 5, _allowed(3, ["n"])), Similar("a", 5, _allowed(3, ["n"]))):
        asked = unpack(pack(Asked(1, 2.0, question)))
        assert isinstance(asked, Asked) and not isinstance(asked.question, Because)
        assert np.flatnonzero(asked.question.allowed.fitted).tolist() == [0, 1, 2]
        assert asked.question.allowed.new == ["n"] and asked.question.k == 5
    put = unpack(pack(Put([NewItem("a", np.ones(3, np.float32)), NewItem("b", np.zeros(3, np.float32))])))
    assert isinstance(put, Put) and [(one.item_id, one.vector.sum()) for one in put.items] == [("a", 3), ("b", 0)]


def test_answers_and_what_is_kept(folder: Path, tiny_system: FittedRanking) -> None:
    here = ReallyAsked(tiny_system)

    async def use(engine: ProcessEngine) -> None:
        prompts = [_prompt(n) for n in range(4)]
        wanted = [here.answer(prompt).logits for prompt in prompts]
        together = await asyncio.gather(*(engine.ask(f"u{n}", [p], _soon()) for n, p in enumerate(prompts)))
        for (answer,), logits in zip(together, wanted, strict=True):
            assert answer.logits is not None and logits is not None
            np.testing.assert_allclose(answer.logits, logits, atol=1e-3)
        assert engine.unread("u1", prompts[1].prefix) == 0
        assert engine.unread("u1", np.append(prompts[1].prefix, 5)) == 1
        assert engine.unread("u1", prompts[2].prefix) == 40
        assert engine._warming is None
        engine.warm("u1", prompts[1].prefix)
        assert engine._warming is None  # all of it is kept
        engine.warm("later", prompts[3].prefix)
        assert engine._warming is not None
        await engine._warming
        assert engine.unread("later", prompts[3].prefix) == 0
        (answer,) = await engine.ask("later", [prompts[3]], _soon())
        assert answer.logits is not None and wanted[3] is not None
        np.testing.assert_allclose(answer.logits, wanted[3], atol=1e-3)

    _with_engine(folder, use)


def test_nothing_to_read(folder: Path) -> None:
    """The service only guesses what is kept: a read of what is there already, with nothing asked, is no fault."""

    async def use(engine: ProcessEngine) -> None:
        faults: list[str] = []
        engine.on_fault = faults.append
        prefix = _prompt(1).prefix
        only_read = SharedPrompt(prefix, [], np.zeros(0, np.int64))
        (answer,) = await engine.ask("u", [only_read], _soon())
        room = engine.room(10.0)
        for _ in range(3):
            (answer,) = await engine.ask("u", [only_read], _soon())
            assert answer.logits is not None and len(answer.logits) == 0 and not faults
        assert engine.room(10.0) == room  # and tells nothing of the speed
        (answer,) = await engine.ask("u", [SharedPrompt(prefix, _prompt(1).branches, np.arange(3))], _soon())
        assert answer.logits is not None and len(answer.logits) == 3

    _with_engine(folder, use)


def test_a_process_that_loads_is_not_at_fault(folder: Path) -> None:
    async def use(engine: ProcessEngine) -> None:
        said: list[str] = []
        engine.on_ready = lambda: said.append("ready")
        assert not engine.loading and not engine.ready
        await engine.start()
        assert engine.loading and not engine.ready and engine.trust == 0 and not said
        assert await engine.wait_ready()
        assert not engine.loading and engine.trust > 0 and said == ["ready"]
        await engine.stop()
        assert not engine.loading

    _with_unstarted_engine(folder, use)


def test_a_process_that_hangs_while_it_loads_is_replaced(folder: Path) -> None:
    async def use(engine: ProcessEngine) -> None:
        faults: list[str] = []
        engine.on_fault = faults.append
        await engine.start()
        engine._child._load_seconds = 600.0  # the next one may take its time
        assert engine._child.process is not None and engine._child.process.pid is not None
        hung = engine._child.process.pid
        os.kill(hung, signal.SIGSTOP)
        assert await engine.wait_ready()
        assert engine._child.process.pid != hung and not engine.loading
        assert "load_seconds" in faults[0] and "died" in faults[1]

    _with_unstarted_engine(folder, use, load_seconds=0.2)


def test_retrieval_in_the_same_process(
    folder: Path, tiny_retrieval: Retrieval, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """What the library recommends, by the id and the history that the service sends."""
    model = tiny_retrieval
    model.save(tmp_path / "retrieval")
    shutil.copytree(folder / "model", tmp_path / "model")
    answered = tiny_dataset.log.filter(user_id="u03")
    liked = answered.filter(label=1)["item_id"].to_list()
    (wanted,) = model.recommend(["u03"], 5)

    async def use(engine: ProcessEngine) -> None:
        seen = answered["item_id"].to_list()
        found = await engine.retrieve(Candidates("u03", liked, seen, 5, _allowed()), _soon())
        assert _names(found) == wanted
        strange = await engine.retrieve(Candidates("nobody", ["no such item", *liked], [], 3, _allowed(20)), _soon())
        assert len(_names(strange)) == 3 and set(_names(strange)) <= set(model.item_names[:20])
        assert await engine.retrieve(Candidates("u03", liked, [], 3, _allowed()), time.monotonic() - 1) is None
        assert model.dataset.texts is not None
        engine.put([NewItem("new", model.dataset.texts.vectors[model.item_codes[liked[-1]]])])
        found = await engine.retrieve(Candidates("u03", liked, seen, 5, _allowed(new=["new"])), _soon())
        assert "new" in _names(found)
        told = await engine.retrieve(Because(liked, [wanted[0]], 100), _soon())
        assert told is not None and {one.item_id for one in told[0]} == set(liked)
        assert "i00" not in _names(await engine.retrieve(Similar("i00", 5, _allowed(new=["new"])), _soon()))

    _with_engine(tmp_path, use)

    async def without(engine: ProcessEngine) -> None:
        assert await engine.retrieve(Candidates("u03", liked, [], 5, _allowed()), _soon()) is None

    _with_engine(folder, without)


def test_files_that_were_swapped_are_not_served(folder: Path) -> None:
    """The process refuses a model that the service has not loaded, and says so."""
    told: list[str] = []

    async def run() -> None:
        engine = ProcessEngine(replace(_wanted(folder), ranking="another"), 1 << 20, 1024, 0.003, 1, 600.0)
        engine.on_fault = told.append
        try:
            await engine.start()
            for _ in range(600):
                await asyncio.sleep(0 if told else 0.1)
            assert not engine.ready
        finally:
            await engine.stop()

    asyncio.run(run())
    assert f"{folder / 'model'} is not what the service has loaded any more" in told[0]


def test_deadlines_hold_whatever_the_process_does(folder: Path) -> None:
    """The process is stopped (not killed): requests come back at their deadline, and trust falls; when it goes on, what
    is too late is not begun, and the next requests are answered."""

    async def use(engine: ProcessEngine) -> None:
        assert engine._child.process is not None and engine._child.process.pid is not None
        before = engine.room(1.0)
        os.kill(engine._child.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        answers = await engine.ask("u", [_prompt(1), _prompt(2)], began + 0.2)
        assert time.monotonic() - began < 1.0
        assert [answer.reason for answer in answers] == ["deadline", "deadline"]
        assert engine.room(1.0) < before
        os.kill(engine._child.process.pid, signal.SIGCONT)
        (answer,) = await engine.ask("u", [_prompt(3)], _soon())
        assert answer.logits is not None
        await asyncio.sleep(0.1)
        assert not engine._waiting

    _with_engine(folder, use)


def test_a_process_that_does_not_read_blocks_nobody(folder: Path) -> None:
    """It is stopped, and asked far more than a pipe holds, in large jobs and many small ones: requests come back at
    their deadline, and beyond some number are turned away at once."""

    async def use(engine: ProcessEngine) -> None:
        assert engine._child.process is not None and engine._child.process.pid is not None
        os.kill(engine._child.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        asked = [engine.ask(f"u{n}", [_prompt(n, 200), _prompt(n + 1, 1)], began + 0.3) for n in range(200)]
        answers = [answer for both in await asyncio.gather(*asked) for answer in both]
        assert time.monotonic() - began < 2.0
        assert {answer.reason for answer in answers} == {"deadline", "overload"}
        os.kill(engine._child.process.pid, signal.SIGCONT)
        until = _soon()
        while engine._waiting and time.monotonic() < until:
            await asyncio.sleep(0.05)  # what came too late is not begun
        (answer,) = await engine.ask("u", [_prompt(3)], _soon())
        assert answer.logits is not None

    _with_engine(folder, use)


def test_a_process_that_hangs_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives and says nothing; nobody even asks it any more, for nothing fits behind what waits."""
    monkeypatch.setattr(engine_module, "_SILENT_SECONDS", 0.2)

    async def use(engine: ProcessEngine) -> None:
        assert engine._child.process is not None and engine._child.process.pid is not None
        hung = engine._child.process.pid
        os.kill(hung, signal.SIGSTOP)
        (answer,) = await engine.ask("u", [_prompt(1)], _soon(0.05))
        assert answer.reason == "deadline"
        await asyncio.sleep(0.3)
        engine.room(1.0)  # what every request begins with
        await asyncio.sleep(0.2)
        assert not engine.ready
        assert await engine.wait_ready()
        assert engine._child.process.pid != hung
        (answer,) = await engine.ask("u", [_prompt(1)], _soon())
        assert answer.logits is not None

    _with_engine(folder, use)


def test_a_process_found_dead_when_asked_is_started_again(folder: Path) -> None:
    """The pipe breaks while two prompts are sent, before its end was read."""

    async def use(engine: ProcessEngine) -> None:
        assert engine._child.process is not None
        engine._child.process.kill()
        engine._child.process.join()  # on this thread: the loop reads nothing meanwhile
        answers = await engine.ask("u", [_prompt(1), _prompt(2)], _soon(5))
        assert [answer.reason for answer in answers] == ["fault", "fault"] and not engine._waiting
        assert await engine.wait_ready()
        (answer,) = await engine.ask("u", [_prompt(1)], _soon())
        assert answer.logits is not None

    _with_engine(folder, use)


def test_a_killed_process_is_started_again(folder: Path) -> None:
    """Whoever waits is told at once; meanwhile requests are turned away; then all is as before."""

    async def use(engine: ProcessEngine) -> None:
        faults: list[str] = []
        engine.on_fault = faults.append
        assert engine._child.process is not None and engine._child.process.pid is not None
        os.kill(engine._child.process.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(engine.ask("u", [_prompt(1)], _soon()))
        await asyncio.sleep(0.05)
        os.kill(engine._child.process.pid, signal.SIGKILL)
        (answer,) = await waiting
        assert answer.reason == "fault" and len(faults) == 1
        (answer,) = await engine.ask("u", [_prompt(1)], _soon())
        assert answer.reason == "fault" and engine.room(1.0) == 0
        assert await engine.wait_ready()
        (answer,) = await engine.ask("u", [_prompt(1)], _soon())
        assert answer.logits is not None

    _with_engine(folder, use)


def test_a_fault_of_one_pass(folder: Path) -> None:
    """Ids that no model has: that request falls back, the process goes on."""

    async def use(engine: ProcessEngine) -> None:
        faults: list[str] = []
        engine.on_fault = faults.append
        bad = SharedPrompt(np.array([10**6]), [np.array([1])], np.zeros(1, np.int64))
        (answer,) = await engine.ask("", [bad], _soon())
        assert answer.reason == "fault" and "IndexError" in faults[0]
        (answer,) = await engine.ask("", [_prompt(1)], _soon())
        assert answer.logits is not None

    _with_engine(folder, use)


def test_a_long_message_arrives_whole(tiny_retrieval: Retrieval, folder: Path, tmp_path: Path) -> None:
    """On the loop that servers use too, which makes pipes nonblocking."""
    tiny_retrieval.save(tmp_path / "retrieval")
    shutil.copytree(folder / "model", tmp_path / "model")
    assert tiny_retrieval.dataset.vectors is not None
    vector = tiny_retrieval.dataset.vectors[0]

    async def run() -> None:
        engine, faults = ProcessEngine(_wanted(tmp_path), 1 << 20, 1024, 0.003, 1, 600.0), list[str]()
        engine.on_fault = faults.append
        try:
            await engine.start()
            assert await engine.wait_ready()
            engine.put([NewItem(f"a new item {n} {'x' * 2000}", vector) for n in range(3000)])
            for _ in range(100):
                allowed = _allowed(new=[f"a new item 2999 {'x' * 2000}"])
                found = await engine.retrieve(Candidates("", ["i00"], [], 5, allowed), _soon())
                if any(name.startswith("a new item 2999") for name in _names(found)):
                    break
            assert faults == [] and any(name.startswith("a new item 2999") for name in _names(found))
        finally:
            await engine.stop()

    uvloop.run(run())

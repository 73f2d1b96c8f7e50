"""The language model's own server, asked over the network: right answers, keys, limits, deadlines, and its death."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import httpx2
import numpy as np
import pytest
import uvicorn
from deployed import free_port
from spoken_for import ReallyAsked

from corella.errors import UserError
from corella.llm.prefix import SharedPrompt
from corella.ranking.io import save_ranking
from corella.ranking.model import FittedRanking
from corella.retrieval.system import Retrieval
from corella.serving.engine.asking import Allowed, Because, Candidates, NewItem
from corella.serving.engine.messages import Busy, Forget, Job, Late, Put, Scored, Standing, pack, unpack
from corella.serving.engine.network import MODEL, STANDING, NetworkEngine
from corella.serving.engine.pool import PoolEngine, home
from corella.serving.engine.process import ProcessEngine
from corella.serving.engine.wanted import Wanted, manifest_hash
from corella.serving.http.keys import KeyRing, make_key
from corella.serving.worker.models import Models
from corella.serving.worker.server import create_worker
from corella.serving.worker.settings import WorkerSettings, load_worker_settings


@pytest.fixture(scope="module")
def run(tiny_system: FittedRanking, tiny_retrieval: Retrieval, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    save_ranking(tiny_system, path / "model")
    tiny_retrieval.save(path / "retrieval")
    return path


@pytest.fixture(scope="module")
def wanted(run: Path) -> Wanted:
    return Wanted(run, manifest_hash(run / "model"), manifest_hash(run / "retrieval"))


class _Server:
    """In a thread of this process."""

    def __init__(self, run: Path, keys: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        settings = WorkerSettings(port=self.port, llm_threads=1, max_body_bytes=1 << 20, prefix_cache_mib=1)
        self.models = Models(run, settings)
        app = create_worker(self.models, KeyRing(keys), settings)
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The file, a key that may write, and one that may only read."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return path, make_key(path, "service", "write"), make_key(path, "page", "read")


@pytest.fixture(scope="module")
def servers(run: Path, keys: tuple[Path, str, str]) -> Iterator[list[_Server]]:
    found = [_Server(run, keys[0]) for _ in range(2)]
    yield found
    for server in found:
        server.stop()


def _prompt(seed: int, branches: int = 3) -> SharedPrompt:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, 400, n).astype(np.int64) for n in (40, *([6] * branches))]
    return SharedPrompt(ids[0], ids[1:], np.arange(branches))


def _soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


async def _until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    until = _soon(seconds)
    while not holds():
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


def _with(engine: NetworkEngine | PoolEngine, use: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await engine.start()
        try:
            await _until(lambda: engine.ready)
            await use()
        finally:
            await engine.stop()

    asyncio.run(run())


def _network(server: _Server, key: str, wanted: Wanted) -> NetworkEngine:
    return NetworkEngine(server.address, key, wanted)


def test_the_same_answers_as_of_a_process_of_ones_own(
    servers: list[_Server], keys: tuple[Path, str, str], wanted: Wanted, tiny_system: FittedRanking
) -> None:
    engine, here = _network(servers[0], keys[1], wanted), ReallyAsked(tiny_system)
    told: list[str] = []
    engine.on_ready, engine.on_fault = lambda: told.append(""), told.append

    async def use() -> None:
        prompts = [_prompt(n) for n in range(4)]
        found = await asyncio.gather(*(engine.ask(f"u{n}", [p], _soon()) for n, p in enumerate(prompts)))
        for (answer,), prompt in zip(found, prompts, strict=True):
            expected = here.answer(prompt).logits
            assert answer.logits is not None and expected is not None
            np.testing.assert_allclose(answer.logits, expected, atol=1e-3)
        assert engine.unread("u1", prompts[1].prefix) == 0 and engine.unread("u1", prompts[2].prefix) == 40
        assert engine.trust > 0 and engine.room(10.0) > 0 and not engine.loading
        await _until(lambda: engine.load < 1)
        assert engine.warm("later", prompts[3].prefix) == 40 and engine.warm("u1", prompts[1].prefix) == 0
        await _until(lambda: engine.unread("later", prompts[3].prefix) == 0)
        assert told == [""]

    _with(engine, use)


def test_retrieval_and_news_over_the_network(
    servers: list[_Server], keys: tuple[Path, str, str], wanted: Wanted, tiny_retrieval: Retrieval
) -> None:
    engine, model = _network(servers[0], keys[1], wanted), tiny_retrieval
    answered = model.dataset.log.filter(user_id="u03")
    liked, seen = answered.filter(label=1)["item_id"].to_list(), answered["item_id"].to_list()
    question = Candidates("u03", liked, seen, 5, Allowed(np.ones(40, bool), ["new"]))

    async def use() -> None:
        found = await engine.retrieve(question, _soon())
        assert found is not None and [one.item_id for one in found[0]] == model.recommend(["u03"], 5)[0]
        told = await engine.retrieve(Because(liked, [found[0][0].item_id], 100), _soon())
        assert told is not None and {one.item_id for one in told[0]} == set(liked)
        assert model.dataset.texts is not None
        engine.put([NewItem("new", model.dataset.texts.vectors[model.item_codes[liked[-1]]])])
        await _until(lambda: not engine._to_tell)
        again = await engine.retrieve(question, _soon())
        assert again is not None and "new" in {one.item_id for one in again[0]}
        assert await engine.retrieve(question, time.monotonic() - 1) is None

    _with(engine, use)
    other = NetworkEngine(servers[0].address, keys[1], replace(wanted, retrieval=""))

    async def without() -> None:
        assert other.ready and not other.retrieves and await other.retrieve(question, _soon()) is None

    _with(other, without)


def test_who_is_erased_is_forgotten_there(servers: list[_Server], keys: tuple[Path, str, str], wanted: Wanted) -> None:
    engine = _network(servers[0], keys[1], wanted)

    async def use() -> None:
        prompt = _prompt(11)
        asking = asyncio.create_task(engine.ask("erased", [prompt], _soon()))
        await asyncio.sleep(0)
        engine.forget("erased")  # while a question is on the way: told behind it
        await asking
        await _until(lambda: not engine._to_tell)
        assert servers[0].models.engines[0].unread("erased", prompt.prefix) == 40

    _with(engine, use)


def test_a_server_that_dies_is_asked_no_more_and_found_again(
    servers: list[_Server], run: Path, keys: tuple[Path, str, str], wanted: Wanted
) -> None:
    workers = {server.address: _network(server, keys[1], wanted) for server in servers}
    pool = PoolEngine(workers)
    told: list[str] = []
    pool.on_fault = told.append
    user = next(f"u{n}" for n in range(99) if home(f"u{n}", dict.fromkeys(workers, 0.0)) == servers[1].address)

    async def use() -> None:
        await _until(lambda: all(worker.ready for worker in workers.values()))
        (answer,) = await pool.ask(user, [_prompt(1)], _soon())
        assert answer.logits is not None and workers[servers[1].address].unread(user, _prompt(1).prefix) == 0
        await asyncio.to_thread(servers[1].stop)
        (answer,) = await pool.ask(user, [_prompt(1)], _soon())  # found dead when it is asked
        assert answer.logits is not None
        await _until(lambda: bool(told))
        assert "1 of 2: " + servers[1].address in told[0] and pool.ready
        servers[1] = _Server(run, keys[0], servers[1].port)
        await _until(lambda: workers[servers[1].address].ready)
        (answer,) = await pool.ask(user, [_prompt(1)], _soon())
        assert answer.logits is not None and workers[servers[1].address].unread(user, _prompt(1).prefix) == 0

    _with(pool, use)


def test_one_that_comes_back_is_told_of_new_items(run: Path, keys: tuple[Path, str, str], wanted: Wanted) -> None:
    """The engine alone, its server spoken for: another process says another name."""
    engine = NetworkEngine("http://127.0.0.1:1", "", wanted)
    for n in range(700):
        engine.put([NewItem(f"n{n}", np.zeros(2, np.float32))])
    engine.forget("u")
    sizes = [len(told.items) for told in engine._to_tell if isinstance(told, Put)]
    assert sizes == [1, 200, 200, 200, 99] and isinstance(engine._to_tell[-1], Forget)
    standing = Standing(True, False, True, 0.1, 0.001, 0.0, 0, 5, "a")
    engine._take(asdict(standing))
    assert len(engine._to_tell) == 6  # it may have run before this service
    engine._to_tell.clear()
    standing = replace(standing, process="b")
    engine._take(asdict(standing))
    assert [len(told.items) for told in engine._to_tell if isinstance(told, Put)] == [200, 200, 200, 100]
    engine._to_tell.clear()
    engine._take(asdict(standing))
    assert not engine._to_tell
    engine._pulse.up = True
    engine._take(asdict(replace(standing, waiting=300)))
    assert 0 < engine.load <= 300
    assert engine.room(1.0) == pytest.approx(0.8 * 1000 - 100 - engine.load, rel=0.05)
    assert engine.unread("u", np.arange(9)) == 9


def _post(server: _Server, key: str, body: bytes, model: str = "") -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}", MODEL: model}
    return httpx2.post(f"{server.address}/v1/ask", content=body, headers=headers, timeout=30)


def test_strangers_and_nonsense_are_refused(
    servers: list[_Server], keys: tuple[Path, str, str], wanted: Wanted
) -> None:
    server, (_, key, reading) = servers[0], keys
    engine = _network(server, key, wanted)

    async def use() -> None:
        """It is loaded."""

    _with(engine, use)
    job = pack(Job(0, "", 20.0, _prompt(1)))
    assert _post(server, "x", job).status_code == 401 and _post(server, reading, job).status_code == 403
    assert httpx2.get(f"{server.address}/v1/standing").status_code == 401
    assert httpx2.get(f"{server.address}/readyz").status_code == 200
    assert "corella_llm_ready 1.0" in httpx2.get(f"{server.address}/metrics").text
    for nonsense in (b"", b"x", b"[]", b'{"kind": "Job"}', b'{"kind": "no"}', pack(Late(1))):
        assert _post(server, key, nonsense, wanted.ranking).status_code == 422
    assert _post(server, key, b"0" * (2 << 20)).status_code == 413
    unknown = _post(server, key, job, "f" * 64)
    assert not unknown.content and "no version" in json.loads(unknown.headers[STANDING])["why"]
    for wrong in (_prompt(1).prefix + 10**6, _prompt(1).prefix - 500):
        found = unpack(
            _post(server, key, pack(Job(0, "", 20.0, replace(_prompt(1), prefix=wrong))), wanted.ranking).content
        )
        assert isinstance(found, Scored) and "does not know" in found.error
    for seconds, kind in ((float("nan"), Late), (-1.0, Late), (1e-7, Busy), (20.0, Scored)):
        found = unpack(_post(server, key, pack(Job(0, "", seconds, _prompt(1))), wanted.ranking).content)
        assert type(found) is kind


def test_what_cannot_be_read_in_time_is_left_out(
    servers: list[_Server], keys: tuple[Path, str, str], wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _network(servers[0], keys[1], wanted)

    async def use() -> None:
        monkeypatch.setattr(ProcessEngine, "room", lambda self, seconds, user="": 40 + 6 * 2 + 5.0)
        (answer,) = await engine.ask("", [_prompt(21, 4)], _soon())
        assert answer.logits is not None and answer.reason == "overload"
        assert np.isnan(answer.logits).tolist() == [False, False, True, True]
        monkeypatch.setattr(ProcessEngine, "room", lambda self, seconds, user="": 45.0)
        assert (await engine.ask("", [_prompt(22, 4)], _soon()))[0].reason == "overload"

    _with(engine, use)


def test_runs_that_cannot_be_served(run: Path, tmp_path: Path) -> None:
    def check(path: Path) -> None:
        Models(path, load_worker_settings(None, ["port=0"])).check()

    with pytest.raises(UserError, match="holds no trained model"):
        check(tmp_path / "nothing")
    shutil.copytree(run / "model", tmp_path / "model")
    (tmp_path / "model" / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError):
        check(tmp_path)
    with pytest.raises(UserError, match="porto"):
        load_worker_settings(None, ["porto=1"])

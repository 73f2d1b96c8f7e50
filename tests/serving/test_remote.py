"""An OpenAI-compatible server: the same logits as here, deadlines, and answers that make no sense.

The server is a stub that answers `/v1/completions` as vLLM does, from the tiny language model: prompts as token ids,
one new token, the likeliest tokens with their log-probabilities.
"""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch
from spoken_for import ReallyAsked

from corella.errors import UserError
from corella.llm.prefix import SharedPrompt
from corella.ranking.model import FittedRanking
from corella.serving.engine.asking import Answer
from corella.serving.engine.remote import Endpoint, RemoteEngine
from corella.serving.service import Asker, Service

TOP = {" Yes": -1.0, " No": -2.0}
Respond = Callable[[dict[str, Any], str], dict[str, Any]]


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, Any]]]:
    """An address, and a dictionary whose `respond` answers a body and a key."""
    told: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = told["respond"](body, self.headers.get("Authorization", ""))
            self.send_response(200 if self.path == "/v1/completions" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *given: Any) -> None:
            """Be quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/v1", told
    httpd.shutdown()


def _model(system: FittedRanking, most: int = 400) -> Respond:
    """Answers as a server does, from the system's own language model; `most`: how many tokens it lists."""

    def respond(body: dict[str, Any], key: str) -> dict[str, Any]:
        assert body["max_tokens"] == 1 and key == "Bearer secret"
        choices = []
        for index, ids in enumerate(body["prompt"]):
            with torch.inference_mode():
                logits = system.llm.backbone.model(input_ids=torch.tensor([ids])).logits[0, -1]
            top = logits.log_softmax(-1).topk(most)
            names = [system.llm.backbone.tokenizer.decode([i]) for i in top.indices.tolist()]
            listed = dict(zip(names, top.values.tolist(), strict=True))
            choices.append({"index": index, "logprobs": {"top_logprobs": [listed]}})
        return {"choices": choices[::-1]}

    return respond


def _prompt() -> SharedPrompt:
    rng = np.random.default_rng(1)
    ids = [rng.integers(2, 400, n).astype(np.int64) for n in (30, 5, 7)]
    return SharedPrompt(ids[0], ids[1:], np.arange(2))


def _ask(engine: RemoteEngine, seconds: float = 20.0) -> Answer:
    return asyncio.run(engine.ask("u", [_prompt()], time.monotonic() + seconds))[0]


def test_logits_are_those_of_the_model(server: tuple[str, dict[str, Any]], tiny_system: FittedRanking) -> None:
    address, told = server
    told["respond"] = _model(tiny_system)
    found = _ask(RemoteEngine(Endpoint(address, "m", "secret"), " Yes", " No"))
    wanted = ReallyAsked(tiny_system).answer(_prompt())
    assert found.logits is not None and wanted.logits is not None
    np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-3)


def test_answers_that_are_not_listed(server: tuple[str, dict[str, Any]]) -> None:
    address, told = server
    tops = [{" Yes": -1.0, "x": -2.5}, {"x": -0.5, "y": -3.0}]
    told["respond"] = lambda body, key: {
        "choices": [{"index": i, "logprobs": {"top_logprobs": [top]}} for i, top in enumerate(tops)]
    }
    found = _ask(RemoteEngine(Endpoint(address, "m"), " Yes", " No"))
    assert found.logits is not None and found.logits[0] == 1.5 and np.isnan(found.logits[1])


@pytest.mark.parametrize("broken", [{}, {"choices": []}, {"choices": [{"index": 0}]}, {"error": "no such model"}])
def test_nonsense_is_a_fault(server: tuple[str, dict[str, Any]], broken: dict[str, Any]) -> None:
    address, told = server
    told["respond"] = lambda body, key: broken
    assert _ask(RemoteEngine(Endpoint(address, "m"), " Yes", " No")).reason == "fault"


def test_a_slow_or_missing_server(server: tuple[str, dict[str, Any]]) -> None:
    address, told = server
    told["respond"] = lambda body, key: time.sleep(1) or {}
    began = time.monotonic()
    assert _ask(RemoteEngine(Endpoint(address, "m"), " Yes", " No"), 0.2).reason == "deadline"
    assert time.monotonic() - began < 0.9
    assert _ask(RemoteEngine(Endpoint("http://127.0.0.1:1/v1", "m"), " Yes", " No")).reason == "fault"
    assert _ask(RemoteEngine(Endpoint(address + "/x", "m"), " Yes", " No"), 5).reason == "fault"
    with pytest.raises(UserError, match="no http address"):
        RemoteEngine(Endpoint("file:///etc/passwd", "m"), " Yes", " No")


def test_a_service_in_front_of_it(
    server: tuple[str, dict[str, Any]], make_service: Callable[..., Service], tiny_system: FittedRanking
) -> None:
    address, told = server
    told["respond"] = _model(tiny_system)
    service = make_service(RemoteEngine(Endpoint(address, "m", "secret"), " Yes", " No"), deadline_ms=20_000)
    found = asyncio.run(service.score(Asker("u03"), ["i00", "i01"], 1.0))
    here = asyncio.run(make_service(ReallyAsked(tiny_system)).score(Asker("u03"), ["i00", "i01"], 1.0))
    np.testing.assert_allclose(found.probability, here.probability, atol=1e-4)
    assert found.fallback == ["", ""]


def test_a_server_that_is_away_is_asked_again_when_it_is_back(server: tuple[str, dict[str, Any]]) -> None:
    """Nobody waits for it meanwhile; a stub that knows no list of models is there too."""
    address, told = server
    told["respond"] = lambda body, key: {"choices": [{"index": i, "logprobs": {"top_logprobs": [TOP]}} for i in (0, 1)]}
    engine = RemoteEngine(Endpoint("http://127.0.0.1:1/v1", "m"), " Yes", " No")
    said: list[str] = []
    engine.on_ready, engine.on_fault = lambda: said.append(""), said.append

    async def run() -> None:
        await engine.start()
        assert engine.ready
        (answer,) = await engine.ask("u", [_prompt()], time.monotonic() + 5)
        assert answer.reason == "fault" and not engine.ready and "http://127.0.0.1:1/v1: " in said[0]
        engine._endpoint = Endpoint(address, "m")
        for _ in range(500):
            await asyncio.sleep(0 if engine.ready else 0.02)
        (answer,) = await engine.ask("u", [_prompt()], time.monotonic() + 5)
        assert answer.logits is not None and said[-1] == "" and engine.load == 0
        await engine.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "reason", "there"), [(400, "fault", True), (429, "overload", True), (500, "fault", False)]
)
def test_what_a_status_says_of_the_server(
    status: int, reason: str, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **more: Any) -> Any:
        raise urllib.error.HTTPError("http://llm/v1", status, "no", Message(), None)

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    engine = RemoteEngine(Endpoint("http://llm/v1", "m"), " Yes", " No")
    assert _ask(engine).reason == reason and engine.ready == there

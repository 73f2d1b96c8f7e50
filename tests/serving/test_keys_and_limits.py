"""API keys, rate limits, body limits."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from corella.errors import UserError
from corella.serving.http import keys as keys_module
from corella.serving.http.gate import BodyLimit, Gate
from corella.serving.http.keys import KeyRing, access, find_key, make_key, read_keys, revoke_key
from corella.serving.http.limits import RateLimit
from corella.serving.http.patience import patient
from corella.serving.settings import load_serving_settings


def test_keys_are_kept_as_hashes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    one, two = make_key(path, "shop", "read"), make_key(path, "etl", "write")
    text = path.read_text()
    assert one not in text and two not in text
    assert path.stat().st_mode & 0o077 == 0
    keys = read_keys(path)
    assert [(k.name, k.scope) for k in keys] == [("shop", "read"), ("etl", "write")]
    found = find_key(keys, two)
    assert found is not None and found.name == "etl"
    for wrong in ("", one[:-1], one + "x", keys[0].sha256):
        assert find_key(keys, wrong) is None


def test_mistakes_with_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    make_key(path, "shop", "read")
    with pytest.raises(UserError, match="a key named 'shop' already"):
        make_key(path, "shop", "write")
    with pytest.raises(UserError, match="no scope 'root'"):
        make_key(path, "x", "root")
    for broken in ("[]", "{}", '[{"name": "x"}]', '[{"name": "x", "scope": "read", "sha256": "abc"}]'):
        path.write_text(broken)
        with pytest.raises(UserError, match="make-key"):
            read_keys(path)


def test_without_keys_only_loopback() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        assert not access(host, None).asked
    for host in ("0.0.0.0", "10.0.0.1", "example.org", ""):  # noqa: S104
        with pytest.raises(UserError, match="loopback"):
            access(host, None)


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("port: 9000\ndeadline_ms: 50\n")
    settings = load_serving_settings(path, ["port=9001"])
    assert (settings.port, settings.deadline_ms) == (9001, 50.0)
    with pytest.raises(UserError, match="serving settings: prot: no such setting; did you mean 'port'"):
        load_serving_settings(None, ["prot=1"])
    with pytest.raises(UserError, match="serving settings: share: "):
        load_serving_settings(None, ["share=2"])
    with pytest.raises(UserError, match=r"section\.key=value"):
        load_serving_settings(None, ["share"])
    path.write_text("- 1\n")
    with pytest.raises(UserError, match="must hold a mapping"):
        load_serving_settings(path)


def test_rates_by_hand() -> None:
    limit = RateLimit(2.0)
    assert [limit.allows("a", now=now) for now in (0.0, 0.0, 0.0, 0.4, 0.5, 0.6, 10.0, 10.0, 10.0)] == [
        True, True, False, False, True, False, True, True, False,
    ]  # fmt: skip
    assert limit.allows("b", now=10.0)
    slow = RateLimit(0.1)
    assert [slow.allows("a", now=now) for now in (0.0, 5.0, 10.0)] == [True, False, True]


def _post(chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """What an application behind a limit of 10 bytes answers; it echoes the body."""
    sent: list[Any] = []
    queue = [
        {"type": "http.request", "body": chunk, "more_body": n + 1 < len(chunks)} for n, chunk in enumerate(chunks)
    ]

    async def receive() -> Any:
        return queue.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    asyncio.run(BodyLimit(echo, 10, 0.2)({"type": "http", "path": "/", "headers": headers}, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_bodies_are_limited_announced_or_not() -> None:
    assert _post([b"12345", b"67890"], []) == (200, b"1234567890")
    assert _post([b"12345", b"67890", b"1"], [])[0] == 413
    status, body = _post([b"1"], [(b"content-length", b"11")])
    assert status == 413 and "10 bytes" in json.loads(body)["error"]
    assert _post([b"1"], [(b"content-length", b"many")])[0] == 413


def test_keys_come_and_go_while_the_service_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "_LOOK_SECONDS", 0.0)
    path, told = tmp_path / "keys.json", list[str]()
    one = make_key(path, "shop", "read")
    ring = KeyRing(path)
    ring.on_problem = told.append
    two = make_key(path, "etl", "write", 0.5)
    found = ring.find(two)
    assert found is not None and (found.name, found.weight) == ("etl", 0.5)
    revoke_key(path, "shop")
    assert ring.find(one) is None and told == ["", ""]
    path.write_text("{")
    assert ring.find(two) == found and told[-1].startswith("the keys are as they were: ")
    with pytest.raises(UserError, match="'etl' is the last key"):
        path.unlink()
        make_key(path, "etl", "write")
        revoke_key(path, "etl")
    with pytest.raises(UserError, match="no key named 'shp'"):
        revoke_key(path, "shp")


def test_a_file_of_keys_is_private(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    make_key(path, "shop", "read")
    path.chmod(0o640)
    with pytest.raises(UserError, match=f"chmod 600 {path}"):
        read_keys(path)


def test_a_large_request_counts_more_than_once() -> None:
    limit = RateLimit(4.0)
    assert [limit.allows("a", units, now=0.0) for units in (3, 2, 1, 0.5)] == [True, False, True, False]
    assert limit.allows("b", 10.0, now=0.0)  # more than there ever is: it takes all, and the next one waits longer
    assert [limit.allows("b", 1.0, now=now) for now in (1.0, 1.8)] == [False, True]


def test_a_body_that_does_not_come(tmp_path: Path) -> None:
    """Who sends a byte and waits is told that it takes too long; the limit is .2 seconds here."""
    sent: list[Any] = []

    async def receive() -> Any:
        if sent:
            raise AssertionError("it was answered")
        await asyncio.sleep(0.15)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application is not asked")

    asyncio.run(BodyLimit(never, 10, 0.2)({"type": "http", "path": "/", "headers": []}, receive, send))
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]


def test_a_stranger_is_turned_away_before_anything_is_read(tmp_path: Path) -> None:
    make_key(tmp_path / "keys.json", "shop", "read")
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application is not asked")

    gate = Gate(never, KeyRing(tmp_path / "keys.json"), RateLimit(1.0))
    scope = {
        "type": "http",
        "path": "/v1/score",
        "headers": [(b"authorization", b"Bearer no")],
        "client": ("1.2.3.4", 5),
    }
    for status in (401, 429):
        asyncio.run(gate(scope, receive, send))
        assert sent[-2]["status"] == status


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_request_that_is_never_ended_is_closed(serve_forever: str, sent: bytes) -> None:
    """A connection that holds the head of a request open, or says nothing at all, ends."""
    host, port = serve_forever.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        assert connection.recv(1000) == b""


@pytest.fixture
def serve_forever() -> Iterator[str]:
    """The address of a server that waits .3 seconds for a request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no request is whole")

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", http=patient(0.3), lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)

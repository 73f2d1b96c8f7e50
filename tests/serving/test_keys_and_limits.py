"""API keys, rate limits, body limits."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from corella.errors import UserError
from corella.serving.http.gate import BodyLimit
from corella.serving.http.keys import find_key, make_key, read_keys
from corella.serving.http.limits import RateLimit
from corella.serving.serve import check_access
from corella.serving.settings import ServingSettings, load_serving_settings


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
    with pytest.raises(UserError, match="no scope 'admin'"):
        make_key(path, "x", "admin")
    for broken in ("[]", "{}", '[{"name": "x"}]', '[{"name": "x", "scope": "read", "sha256": "abc"}]'):
        path.write_text(broken)
        with pytest.raises(UserError, match="make-key"):
            read_keys(path)


def test_without_keys_only_loopback() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        assert not check_access(ServingSettings(host=host)).asked
    for host in ("0.0.0.0", "10.0.0.1", "example.org", ""):  # noqa: S104
        with pytest.raises(UserError, match="loopback"):
            check_access(ServingSettings(host=host))


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

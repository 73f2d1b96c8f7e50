"""Stores: the same behaviour on SQLite, and on real Redis and PostgreSQL servers where they are installed."""

import os
import pwd
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from corella.errors import UserError
from corella.serving.store.log import Store, open_store
from corella.serving.store.records import Erased, Event, Item, ItemDeleted, Person, Shown, StoreError, Undone

A, B, C = Event("u", "i", 1, 5), Event("v\u00e9\U0001f600", "j'; DROP TABLE x", 0, 7), Event("u", "k", 0, 2**40, 3.5)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(open_it: Callable[[], Store]) -> None:
    for _ in range(100):
        try:
            return open_it().close()
        except UserError:
            time.sleep(0.1)
    pytest.fail("the server did not start")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed")
    port = _free_port()
    command = [server, "--port", str(port), "--save", "", "--dir", str(tmp_path_factory.mktemp("redis"))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    _wait(lambda: open_store(url))
    yield url
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if not found[-1].is_file():
        pytest.skip("PostgreSQL is not installed")
    folder, port = tmp_path_factory.mktemp("postgres"), _free_port()
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        for path in (folder, *folder.parents):
            if path.owner() == "root" and path.name and path.is_relative_to(tempfile.gettempdir()):
                path.chmod(path.stat().st_mode | 0o055)  # or its user cannot come to its folder
        os.chown(folder, user.pw_uid, user.pw_gid)
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    binaries, data = found[-1].parent, folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **as_user}
    subprocess.run([binaries / "initdb", "-D", data, "-U", "postgres", "--no-sync"], check=True, **quiet)  # type: ignore[call-overload]
    command = [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
    process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    _wait(lambda: open_store(url))
    yield url
    process.terminate()
    process.wait(10)


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "new" / "events.db")
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def _drained(store: Store) -> str:
    """The cursor behind all that earlier tests left in a server."""
    return store.since("")[1]


def test_what_is_appended_comes_back_in_order(url: str) -> None:
    store = open_store(url)
    cursor = _drained(store)
    assert store.since(cursor) == ([], cursor)
    store.append([A])
    store.append([B])
    found, after = store.since(cursor)
    assert found == [A, B]
    store.append([C])
    assert store.since(after)[0] == [C]
    assert store.since(cursor)[0] == [A, B, C]
    store.close()


def test_two_servers_see_each_other(url: str) -> None:
    one, other = open_store(url), open_store(url)
    cursor = _drained(one)
    one.append([A])
    found, cursor = other.since(cursor)
    assert found == [A]
    other.append([B])
    one.append([C])
    assert one.since(cursor)[0] == other.since(cursor)[0] == [B, C]
    one.close()
    other.close()


def test_a_store_of_an_earlier_version_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with sqlite3.connect(path) as old:
        old.execute("CREATE TABLE corella_events (seq INTEGER PRIMARY KEY)")
    with pytest.raises(UserError, match="earlier version of corella; move it away"):
        open_store(str(path))


def test_of_an_id_the_first_event_stays(url: str) -> None:
    store = open_store(url)
    cursor = _drained(store)
    one, other = replace(A, event_id=f"{url}-1"), replace(B, event_id=f"{url}-2")
    again = replace(C, event_id=one.event_id)
    assert store.append([one, again, A, A, other]) == [True, False, True, True, True]
    assert store.append([again, other]) == [False, False]
    assert store.find(one.event_id) == one
    assert store.find("no such id") is None
    assert store.since(cursor)[0] == [one, A, A, other]
    store.close()


def test_records_of_all_kinds_come_back(url: str) -> None:
    store = open_store(url)
    cursor = _drained(store)
    records = [
        Item("i1", "Heat", {"genres": ["Crime", "Action"]}, "https://x/i.png", available=False),
        ItemDeleted("i2"), Person("u9", "Somebody", {"age": "old"}), Undone("e1", "u9", "i1", "view", 1.0, 5),
        Shown("u9", ["i1", "i3"], [0.9, 0.1], [0.5, 0.4], [0.6, 0.4], [0.1, 0.0], "v3", "blend", "b", 7, "r1"),
    ]  # fmt: skip
    store.append(records)
    assert store.since(cursor)[0] == records
    store.close()


def test_an_erased_user_leaves_nothing_but_a_digest(url: str) -> None:
    store = open_store(url)
    cursor, name = _drained(store), f"erase-me-{secrets.token_hex(8)}"
    mine = [
        Event(name, "i", 1, 5, event_id=f"{name}-1"), Person(name, "A man"),
        Undone(f"{name}-1", name, "i", "like", 1.0, 5),
        Shown(name, ["i"], [1.0], [0.5], [0.5], [0.0], "", "", "", 5, "r"),
    ]  # fmt: skip
    store.append([A, *mine, B])
    assert store.of_user(name) == mine
    assert store.erase(name) == 4
    assert store.of_user(name) == [] and store.erase(name) == 0
    gone = Erased(store.digest(name))
    assert store.since(cursor)[0] == [A, B, gone, gone]
    again = open_store(url)
    assert again.digest(name) == gone.digest != again.digest(f"{name}x")  # every server knows whom it means
    assert store.append([mine[0]]) == [True]  # the id is free again
    store.erase(name)
    again.close()
    path = Path(url)
    if path.is_file():
        assert not [p for p in path.parent.iterdir() if name.encode() in p.read_bytes()]
    store.close()


def test_it_is_there_after_opening_again(url: str) -> None:
    store = open_store(url)
    cursor = _drained(store)
    store.append([A])
    store.close()
    again = open_store(url)
    assert again.since(cursor)[0] == [A]
    again.close()


_WRITER = """
import sys
from corella.serving.store.records import Event
from corella.serving.store.log import open_store
store = open_store(sys.argv[1])
for n in range(100_000):
    store.append([Event("killed", f"i{n}", n % 2, n)])
    print(n, flush=True)
"""


def test_nothing_acknowledged_is_lost_to_a_kill(url: str) -> None:
    """A writer is killed with -9 in the middle: every event that it had reported is there, at most one more."""
    store = open_store(url)
    cursor = _drained(store)
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(200)]
    writer.kill()
    acknowledged += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    found = [event.timestamp for event in store.since(cursor)[0]]
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) <= len(acknowledged) + 1
    store.close()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be opened"):
        open_store(str(tmp_path / "file" / "events.db"))
    with pytest.raises(UserError, match="no store 'mysql'"):
        open_store("mysql://localhost/x")
    with pytest.raises(UserError, match="cannot be opened"):
        open_store(f"redis://127.0.0.1:{_free_port()}/0")
    with pytest.raises(UserError, match="cannot be opened"):
        open_store(f"postgresql://nobody@127.0.0.1:{_free_port()}/x")


def test_urls_of_files(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/a.db", f"{tmp_path}/b.db"):
        open_store(url).close()
    assert sorted(p.name for p in tmp_path.glob("*.db")) == ["a.db", "b.db"]


def test_a_closed_store_is_an_error(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "events.db"))
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append([A])

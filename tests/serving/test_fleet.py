"""Two servers of the service on one Redis, with one language model, as deploy/compose.yaml has them: each part is
killed in turn under steady requests."""

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from deployed import SERVERS, Deployed, a_user, has_redis

from corella.files import verify_manifest, write_manifest
from corella.ranking.io import save_ranking
from corella.ranking.model import FittedRanking
from corella.serving.versions.folder import Version, Versions

pytestmark = pytest.mark.skipif(not has_redis(), reason="redis-server is not installed")
ONE, OTHER = SERVERS


@pytest.fixture(scope="module")
def fleet(tiny_system: FittedRanking, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("fleet")
    save_ranking(tiny_system, folder / "run" / "model")
    found = Deployed(folder / "run", folder)
    try:
        found.start("redis")
        found.start("llm")
        time.sleep(1.0)  # a server that finds no store does not start
        for name in SERVERS:
            found.start(name)
        found.whole()
        yield found
    finally:
        found.stop()


@dataclass
class _Steady:
    """Asks the servers in turn; who is not there is passed over once, as a proxy does."""

    fleet: Deployed
    answers: list[tuple[int, Any]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def __enter__(self) -> "_Steady":
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *given: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stopped.is_set():
            number += 1
            first, second = SERVERS if number % 2 else SERVERS[::-1]
            body = {"user_id": f"u{number % 28:02}", "items": ["i00", "i01", "i02"]}
            for server in (first, second):
                try:
                    self.answers.append(self.fleet.ask(server, "/v1/score", body))
                    break
                except OSError as error:
                    said = f"{server}: {error}"
            else:
                self.lost.append(said)
            self._stopped.wait(0.03)

    def more(self, count: int = 25) -> list[str]:
        """Wait for so many answers more; why each of them fell back (empty: it did not)."""
        begin = len(self.answers)
        self.fleet.wait("answers", lambda: len(self.answers) + len(self.lost) >= begin + count)
        assert not self.lost and {status for status, _ in self.answers[begin:]} == {200}
        return ["".join({one["fallback"] for one in body["items"]}) for _, body in self.answers[begin:]]

    def until(self, fallback: str) -> None:
        """Wait until all of some answers say this."""
        self.fleet.wait(f"fallback '{fallback}'", lambda: set(self.more(6)) == {fallback})


def _history(fleet: Deployed, server: str, user: str) -> list[str]:
    status, found = fleet.ask(server, f"/v1/users/{user.replace(' ', '%20')}/history")
    return [one["item_id"] for one in found["history"]] if status == 200 else []


def _like(fleet: Deployed, server: str, user: str, item: str) -> int:
    return fleet.ask(server, "/v1/events", {"user_id": user, "item_id": item, "liked": True})[0]


def test_what_one_is_told_the_other_knows(fleet: Deployed) -> None:
    user, item = a_user(), f"new-{a_user()[-8:]}"
    assert _like(fleet, ONE, user, "i03") == 201
    fleet.wait("the event is there", lambda: _history(fleet, OTHER, user) == ["i03"])
    assert fleet.ask(OTHER, f"/v1/items/{item}", {"text": "Film new"}, "PUT")[0] == 200
    fleet.wait("the item is there", lambda: fleet.ask(ONE, f"/v1/items/{item}")[0] == 200)
    assert fleet.ask(ONE, f"/v1/items/{item}")[1]["text"] == "Film new"
    status, scored = fleet.ask(ONE, "/v1/score", {"user_id": user, "items": [item]})
    assert status == 200 and scored["items"][0]["known"]
    assert fleet.ask(ONE, f"/v1/users/{user.replace(' ', '%20')}", method="DELETE")[0] == 200
    fleet.wait("the user is gone", lambda: _history(fleet, OTHER, user) == [])


def test_a_server_is_killed(fleet: Deployed) -> None:
    user = a_user()
    with _Steady(fleet) as steady:
        steady.until("")
        fleet.kill(ONE)
        assert set(steady.more()) == {""}  # the language model answered all the same
        assert _like(fleet, OTHER, user, "i05") == 201
        fleet.start(ONE)
        fleet.whole()
        assert set(steady.more()) == {""}
    assert not steady.lost
    fleet.wait("what it missed is there", lambda: _history(fleet, ONE, user) == ["i05"])


def test_the_language_model_is_killed(fleet: Deployed) -> None:
    with _Steady(fleet) as steady:
        steady.until("")
        fleet.kill("llm")
        assert set(steady.more()) <= {"", "fault"}
        steady.until("fault")
        for server in SERVERS:
            status, found = fleet.ready(server)
            assert status == 200 and not found["language_model"]
            assert [problem["part"] for problem in found["problems"]] == ["language model"]
        fleet.start("llm")
        steady.until("")
        fleet.whole()
    assert not steady.lost and all(fleet.ready(server)[1]["problems"] == [] for server in SERVERS)


def test_the_store_is_killed(fleet: Deployed) -> None:
    user = a_user()
    assert _like(fleet, ONE, user, "i06") == 201
    with _Steady(fleet) as steady:
        fleet.kill("redis")
        for server in SERVERS:
            fleet.wait("it says so", lambda server=server: fleet.ready(server)[0] == 503)  # type: ignore[misc]
            assert "store" in [problem["part"] for problem in fleet.ready(server)[1]["problems"]]
        assert _like(fleet, OTHER, user, "i07") == 503
        assert set(steady.more()) == {""}
        fleet.start("redis")
        for server in SERVERS:
            fleet.wait("it is there again", lambda server=server: _like(fleet, server, user, "i08") < 300)  # type: ignore[misc]
            fleet.wait("it is ready", lambda server=server: fleet.ready(server)[0] == 200)  # type: ignore[misc]
    assert not steady.lost
    for server in SERVERS:
        fleet.wait("nothing is lost", lambda server=server: {"i06", "i08"} <= set(_history(fleet, server, user)))  # type: ignore[misc]


def test_another_version_is_put_in_service(fleet: Deployed) -> None:
    """Both servers change, and the language model's server has it loaded when they do."""
    versions = Versions(fleet.run)
    _copied(fleet.run / "model", versions.folder("2") / "model")
    versions.write(Version("2", "", "", None))
    with _Steady(fleet) as steady:
        steady.until("")
        versions.serve("2")
        for server in SERVERS:
            fleet.wait("it serves", lambda server=server: "-2-" in fleet.ready(server)[1]["version"])  # type: ignore[misc]
        steady.until("")  # at once, but where it takes more than a minute to load
    assert not steady.lost


def _copied(model: Path, to: Path) -> None:
    """The same model under another hash."""
    form = verify_manifest(model).format
    shutil.copytree(model, to)
    with (to / "config.yaml").open("a") as config:
        config.write("# another version\n")
    write_manifest(to, form)

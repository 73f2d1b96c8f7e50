"""What a service was told becomes the next version of its model, which serves unless it is worse."""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from spoken_for import SpokenFor
from starlette.testclient import TestClient
from typer.testing import CliRunner

from corella.cli import app
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.ranking.io import save_ranking
from corella.ranking.model import FittedRanking
from corella.runs.folder import RunFolder
from corella.serving import swap as swap_module
from corella.serving.http.api import attach, create_app
from corella.serving.http.keys import KeyRing, read_keys
from corella.serving.serve import build_service, version_of, whole_app
from corella.serving.settings import ServingSettings
from corella.serving.store.log import Store, open_store
from corella.serving.store.records import Event, Item, Person, Undone
from corella.serving.swap import Built, Swapper
from corella.serving.versions import retrain as retrain_module
from corella.serving.versions.folder import Compared, Version, Versions
from corella.serving.versions.gate import passes
from corella.serving.versions.retrain import retrain
from corella.serving.versions.told import export_events, told

SETTINGS = ServingSettings.model_validate({"clock": "log", "overload_ms": 1e9, "share": 0.0})


@pytest.fixture
def run(tiny_system: FittedRanking, tmp_path: Path) -> Path:
    save_ranking(tiny_system, tmp_path / "run" / "model")
    return tmp_path / "run"


@pytest.fixture
def store(run: Path) -> Store:
    return open_store(str(RunFolder(run).events))


def _events(dataset: Dataset, count: int = 120) -> list[Event]:
    """Likes and dislikes after the log, of users and items that it has."""
    rng = np.random.default_rng(5)
    last = int(dataset.log["timestamp"].max())  # type: ignore[arg-type]
    pairs = rng.permutation(40 * 40)[:count]
    return [
        Event(f"u{p // 40:02}", f"i{p % 40:02}", int(rng.random() < 0.5), last + 10 * n, event_id=f"e{n}")
        for n, p in enumerate(pairs.tolist())
    ]


def test_what_was_told_is_told_once_and_without_what_was_taken_back(store: Store, tmp_path: Path) -> None:
    events = [Event("u", f"i{n}", n % 2, 5 + n, 4.5 if n else None, event_id=f"e{n}") for n in range(4)]
    store.append([*events, Undone("e1", "u", "i1", "like", 1.0, 6), Event("u", "i9", None, 9, kind="view")])
    store.append([Item("n1", "New", {"genres": ["A"]}), Person("p", "Somebody"), Event("gone", "i1", 1, 5)])
    store.erase("gone")
    found = told(store)
    assert found.frame()["event_id"].to_list() == ["e0", "e2", "e3", ""]
    assert found.frame(labelled=True)["item_id"].to_list() == ["i0", "i2", "i3"]
    assert found.item_rows().rows() == [("n1", "New", ["A"])] and found.people_rows().rows() == [("p", "Somebody")]
    assert found.erased == {store.digest("gone")} and found.cursor == store.since("")[1]
    for name, read in (("a.parquet", pl.read_parquet), ("a.csv", pl.read_csv), ("a.jsonl", pl.read_ndjson)):
        assert export_events(store, tmp_path / name) == 4
        assert read(tmp_path / name)["label"].to_list() == [0, 0, 1, None]
    with pytest.raises(UserError, match=r"written as \.parquet"):
        export_events(store, tmp_path / "a.xlsx")


def test_a_version_learns_of_the_log_and_of_the_service(run: Path, store: Store, tiny_dataset: Dataset) -> None:
    events = _events(tiny_dataset)
    store.append([*events, Item("n1", "Film new", {"genres": ["Action"]}), Event("u05", "n1", 1, 10**6)])
    store.append([Event("left", "i01", 1, 5)])
    store.erase("left")
    store.erase("u03")
    made = retrain(run, store)
    versions = Versions(run)
    assert (made.version.name, versions.names()) == ("2", ["1", "2"])
    assert made.version.compared is not None and made.version.compared.rows > 10
    assert made.serves == passes(made.version.compared) and versions.serving == ("2" if made.serves else "1")
    model = build_service(versions.folder("2"), SETTINGS, store=str(RunFolder(run).events)).model
    log = model.dataset.log
    assert "u03" not in log["user_id"].to_list() and "n1" in model.dataset.items["item_id"].to_list()
    kept = {(e.user_id, e.item_id) for e in events if e.user_id != "u03"}
    assert kept <= set(log.select("user_id", "item_id").iter_rows())
    assert not log.select("user_id", "item_id").is_duplicated().any()
    with pytest.raises(UserError, match="nothing was told"):
        versions.serve("2")
        retrain(run, store)


def test_what_a_version_learned_is_not_counted_twice(run: Path, store: Store, tiny_dataset: Dataset) -> None:
    """A service of the new version has the same histories and counts as one of the first that was told all."""
    events = _events(tiny_dataset)
    store.append(events)
    retrain(run, store)
    versions, url = Versions(run), str(RunFolder(run).events)
    first = build_service(run, SETTINGS, store=url)
    second = build_service(versions.folder("2"), SETTINGS, store=url, included=versions.version("2").cursor)
    for user in ("u00", "u07", "u39"):
        assert sorted(first.live.answered(user)) == sorted(second.live.answered(user))
    for item in ("i00", "i21"):
        codes = [one.live.catalogue.codes[item] for one in (first, second)]
        assert first.live.popularity(codes[0]) == second.live.popularity(codes[1])
    gone = events[-1]
    undone = Undone(gone.event_id, gone.user_id, gone.item_id, gone.kind, 1.0, gone.timestamp)
    asyncio.run(second.feed.put(undone))
    assert (gone.item_id, gone.label) not in second.live.answered(gone.user_id)


def test_a_retraining_that_was_killed_goes_on(
    run: Path, store: Store, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(_events(tiny_dataset))
    monkeypatch.setattr(retrain_module, "compare", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        retrain(run, store)
    assert Versions(run).names() == ["1"] and Versions(run).serving == "1"
    monkeypatch.setattr(retrain_module, "fit_ranking", lambda *given: 1 / 0)
    monkeypatch.setattr(retrain_module, "compare", lambda *given: None)
    assert retrain(run, store).version.name == "2"  # the model was there


def test_a_worse_version_does_not_serve(
    run: Path, store: Store, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(_events(tiny_dataset))
    worse = Compared(100, 20, 0.7, 0.6, -0.1, -0.15, -0.05)
    monkeypatch.setattr(retrain_module, "compare", lambda *given: worse)
    monkeypatch.setattr(retrain_module, "fit_ranking", lambda config, dataset, *given: _copy(run, dataset))
    made = retrain(run, store)
    assert not made.serves and Versions(run).serving == "1" and Versions(run).version("2").compared == worse
    Versions(run).serve("2")  # somebody who knows better
    assert Versions(run).serving == "2"
    with pytest.raises(UserError, match="has no version 7; there are 1, 2"):
        Versions(run).serve("7")


def _copy(run: Path, dataset: Dataset) -> FittedRanking:
    from corella.ranking.io import load_ranking

    return load_ranking(RunFolder(run).model)


def test_a_swap_drops_no_request(
    run: Path, store: Store, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests go on while another version is put in service, by the pointer and by the API, and back."""
    monkeypatch.setattr(swap_module, "_LOOK_SECONDS", 0.05)
    versions, url = Versions(run), str(RunFolder(run).events)
    save_ranking(_copy(run, tiny_dataset), versions.folder("2") / "model")
    versions.write(Version("2", "", "2026-01-01T00:00:00+00:00", None))

    def build(name: str) -> Built:
        service = build_service(versions.folder(name), SETTINGS, store=url)
        service.engine = SpokenFor()
        return Built(service, version_of(run, name))

    served = create_app(build("1").service, KeyRing(None), [], version_of(run))
    swapper = Swapper(served, run, build, attach)
    served.state.context.versions, served.state.context.swap = versions, swapper.choose
    served.state.beside.append(swapper)
    with TestClient(served, base_url="http://localhost") as client:
        answers: list[tuple[int, str]] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                answer = client.post("/v1/recommend", json={"user_id": "u05", "k": 2})
                answers.append((answer.status_code, answer.json()["version"]))

        asking = threading.Thread(target=ask)
        asking.start()
        sent = {"user_id": "guest", "item_id": "i01", "liked": True}
        assert client.post("/v1/events", json=sent).status_code == 201
        versions.serve("2")
        for _ in range(200):
            if answers and "-2-" in answers[-1][1]:
                break
            time.sleep(0.05)
        assert client.get("/v1/users/guest/history").json()["answers"] == 1  # the new one was told too
        assert client.get("/v1/versions").json()["serving"] == "2"
        assert client.post("/v1/versions/1").json()["serving"] == "1" == versions.serving
        assert client.post("/v1/versions/9").status_code == 422
        (versions.folder("2") / "model" / "manifest.json").write_text("{}")
        assert client.post("/v1/versions/2").status_code == 422
        assert client.get("/v1/versions").json()["serving"] == "1"
        done.set()
        asking.join()
    assert {status for status, _ in answers} == {200}
    named = [version.split("-")[1] for _, version in answers]
    assert set(named) == {"1", "2"} and named[-1] == "1"


def test_an_experiment_between_two_versions(run: Path, store: Store, tiny_dataset: Dataset) -> None:
    """Each user is answered by their arm's version, both hear what is told, and outcomes go to the arms."""
    versions = Versions(run)
    save_ranking(_copy(run, tiny_dataset), versions.folder("2") / "model")
    versions.write(Version("2", "", "2026-01-01T00:00:00+00:00", None))
    given = {"name": "two", "arms": {"old": {"version": "1"}, "new": {"version": "2"}}, "outcomes": ["like"]}
    settings = ServingSettings.model_validate({**SETTINGS.model_dump(exclude_unset=True), "experiment": given})
    served = whole_app(run, settings)
    for context in (served.state.context, *served.state.context.beside.values()):
        context.service.engine = SpokenFor()
    with TestClient(served, base_url="http://localhost") as client:
        users = [f"u{n:02}" for n in range(12)]
        pages = {user: client.post("/v1/recommend", json={"user_id": user, "k": 3}).json() for user in users}
        assert {page["arm"] for page in pages.values()} == {"old", "new"}
        for page in pages.values():
            assert page["version"].split("-")[1] == {"old": "1", "new": "2"}[page["arm"]]
        for user, page in pages.items():
            sent = {"user_id": user, "item_id": page["items"][0]["item_id"], "liked": True}
            assert client.post("/v1/events", json=sent).status_code == 201
            again = client.post("/v1/recommend", json={"user_id": user, "k": 3}).json()
            assert sent["item_id"] not in [item["item_id"] for item in again["items"]]  # that version heard it too
        for name in ("1", "2"):
            counted = served.state.context.beside[name].service.live.people.count(users[0])
            assert counted == served.state.context.service.live.people.count(users[0])
        told = client.get("/v1/experiment").json()["standing"]["arms"]
        assert [arm["name"] for arm in told] == ["old", "new"]


def test_the_commands(run: Path, store: Store, tiny_dataset: Dataset, tmp_path: Path) -> None:
    """From events to a version that serves, and back."""

    def call(*words: str) -> str:
        found = CliRunner().invoke(app, list(words))
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return " ".join(found.output.split())

    with pytest.raises(UserError, match="nothing was told to its service"):
        call("retrain", str(run))
    store.append(_events(tiny_dataset))
    assert call("export-events", str(run), str(tmp_path / "events.csv")).startswith("120 events written to")
    with pytest.raises(UserError, match="last or first, not 'both'"):
        call("retrain", str(run), "--repeats", "both")
    said = call("retrain", str(run))
    assert "version 2, 20" in said and ("it serves now" in said or "that is worse" in said)
    listed = call("versions", str(run))
    assert "version 1: the run itself" in listed and "version 2" in listed
    assert call("rollback", str(run), "--to", "2") == "version 2 serves"
    assert call("rollback", str(run)) == "version 1 serves"
    with pytest.raises(UserError, match="there is none before it"):
        call("rollback", str(run))
    with pytest.raises(UserError, match="no page was shown by lot"):
        call("off-policy", str(run), "--share", "0")
    with pytest.raises(UserError, match="'soon' is no time"):
        call("serve", str(run), "--retrain-every", "soon")
    keys = tmp_path / "keys.json"
    for name in ("shop", "page"):
        assert len(call("make-key", str(keys), "--name", name, "--scope", "write", "--weight", "0")) > 30
    call("revoke-key", str(keys), "--name", "page")
    assert [(key.name, key.weight) for key in read_keys(keys)] == [("shop", 0.0)]

"""The living service: events of all kinds, hostile requests, new items, swaps, erasure, experiments.

    python benchmarks/service.py --run RUN        # a trained run with a retrieval; needs the load generator `hey`

Every part starts a real server and talks to it over HTTP on the loopback address. Finished parts are kept in --work.
"""

import argparse
import json
import random
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common import commit, run, write_result
from corella.experiments import sequences
from corella.files import read_json, write_json
from corella.runs.folder import RunFolder
from corella.serving.versions.folder import Version, Versions
from service_memory import memory
from serving import CURRENT, get, latency, malformed, people, post, server, wait_for_language_model

TEXT = """\
`crm_p99_ms`, `overload_*`: as on the page of serving. `events_lost`: of 10,000 acknowledged records of all kinds
(likes, views, ratings, items put and deleted, users, events taken back), sent by eight at once when kill -9 comes,
those that a new start does not know. `malformed_5xx`: answers of 500 and above to malformed requests.
`loop_blocked_ms`: the longest time that the event loop was held while 1,000 hostile requests came, the largest and
oddest that the limits allow. `events_per_second`: lines of one NDJSON stream until all are acknowledged, into SQLite
on a disk. `new_item_seconds`: from the answer to PUT until the item is recommended to a user who likes such texts,
the worst of ten. `swap_dropped_requests`: of 5,000 requests under load, during which two versions take turns, those
not answered with 200. `erased_traces`: files of run and store that hold the id of an erased user. `aa_false_alarms`:
share of 1,000 simulated A/A tests, watched after each of 10,000 outcomes, that ever alarm; `ab_power`: share of 400
simulated experiments with +2 % relative (rate .3) that are found by the promised number of users. `memory_gib`:
service and language model's process together, 100,000 items, 1,000,000 events of 100,000 users told since the
training; what both share is counted once."""


def hostile(arguments: argparse.Namespace) -> dict[str, Any]:
    """The largest and oddest requests that the limits allow."""
    users, items = people(arguments)
    all_items = pl.read_parquet(RunFolder(arguments.run).model / "dataset" / "items.parquet")["item_id"].to_list()
    drawn = random.Random(1)
    odd = [": " * 249 + "x", "e\u0301" * 249, "\ufdfa" * 499, "\u200b" * 499, "x" * 500, "Yes: " * 99]
    history = [{"item_id": drawn.choice(items), "liked": True} for _ in range(1000)]
    bodies = {
        "1,000 items": ("/v1/score", {"user_id": users[0], "items": all_items[:1000]}),
        "a history of 1,000": ("/v1/score", {"history": history, "items": items[:10]}),
        "100 odd texts": ("/v1/score", {"user_id": users[0], "items": [{"text": t} for t in (odd * 17)[:100]]}),
        "1,000 candidates, 16 filters": ("/v1/recommend", {
            "user_id": users[0], "candidates": 1000, "k": 100, "explain": True,
            "filters": [{"field": "genres", "none_of": [f"{n}" * 100] * 100} for n in range(16)],
        }),
        "a long search": ("search", "x y " * 50),
        "deep JSON": ("raw", b'{"a":' * 2000 + b"1" + b"}" * 2000),
        "a megabyte of brackets": ("raw", b"[" * 1_000_000),
        "a megabyte of wrong entries": ("raw", b'{"items": [' + b"1," * 500_000 + b"1]}"),
        "10,000 to exclude": ("/v1/recommend", {"user_id": users[0], "exclude": [f"no {n}" for n in range(10_000)]}),
        "lines": ("/v1/events/bulk", b'{"user_id": "' + b"u" * 5000 + b'"}\n'),
    }  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "late"
        with server(arguments, watched=path, requests_per_second=1e6, overload_ms=60_000) as address:
            wait_for_language_model(address)  # loading, it shares the processors
            for what, (route, body) in bodies.items():
                path.with_suffix(".reset").touch()
                time.sleep(0.3)
                for _ in range(1000 // len(bodies)):
                    _send(address, route, body)
                rows.append({"what": what, "loop_ms": float(path.read_text())})
    return {"rows": rows, "figures": {"loop_blocked_ms": max(row["loop_ms"] for row in rows)}}


def _send(address: str, route: str, body: Any) -> int:
    if route == "search":
        url, data = f"{address}/v1/items/search?q={urllib.request.quote(body)}", None
    else:
        url = address + ("/v1/score" if route == "raw" else route)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _call(url: str, method: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def kill(arguments: argparse.Namespace) -> dict[str, Any]:
    """kill -9 while records of all kinds are sent; what was acknowledged is looked for after a new start."""
    _, items = people(arguments)
    wanted = arguments.records
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "events.db")
        kept: list[tuple[str, str, str]] = []
        with server(arguments, store=store, requests_per_second=1e6) as address:

            def send(worker: int) -> None:
                for n in range(wanted):
                    name, kind = f"{worker}-{n}", ("like", "view", "rating", "item", "gone", "user", "undone")[n % 7]
                    try:
                        told = _told(address, kind, name, items[n % 100])
                    except (OSError, ValueError):
                        return
                    kept.append((kind, name, told))
                    if len(kept) == wanted:
                        CURRENT[address].kill()  # while the other senders' answers are on the way

            with ThreadPoolExecutor(8) as senders:
                list(senders.map(send, range(8)))
        with server(arguments, store=store, requests_per_second=1e6) as address:
            lost = sum(not _there(address, *one) for one in kept)
    rows = [
        {"kind": kind, "acknowledged": sum(k == kind for k, _, _ in kept)} for kind in sorted({k for k, _, _ in kept})
    ]
    return {"rows": rows, "figures": {"events_acknowledged": len(kept), "events_lost": lost}}


def _told(address: str, kind: str, name: str, item: str) -> str:
    """Tell one thing; the event's id, where it is one."""
    event = {"user_id": f"u-{name}", "item_id": item}
    match kind:
        case "like" | "undone":
            event_id = str(_call(address + "/v1/events", "POST", {**event, "liked": True})["event_id"])
            if kind == "undone":
                _call(f"{address}/v1/events/{event_id}", "DELETE")
            return event_id
        case "view":
            return str(_call(address + "/v1/events", "POST", {**event, "kind": "view"})["event_id"])
        case "rating":
            return str(_call(address + "/v1/events", "POST", {**event, "rating": 5})["event_id"])
        case "user":
            _call(f"{address}/v1/users/u-{name}", "PUT", {"text": f"Somebody {name}"})
        case _:
            _call(f"{address}/v1/items/i-{name}", "PUT", {"text": f"A film {name}"})
            if kind == "gone":
                _call(f"{address}/v1/items/i-{name}", "DELETE")
    return ""


def _there(address: str, kind: str, name: str, told: str) -> bool:
    if kind in ("item", "gone"):
        try:
            return bool(get(f"{address}/v1/items/i-{name}")) and kind == "item"
        except urllib.error.HTTPError:
            return kind == "gone"
    held = get(f"{address}/v1/users/u-{name}")
    ids = {row["body"].get("event_id") for row in held["records"]}
    if kind == "user":
        return bool(held["text"] == f"Somebody {name}")
    if kind == "undone":
        return told in ids and held["history"] == []
    return told in ids and (kind == "view" or len(held["history"]) == 1)


def bulk(arguments: argparse.Namespace) -> dict[str, Any]:
    """One stream of events."""
    _, items = people(arguments)
    drawn = random.Random(2)
    lines = [
        json.dumps({"user_id": f"b{drawn.randrange(20_000)}", "item_id": drawn.choice(items), "kind": "click",
                    "event_id": f"e{n}", "timestamp": 1_700_000_000 + n})
        for n in range(arguments.lines)
    ]  # fmt: skip
    with server(arguments, requests_per_second=1e9, overload_ms=60_000) as address:
        wait_for_language_model(address)
        began = time.perf_counter()
        asked = urllib.request.Request(address + "/v1/events/bulk", "\n".join(lines).encode(), {})
        with urllib.request.urlopen(asked, timeout=600) as answer:
            told = json.load(answer)
        seconds = time.perf_counter() - began
    rows = [{"what": "lines", "number": told["lines"]}, {"what": "recorded", "number": told["recorded"]}]
    return {"rows": rows, "figures": {"events_per_second": told["recorded"] / seconds}}


def new_items(arguments: argparse.Namespace) -> dict[str, Any]:
    """From PUT to recommended."""
    users, _ = people(arguments)
    rows = []
    with server(arguments, requests_per_second=1e6) as address:
        wait_for_language_model(address)
        for n, user in enumerate(users[:10]):
            liked = [row for row in get(f"{address}/v1/users/{user}/history")["history"] if row["liked"]]
            item = get(f"{address}/v1/items/{liked[0]['item_id']}")
            _call(f"{address}/v1/items/new-{n}", "PUT", {"text": item["text"], "fields": item["fields"]})
            began, there = time.perf_counter(), False
            while not there and time.perf_counter() - began < 10:
                found = post(address + "/v1/recommend", {"user_id": user, "k": 100})["items"]
                there = f"new-{n}" in {one["item_id"] for one in found}
            place = next((p for p, one in enumerate(found, 1) if one["item_id"] == f"new-{n}"), 0)
            rows.append({"user": n, "seconds": time.perf_counter() - began, "place": place})
    return {"rows": rows, "figures": {"new_item_seconds": max(row["seconds"] for row in rows)}}


def swap(arguments: argparse.Namespace) -> dict[str, Any]:
    """Requests under load while versions take turns."""
    users, _ = people(arguments)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(arguments.run, copy, ignore=shutil.ignore_patterns("events.db*", "checkpoints"))
        versions = Versions(copy)
        for name in ("model", "retrieval"):
            shutil.copytree(copy / name, versions.folder("2") / name)
        versions.write(Version("2", "", "2026-01-01T00:00:00+00:00", None))
        there = argparse.Namespace(**{**vars(arguments), "run": copy})
        with server(there, requests_per_second=1e6, overload_ms=60_000) as address:
            statuses: list[int] = []
            lock, swaps = threading.Lock(), 0

            def ask(worker: int) -> None:
                while len(statuses) < arguments.requests:
                    body = {"user_id": users[worker % len(users)], "k": 10}
                    status = _send(address, "/v1/recommend", body)
                    with lock:
                        statuses.append(status)

            with ThreadPoolExecutor(4) as senders:
                asked = [senders.submit(ask, worker) for worker in range(4)]
                while not all(one.done() for one in asked):
                    versions.serve("12"[(swaps + 1) % 2])
                    for _ in range(400):
                        time.sleep(0.1)
                        if get(address + "/v1/traffic")["version"].split("-")[-2] == versions.serving:
                            swaps += 1
                            break
                        if all(one.done() for one in asked):
                            break
    dropped = sum(status != 200 for status in statuses[: arguments.requests])
    rows = [{"what": "requests", "number": len(statuses)}, {"what": "swaps meanwhile", "number": swaps}]
    return {"rows": rows, "figures": {"swap_dropped_requests": dropped, "swaps": swaps}}


def erase(arguments: argparse.Namespace) -> dict[str, Any]:
    """Files that hold an erased user's id."""
    _, items = people(arguments)
    name = "erase-me-4c1f0a"
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "events.db"
        with server(arguments, store=str(store), impressions=True) as address:
            for n in range(50):
                told = _call(
                    address + "/v1/events", "POST", {"user_id": name, "item_id": items[n], "liked": n % 2 == 0}
                )
            _call(f"{address}/v1/events/{told['event_id']}", "DELETE")
            _call(f"{address}/v1/users/{name}", "PUT", {"text": "A woman"})
            _call(address + "/v1/recommend", "POST", {"user_id": name, "k": 5})
            time.sleep(1.5)  # the page that was shown is kept behind the request
            before = sum(name.encode() in path.read_bytes() for path in Path(folder).iterdir())
            gone = _call(f"{address}/v1/users/{name}", "DELETE")["records"]
            files = [*Path(folder).iterdir(), *(p for p in arguments.run.rglob("*") if p.is_file())]
            traces = sum(name.encode() in path.read_bytes() for path in files)
        traces += sum(name.encode() in path.read_bytes() for path in Path(folder).iterdir())
    rows = [{"what": "files with the id before", "number": before}, {"what": "records erased", "number": gone}]
    return {"rows": rows, "figures": {"erased_traces": traces}}


def experiments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Simulated experiments."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(1000):
        arm, won = rng.integers(0, 2, 10_000), rng.random(10_000) < 0.3
        count = np.stack([np.cumsum(arm == a) for a in (0, 1)])
        total = np.stack([np.cumsum((arm == a) * won) for a in (0, 1)]).astype(float)
        low, high = sequences.bounds(count, total, total, horizon=2500)
        alarms += bool(((low > 0) | (high < 0)).any())
    needed = sequences.needed(0.3, 0.02)
    looks = np.linspace(needed / 200, needed, 200).astype(int)
    found = 0
    for _ in range(400):
        steps = np.diff(np.r_[0, looks])
        total = np.stack([np.cumsum(rng.binomial(steps, p)) for p in (0.3, 0.306)]).astype(float)
        low, _ = sequences.bounds(np.stack([looks, looks]), total, total, horizon=needed)
        found += bool((low > 0).any())
    rows = [{"what": "A/A tests that alarm", "number": alarms}, {"what": "users an arm, promised", "number": needed}]
    return {"rows": rows, "figures": {"aa_false_alarms": alarms / 1000, "ab_power": found / 400}}


PARTS = {
    "latency": latency, "kill": kill, "malformed": malformed, "hostile": hostile, "bulk": bulk, "new_items": new_items,
    "swap": swap, "erase": erase, "experiments": experiments, "memory": memory,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-service"))
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--malformed", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--requests", type=int, default=5000)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    commits: dict[str, str] = {}
    table: list[dict[str, Any]] = []
    for name, part in PARTS.items():
        path = arguments.work / f"{name}.json"
        if name in arguments.parts and not path.is_file():
            write_json(path, {"commit": commit(), **part(arguments)})
        if path.is_file():
            found = read_json(path)
            figures |= found["figures"]
            table += [{"part": name, **row} for row in found["rows"]]
            commits[name] = found["commit"]
    write_result("service", "A living service", TEXT, table, figures, {"seeds": [1], "commits": commits})


if __name__ == "__main__":
    run(main)

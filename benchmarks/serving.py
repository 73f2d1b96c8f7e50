"""Serving: shared prefixes against separate prompts, latency, overload, kills, malformed requests.

    python benchmarks/serving.py --run RUN        # a trained run; needs the load generator `hey` (a Debian package)

Every part that needs a server starts a real one and talks to it over HTTP on the loopback address. Finished parts are
kept in --work; call again after a kill.
"""

import argparse
import csv
import http.client
import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from common import commit, run, write_result
from corella.errors import UserError
from corella.files import read_json, write_json
from malformed import requests as malformed_requests
from prefix import CANDIDATES, HISTORY, llamacpp, prefix

DEADLINE_MS, _LONG_MS = 400.0, 60_000
TEXT = """\
`shared_prefix_speedup`: seconds to score 100 candidates for a user with a history of 30 as 100 separate pointwise
prompts with transformers (the same history, bfloat16, best of three batch sizes, only the last position read) over
seconds for the same as one timeline with 100 branches; nothing kept before. `warm`: with the history kept. Rounds
alternate, medians. `llamacpp_ratio`: seconds of llama.cpp at the fastest of the settings tried (the rows: precision,
flash attention, batch, kind of cache; compiled for this processor) over seconds here, for the same tokens of the same
merged model, one prefix shared by 100 branches in both, rounds alternate, medians; `*_logits_apart`: the largest
difference of its logits from ours. `crm_p99_ms`: a real server, 50
requests a second for 100 items each, nothing routed, at even intervals over one connection, measured by `hey` over
HTTP. `overload_*`: the same server asked for the language model's opinion on all 100 items of eight users in turn at
five times the speed it can read them, deadline 400 ms, while 20 requests a second take the conventional path alone;
`overload_llm_answered_share`: how many of those items the language model answered in time, the others fell back.
`events_lost_after_kill`: of 1,000 and more acknowledged answers, sent by eight at once when kill -9 comes, those that
are not there after a new start. `malformed_5xx`: answers of 500 and above, or none, to malformed requests, almost
right or broken in any way."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-serving"))
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--llamacpp", type=Path, help="an interpreter for llamacpp_peer.py; unset: without llama.cpp")
    parser.add_argument("--malformed", type=int, default=10_000)
    arguments = parser.parse_args()
    if shutil.which("hey") is None:
        raise UserError("the load generator `hey` is not installed: apt-get install hey")
    arguments.work.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    commits: dict[str, str] = {}
    table: list[dict[str, Any]] = []
    for name, part in PARTS.items():
        path = arguments.work / f"{name}.json"
        if name == "llamacpp" and arguments.llamacpp is None and not path.is_file():
            continue
        if name in arguments.parts and not path.is_file():
            write_json(path, {"commit": commit(), **part(arguments)})
        if path.is_file():
            found = read_json(path)
            figures |= found["figures"]
            table += [{"part": name, **row} for row in found["rows"]]
            commits[name] = found["commit"]
    write_result("serving", "Serving", TEXT, table, figures, {"seeds": [1], "commits": commits})


def latency(arguments: argparse.Namespace) -> dict[str, Any]:
    """The conventional path alone, then the same while the language model is overloaded."""
    with server(arguments, share=0.2, deadline_ms=DEADLINE_MS, max_deadline_ms=_LONG_MS) as address:
        users, items = people(arguments)
        wait_for_language_model(address)
        quick = {"user_id": users[0], "items": items, "share": 0.0}
        load(address, quick, seconds=5, per_second=50)
        alone = load(address, quick, seconds=30, per_second=50)
        few = load(address, quick, seconds=20, per_second=20)
        # How many requests it can take: each reads all items' lines behind a kept history.
        began = time.perf_counter()
        for _ in range(3):
            post(address + "/v1/score", {"user_id": users[1], "items": items, "share": 1.0, "deadline_ms": _LONG_MS})
        can = 3 / (time.perf_counter() - began)
        before = get(address + "/v1/traffic")["window"]
        slow = [{"user_id": user, "items": items, "share": 1.0} for user in users[1:9]]
        wanted = max(5 * can, 1.0)
        busy = []
        for body in slow:  # one behind the other: senders that start together would send together all the time
            busy.append(start_load(address, body, 30, wanted / len(slow)))
            time.sleep(1 / wanted)
        beside = load(address, quick, seconds=28, per_second=20)
        heavy = pl.concat([finish_load(process) for process in busy])
        after = get(address + "/v1/traffic")["window"]
    routed, told = (
        after["items"] * after[name] - before["items"] * before[name] for name in ("share_routed", "share_answered")
    )
    sent = pl.concat([alone, few, beside, heavy])
    answered = float((sent["status"] == 200).mean())
    rows = [
        {"what": what, "requests": frame.height, "per_second": rate, "p50_ms": frame["ms"].median(),
         "p99_ms": frame["ms"].quantile(0.99), "answered": float((frame["status"] == 200).mean())}
        for what, frame, rate in (
            ("conventional path, 50 a second", alone, 50.0), ("conventional path, 20 a second", few, 20.0),
            ("the same beside an overloaded language model", beside, 20.0),
            ("all items through the overloaded language model", heavy, wanted),
        )
    ]  # fmt: skip
    return {
        "rows": rows,
        "figures": {
            "crm_p99_ms": rows[0]["p99_ms"], "overload_answered_share": answered,
            "overload_p99_over_deadline_ms": rows[3]["p99_ms"] - DEADLINE_MS,
            "overload_crm_p99_ratio": rows[2]["p99_ms"] / rows[1]["p99_ms"],
            "overload_llm_answered_share": told / routed,
        },
    }  # fmt: skip


def kill(arguments: argparse.Namespace) -> dict[str, Any]:
    """kill -9 while answers are sent; what was acknowledged is counted after a new start."""
    _, items = people(arguments)
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "events.db")
        kept: list[str] = []
        with server(arguments, store=store, share=0.2, requests_per_second=1e6) as address:

            def send(worker: int) -> None:
                for n in range(10_000):
                    user = f"new-{worker}-{n}"
                    try:
                        post(address + "/v1/events", {"user_id": user, "item_id": items[n % 100], "liked": True})
                    except (OSError, http.client.HTTPException):
                        return
                    kept.append(user)
                    if len(kept) == 1000:
                        CURRENT[address].kill()  # while the other senders' answers are on the way

            with ThreadPoolExecutor(8) as senders:
                list(senders.map(send, range(8)))
        with server(arguments, store=store, share=0.2, requests_per_second=1e6) as address:
            there = sum(get(f"{address}/v1/users/{user}/history")["answers"] == 1 for user in kept)
    rows = [{"what": "acknowledged before kill -9", "events": len(kept)}, {"what": "there afterwards", "events": there}]
    return {"rows": rows, "figures": {"events_acknowledged": len(kept), "events_lost_after_kill": len(kept) - there}}


def malformed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Malformed requests: no 5xx, no hang, no growing memory."""
    users, items = people(arguments)
    counts: dict[int, int] = {}
    bad = 0
    with server(arguments, share=0.2, requests_per_second=1e6) as address:
        process, sizes = CURRENT[address], []
        for n, (method, path, headers, body) in enumerate(malformed_requests(arguments.malformed, users, items)):
            if n % (arguments.malformed // 4) == arguments.malformed // 8:
                sizes.append(resident_mib(process.pid))
            try:
                asked = urllib.request.Request(address + path, body, headers, method=method)
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    status = answer.status
            except urllib.error.HTTPError as error:
                status = error.code
            except (OSError, ValueError):
                status = 0
            counts[status] = counts.get(status, 0) + 1
            bad += status >= 500 or status == 0
        alive = get(address + "/healthz")["status"] == "ok"
    rows = [{"what": f"answered {status}", "requests": n} for status, n in sorted(counts.items())]
    return {
        "rows": rows,
        "figures": {"malformed_requests": sum(counts.values()), "malformed_5xx": bad + (not alive),
                    "malformed_memory_growth_mib": sizes[-1] - sizes[0]},
    }  # fmt: skip


PARTS = {"prefix": prefix, "llamacpp": llamacpp, "latency": latency, "kill": kill, "malformed": malformed}
CURRENT: dict[str, subprocess.Popen[bytes]] = {}


@contextmanager
def server(arguments: argparse.Namespace, watched: Path | None = None, **settings: Any) -> Iterator[str]:
    """A real server of the run in a process of its own; yields its address. `watched`: a file for the longest time that
    its event loop is held."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        chosen = {"port": port, "clock": "log", "store": str(Path(folder) / "events.db"), **settings}
        pairs = [f"{name}={value}" for name, value in chosen.items()]
        command = [sys.executable, "-m", "corella", "serve", str(arguments.run)]
        command += [part for pair in pairs for part in ("--set", pair)]
        if watched is not None:
            script = Path(__file__).with_name("watched_server.py")
            command = [sys.executable, str(script), str(arguments.run), str(watched), *pairs]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        address = f"http://127.0.0.1:{port}"
        CURRENT[address] = process
        try:
            for _ in range(3000):
                try:
                    get(address + "/healthz")
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                raise UserError(f"the server of {arguments.run} does not answer within five minutes")
            yield address
        finally:
            process.terminate()
            process.wait(60)


def people(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Users with a history of about 30, and 100 items."""
    folder = arguments.run / "model" / "dataset"
    counts = pl.read_parquet(folder / "log.parquet", columns=["user_id"]).group_by("user_id").len().sort("user_id")
    users = counts.filter(pl.col("len").is_between(HISTORY - 5, HISTORY + 5))["user_id"].to_list()
    return users, pl.read_parquet(folder / "items.parquet")["item_id"].head(CANDIDATES).to_list()


def wait_for_language_model(address: str) -> None:
    for _ in range(600):
        if get(address + "/readyz")["language_model"]:
            return
        time.sleep(0.2)
    raise UserError("the language model did not become ready in two minutes")


def load(address: str, body: dict[str, Any], seconds: float, per_second: float) -> pl.DataFrame:
    """Send one request again and again at a constant rate; `ms` and `status` of each."""
    return finish_load(start_load(address, body, seconds, per_second))


def start_load(address: str, body: dict[str, Any], seconds: float, per_second: float) -> subprocess.Popen[str]:
    workers = max(1, round(per_second / 50))  # several all send at the same moment, and measure their own queue
    command = ["hey", "-z", f"{seconds}s", "-c", str(workers), "-q", f"{per_second / workers:.4f}", "-t", "30"]
    command += ["-m", "POST", "-T", "application/json", "-d", json.dumps(body), "-o", "csv", address + "/v1/score"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish_load(process: subprocess.Popen[str]) -> pl.DataFrame:
    rows = list(csv.DictReader(io.StringIO(process.communicate()[0])))
    return pl.DataFrame(
        {"ms": [1000 * float(r["response-time"]) for r in rows], "status": [int(r["status-code"]) for r in rows]},
        schema={"ms": pl.Float64, "status": pl.Int64},
    )


def post(url: str, body: dict[str, Any]) -> Any:
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return json.load(answer)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def resident_mib(pid: int) -> float:
    """Memory that a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    run(main)

"""Part of service.py: memory of a service with 100,000 items and 1,000,000 events, on made-up rows.

python benchmarks/service_memory.py --work FOLDER      # trains there once, some minutes; then serves and measures
"""

import argparse
import json
import random
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common import run
from corella.config.loading import load_config
from corella.progress import Reporter
from corella.runs.folder import RunFolder
from corella.runs.train import train_retrieval, train_run
from serving import CURRENT, get, post, server, wait_for_language_model

ITEMS, USERS, ROWS, EVENTS, KINDS = 100_000, 20_000, 200_000, 1_000_000, 500


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, serve, tell a million answers, ask, and look at both processes."""
    folder = RunFolder(arguments.work / "large")
    if not folder.has_retrieval:
        _train(folder)
    there = argparse.Namespace(run=folder.path)
    drawn = random.Random(3)
    with server(there, requests_per_second=1e9, overload_ms=600_000, body_seconds=600) as address:
        wait_for_language_model(address)
        rows = [{"what": "before events", "mib": _both(address)}]
        began = time.perf_counter()
        for start in range(0, EVENTS, 100_000):
            lines = "\n".join(
                json.dumps({"user_id": f"n{drawn.randrange(100_000)}", "item_id": f"i{drawn.randrange(ITEMS)}",
                            "kind": "like" if n % 2 else "view", "event_id": f"e{n}", "timestamp": 1_700_000_000 + n})
                for n in range(start, start + 100_000)
            )  # fmt: skip
            with urllib.request.urlopen(address + "/v1/events/bulk", lines.encode(), timeout=600) as answer:
                assert json.load(answer)["recorded"] == 100_000  # noqa: S101
        last = f"n{drawn.randrange(100_000)}"
        post(address + "/v1/events", {"user_id": last, "item_id": "i1", "liked": True, "event_id": "the last"})
        while not any(row["event_id"] == "the last" for row in get(f"{address}/v1/users/{last}/history")["history"]):
            time.sleep(0.5)
        seconds = time.perf_counter() - began
        for n in range(50):
            post(address + "/v1/recommend", {"user_id": f"n{n}", "k": 20, "explain": True})
        rows.append({"what": "after 1,000,000 events, all counted, and 50 requests", "mib": _both(address)})
        rows.append({"what": "seconds until all counted", "number": seconds})
    return {"rows": rows, "figures": {"memory_gib": rows[1]["mib"] / 1024}}


def _both(address: str) -> float:
    """Memory of the service and of the process of its language model, MiB; what both share is counted once."""
    pid = CURRENT[address].pid
    children = [
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return sum(_share_mib(each) for each in (pid, *map(int, children)))


def _share_mib(pid: int) -> float:
    """Resident memory of a process, of pages that it shares its part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _train(folder: RunFolder) -> None:
    """Items of some kinds whose texts say the kind; users like a few kinds."""
    data = folder.path.parent / "data"
    if not data.is_dir():
        data.mkdir(parents=True)
        rng = np.random.default_rng(1)
        kind = rng.integers(0, KINDS, ITEMS)
        user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
        liked = (user % KINDS == kind[item]) | (rng.random(ROWS) < 0.4)
        words = [f"kind{k} thing number {n}" for n, k in enumerate(kind.tolist())]
        pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "title": words}).write_parquet(data / "items.parquet")
        pl.DataFrame(
            {"user_id": [f"u{n}" for n in user.tolist()], "item_id": [f"i{n}" for n in item.tolist()],
             "label": liked.astype(np.int8), "timestamp": 1_600_000_000 + 60 * np.arange(ROWS)}
        ).write_parquet(data / "log.parquet")  # fmt: skip
    settings = {
        "data": {
            "source": "tables", "interactions": {"path": str(data / "log.parquet")},
            "items": {"path": str(data / "items.parquet")}, "label": "label", "item_text": "{title}",
        },
        "joint": {"stages": [1]}, "crm": {"epochs": 1}, "evaluation": {"max_valid": 300},
        "routing": {"rung": 1}, "retrieval": {"fusion": False},
    }  # fmt: skip
    config = load_config(settings=settings)
    reporter = Reporter()
    train_run(folder.path, config, reporter)
    train_retrieval(folder.path, config, reporter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    print(json.dumps(memory(parser.parse_args()), indent=1))


if __name__ == "__main__":
    run(main)

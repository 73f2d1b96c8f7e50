"""Costs that `corella plan` starts from: CPU, memory, tokens, of a trained run and of made-up logs.

    python benchmarks/capacity.py --run RUN        # a run with a retrieval, such as the demo's; some minutes

Everything here is measured on one core (OMP_NUM_THREADS=1); the GPU's figures come from docs/benchmarks/gpu.json.
Finished parts are kept in --work; call again after a kill. Writes docs/benchmarks/capacity.json and the package's
defaults.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in what is started

import argparse
from pathlib import Path
from typing import Any

from capacity_logs import made_up
from capacity_service import events, language_model, requests
from common import DOCS, commit, run, write_result
from corella.capacity.settings import MEASURED, Costs
from corella.files import read_json, write_json

_CANDIDATE_TOKENS, _MODEL = 12, "135M"
"""Of a candidate in benchmarks/gpu_speed.py; and the model there."""

TEXT = """\
What `corella plan` starts from; [the calculator's page](../capacity.md) says what it makes of them. CPU is that of the
processes, all on one core. `request_ms`, `candidate_us`, `retrieval_ms`: a server of the run, 300 requests one behind
the other, with 1 and with 100 items to score, and for 20 recommendations out of 100 candidates. `retrieval_item_ns`: of
made-up catalogues of 100,000 and of 400,000 items, 64 neighbours each. `event_*`: 50,000 events of 5,000 new users,
appended to SQLite by 200, then read and taken in as every replica does. `user_bytes`, `item_bytes`, `row_bytes`:
memory of both processes of a replica on four made-up logs; the same logs tell `prepare_row_*`. `train_row_us` and
`trees_row_us`: the run's settings on 20,000 of its rows. `llm_*`: prompts of 30 of the run's users for 100 items each;
read with nothing kept. `gpu_*`: from [On a GPU](gpu.md)."""


def gpu(arguments: argparse.Namespace) -> dict[str, float]:
    """What the card did in its own benchmark."""
    rows = [row for row in read_json(DOCS / "gpu.json")["rows"] if row["model"] == _MODEL]
    asked = max((r for r in rows if r["what"] == "shared prefix"), key=lambda r: r["candidates_per_second"])
    tokens = asked["history_tokens"] / asked["candidates"] + _CANDIDATE_TOKENS
    return {
        "gpu_tokens_per_second": asked["candidates_per_second"] * tokens, "gpu_requests_a_pass": asked["users"],
        "gpu_training_tokens_per_second": max(r["tokens_per_second"] for r in rows if r["what"].startswith("training")),
    }  # fmt: skip


PARTS = {"requests": requests, "events": events, "language_model": language_model, "made_up": made_up, "gpu": gpu}


def costs_of(found: dict[str, float], sizes: dict[str, float]) -> Costs:
    """All costs; the memory of a run's processes less what its users, items and interactions take."""
    held = sum(found[f"{name}_bytes"] * sizes[f"{name}s"] for name in ("user", "item", "row"))
    scanned = found["retrieval_item_ns"] * sizes["items"] / 1e6
    processes = found.pop("processes_mib") - (held + found["retrieval_item_bytes"] * sizes["items"]) / 2**20
    return Costs(
        **{
            **found, "retrieval_ms": max(found["retrieval_ms"] - scanned, 0.0), "replica_mib": max(processes, 0.0),
        }
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-capacity"))
    parser.add_argument("--small", action="store_true", help="tiny, to see that it runs; writes nothing in docs")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, float] = {}
    sizes: dict[str, float] = {}
    commits: dict[str, str] = {}
    for name, part in PARTS.items():
        path = arguments.work / f"{name}.json"
        if not path.is_file():
            told: dict[str, Any] = part(arguments)
            write_json(path, {"commit": commit(), "sizes": told.pop("sizes", {}), "figures": told})
        kept = read_json(path)
        found, sizes, commits[name] = found | kept["figures"], sizes | kept["sizes"], kept["commit"]
    costs = costs_of(found, sizes).model_dump()
    if arguments.small:
        print(costs)
        return
    rows = [{"measure": f"{name} of the run", "value": value} for name, value in sizes.items()]
    write_result("capacity", "Costs of capacity", TEXT, rows, costs, {"seeds": [1], "commits": commits})
    write_json(MEASURED, costs)


if __name__ == "__main__":
    run(main)

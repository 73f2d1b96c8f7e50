"""Part of capacity.py: memory and preparation by users, items and interactions, on made-up logs; and the scan of large
catalogues.

python benchmarks/capacity_logs.py prepare|rank|retrieve FOLDER     # in a process of its own: prints its figures
"""

import argparse
import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from corella.config import Config, RetrievalConfig
from corella.config.loading import load_config
from corella.data.prepare import prepare
from corella.data.store import load_prepared
from corella.progress import peak_gib
from corella.retrieval.histories import top_items
from corella.retrieval.linear import Linear, Strengths
from corella.serving.engine.asking import Allowed, Candidates
from corella.serving.engine.messages import Asked, pack, unpack
from corella.serving.state.filters import Filters
from corella.serving.state.live import Live
from corella.serving.state.popular import Popular
from corella.serving.state.search import Search
from serving import resident_mib

_LOGS = ((4_000, 2_000, 100_000), (40_000, 2_000, 100_000), (4_000, 6_000, 100_000), (4_000, 2_000, 1_000_000))
"""Users, items, interactions: one more of each."""
_CATALOGUES, _WIDTH, _TIMES = (100_000, 400_000), 384, 20
_TEXT_MATRICES = 4
"""float32 [items, width] that a retrieval holds: texts, texts mapped, what an item says for a text, and the reverse."""


def made_up(arguments: argparse.Namespace) -> dict[str, Any]:
    """Bytes a user, an item and an interaction of both processes; CPU and peak memory of preparing an interaction; the
    scan's time an item."""
    by = 100 if arguments.small else 1
    sizes, held, peaks, cpu = [], [], [], []
    for users, items, rows in _LOGS:
        folder = arguments.work / f"made-up-{users}-{items}-{rows}"
        tables(folder, users // by, items // by, rows // by)
        if items not in {known[2] for known in sizes}:
            _apart("prepare", folder)  # reads the texts, which is paid once an item
        told = _apart("prepare", folder)
        sizes.append([1, told["users"], told["items"], told["rows"]])
        held.append(_apart("rank", folder)["bytes"] + _apart("retrieve", folder)["bytes"])
        peaks.append(told["peak_bytes"])
        cpu.append(told["cpu_seconds"])
        shutil.rmtree(folder)
    _, user, item, row = np.linalg.solve(np.array(sizes, dtype=float), np.array(held))
    more = sizes[3][3] - sizes[0][3]
    return {
        "user_bytes": max(user, 0.0), "item_bytes": max(item, 0.0), "row_bytes": max(row, 0.0),
        "prepare_row_us": 1e6 * (cpu[3] - cpu[0]) / more, "prepare_row_bytes": max((peaks[3] - peaks[0]) / more, 0.0),
        **_scan(by),
    }  # fmt: skip


def tables(folder: Path, users: int, items: int, rows: int) -> None:
    """A log of users who like a few of the kinds that items are of; item texts say the kind."""
    rng = np.random.default_rng(1)
    user, item = np.r_[np.arange(users), rng.integers(0, users, rows - users)], rng.integers(0, items, rows)
    kind = rng.integers(0, 300, items)
    liked = (user % 300 == kind[item]) | (rng.random(rows) < 0.4)
    folder.mkdir(parents=True, exist_ok=True)
    words = [f"kind{k} thing number {n}" for n, k in enumerate(kind.tolist())]
    pl.DataFrame({"item_id": [f"i{n}" for n in range(items)], "title": words}).write_parquet(folder / "items.parquet")
    pl.DataFrame(
        {"user_id": [f"u{n}" for n in user.tolist()], "item_id": [f"i{n}" for n in item.tolist()],
         "label": liked.astype(np.int8), "timestamp": 1_600_000_000 + 60 * np.arange(rows)}
    ).write_parquet(folder / "log.parquet")  # fmt: skip


def _config(folder: Path) -> Config:
    data = {
        "source": "tables", "interactions": {"path": str(folder / "log.parquet")}, "label": "label",
        "items": {"path": str(folder / "items.parquet")}, "item_text": "{title}", "duplicates": "keep",
    }  # fmt: skip
    return load_config(settings={"data": data})


def _apart(what: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, what, str(folder)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def _prepare(folder: Path) -> dict[str, float]:
    """CPU and peak memory of preparing."""
    config = _config(folder)
    began = time.process_time()
    dataset = prepare(config.data, config.seed, folder / "prepared")
    return {
        "cpu_seconds": time.process_time() - began, "peak_bytes": peak_gib() * 2**30,
        "users": dataset.users.height, "items": dataset.items.height, "rows": dataset.log.height,
    }  # fmt: skip


def _rank(folder: Path) -> dict[str, float]:
    """Memory of what the process that ranks knows."""
    before = _resident()
    live = Live(load_prepared(folder / "prepared"))
    dataset = live.dataset
    known = (
        live, Popular(dataset, 1.0), Filters(dataset, list(live.catalogue.fields)),
        Search(dataset.items["text"].to_list()),
    )  # fmt: skip
    live.scope("u1", ["i1", "i2"])
    return {"bytes": _resident() - before, "parts": len(known)}


def _retrieve(folder: Path) -> dict[str, float]:
    """Memory of what the process that retrieves knows beside its matrices: the log, and ids by number."""
    before = _resident()
    dataset = load_prepared(folder / "prepared")
    ids = [
        {name: n for n, name in enumerate(table[column].cast(pl.String).to_list())}
        for table, column in ((dataset.users, "user_id"), (dataset.items, "item_id"))
    ]
    return {"bytes": _resident() - before, "parts": len(ids)}


def _resident() -> float:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident_mib(os.getpid()) * 2**20


def _scan(by: int) -> dict[str, float]:
    """A retrieval's time for each item of the catalogue, its question and its answer packed; and its matrices."""
    seconds, rng = [], np.random.default_rng(1)
    few = RetrievalConfig().neighbours
    sizes = [size // by for size in _CATALOGUES]
    for items in sizes:
        near = np.sort(rng.integers(0, items, (items, few)), axis=1).astype(np.int32)
        weights = csr_matrix(
            (np.ones(items * few, np.float32), near.ravel(), np.arange(items + 1, dtype=np.int64) * few),
            shape=(items, items),
        )
        none = np.zeros((items, 0), np.float32)
        linear = Linear(weights, Strengths(1.0, recency=0.7), none, none.T)
        history, took = rng.integers(0, items, 30), []
        for _ in range(_TIMES):
            began = time.process_time()
            open_now = np.ones(items, bool) & np.ones(items, bool)
            question = Candidates("", [], [], 100, Allowed(open_now, []))
            asked = unpack(pack(Asked(1, 0.0, question)))
            assert isinstance(asked, Asked)  # noqa: S101
            allowed = np.flatnonzero(asked.question.allowed.fitted)
            top_items(linear.scores([history]), [history], 200, allowed)
            took.append(time.process_time() - began)
        seconds.append(float(np.median(took)))
    matrices = weights.data.nbytes + weights.indices.nbytes + weights.indptr.nbytes
    return {
        "retrieval_item_ns": max(1e9 * (seconds[1] - seconds[0]) / (sizes[1] - sizes[0]), 0.0),
        "retrieval_item_bytes": matrices / sizes[1] + _TEXT_MATRICES * 4 * _WIDTH,
    }


if __name__ == "__main__":
    print(json.dumps({"prepare": _prepare, "rank": _rank, "retrieve": _retrieve}[sys.argv[1]](Path(sys.argv[2]))))

"""Training from disk: how its time grows, what memory it takes, and what the order of its rows costs. Writes the part
`train` of docs/benchmarks/scale.json.

    python benchmarks/train_scale.py --work FOLDER [--rows 3e5 1e6 3e6] [--gap-rows 3e5]

Logs are those of synthetic.py, prepared in parts without texts and neighbours. One pass of DCNv2 with count features,
and 100 boosted trees, in a process of their own; its peak is the system's count. The gap is that of DCNv2 trained with
early stopping on 3 seeds: AUC on test rows, of rows in the order of the stream (parts of 10,000 rows, two mixed at a
time, which is the worst that there is) less that of a full shuffle.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.metrics import roc_auc_score

from common import DOCS, commit, run
from corella.config import Config
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.crm.training import crm_logits, train_crm
from corella.crm.trees import train_trees
from corella.data.dataset import Dataset
from corella.data.on_disk import OnDisk, Parts
from corella.data.prepare import prepared_folder
from corella.data.store import load_prepared
from corella.files import read_json, write_json
from corella.progress import Reporter
from corella.runs.machine import machine
from synthetic import write_log

PART = "train"
MEMORY = 2.0
SEEDS = (1, 2, 3)
WORST = 10_000
"""Rows of a part."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--rows", type=lambda text: int(float(text)), nargs="+", default=[300_000, 1_000_000, 3_000_000]
    )
    parser.add_argument("--gap-rows", type=lambda text: int(float(text)), default=300_000)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(trained(load_prepared(given.one))))
        return
    rows = []
    for size in given.rows:
        for memory in (MEMORY, None):
            folder = prepared(given.work, size, memory)
            rows.append({"rows": size, "memory": memory, **alone(folder)})
            print(rows[-1], flush=True)
    on_disk = [row for row in rows if row["memory"] is not None]
    sizes, times = (np.log([row[name] for row in on_disk]) for name in ("rows", "seconds"))
    figures = {"train_exponent": round(float(np.polyfit(sizes, times, 1)[0]), 3)} if len(on_disk) > 1 else {}
    gap = gaps(load_prepared(prepared(given.work, given.gap_rows, None)), given.work / "worst")
    figures["stream_auc_gap"] = round(float(np.mean([each["stream"] - each["shuffle"] for each in gap])), 5)
    path = DOCS / "scale.json"
    result = read_json(path) if path.is_file() else {}
    result[PART] = {
        "commit": commit(), "machine": machine().model_dump(), "rows": rows, "gap": gap, "figures": figures,
    }  # fmt: skip
    write_json(path, result)
    print(figures)


def settings(source: Path, memory: float | None) -> Config:
    """Of a log."""
    data: dict[str, Any] = {
        "source": "tables", "interactions": {"path": str(source / "log-*.parquet")},
        "items": {"path": str(source / "items.parquet")}, "item_fields": ["kind"], "text": {"encoder": "none"},
        "counts": {"groups": [["user"], ["item"], ["user", "kind"]], "neighbours": 0}, "memory": memory,
    }  # fmt: skip
    return Config.model_validate({"data": data, "crm": {"epochs": 1}, "lightgbm": {"rounds": 100}})


def prepared(work: Path, rows: int, memory: float | None) -> Path:
    """A prepared log, kept from an earlier call."""
    source = work / f"log-{rows}"
    if not source.is_dir():
        write_log(rows, source)
    folder = work / f"train-{rows}-{memory}"
    return prepared_folder(settings(source, memory), folder, Reporter(quiet=True))


def alone(folder: Path) -> dict[str, float]:
    """Train in a process of its own."""
    command = [sys.executable, __file__, "--work", str(folder.parent), "--one", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    told = process.stdout.read() if process.stdout is not None else ""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"error: training ended with {os.waitstatus_to_exitcode(status)}")
    return {**json.loads(told.splitlines()[-1]), "peak_gib": round(used.ru_maxrss / 2**20, 2)}


def trained(dataset: Dataset) -> dict[str, float]:
    """Seconds of one pass of DCNv2 and of the trees, the reading of the log left out."""
    config = settings(Path(), None)
    torch.set_num_threads(os.cpu_count() or 1)
    began = time.perf_counter()
    spec = make_spec(dataset)
    encoder = make_encoder(spec, dataset)
    torch.manual_seed(1)
    model = build_crm(spec, config.crm)
    fit = train_crm(model, encoder, dataset.samples("train"), dataset.samples("valid"), config.crm, 1)
    middle = time.perf_counter()
    trees = train_trees(encoder, dataset.samples("train"), dataset.samples("valid"), config.lightgbm, 1)
    ended = time.perf_counter()
    test = dataset.samples("test")
    return {
        "seconds": round(ended - began, 1), "neural_seconds": round(middle - began, 1),
        "tree_seconds": round(ended - middle, 1), "neural_valid_auc": round(max(fit.valid_auc), 5),
        "tree_auc": round(float(roc_auc_score(test.label, trees.logits(encoder, test))), 5),
    }  # fmt: skip


def gaps(dataset: Dataset, folder: Path) -> list[dict[str, float]]:
    """AUC of both orders, by seed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [f"count:{name}" for name in dataset.count_names]
    table, files = pl.DataFrame(dataset.counts, schema=names), []
    for first in range(0, table.height, WORST):
        files.append(folder / f"{first:09d}.parquet")
        table[first : first + WORST].write_parquet(files[-1])
    stream = replace(dataset, counts=OnDisk(Parts(files, names, 0), np.arange(table.height)))
    config = Config().crm
    found = []
    for seed in SEEDS:
        aucs = {"seed": float(seed)}
        for name, each in (("shuffle", dataset), ("stream", stream)):
            spec = make_spec(dataset)
            encoder = make_encoder(spec, each)
            torch.manual_seed(seed)
            model = build_crm(spec, config)
            train_crm(model, encoder, each.samples("train"), each.samples("valid"), config, seed)
            test = dataset.samples("test")
            aucs[name] = round(float(roc_auc_score(test.label, crm_logits(model, encoder, test))), 5)
        found.append(aucs)
        print(aucs, flush=True)
    return found


if __name__ == "__main__":
    run(main)

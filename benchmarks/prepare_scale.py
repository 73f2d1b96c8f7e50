"""Preparing logs of any size: seconds, processor seconds and peak memory, in memory and in parts on disk.

Writes the part `prepare` of docs/benchmarks/scale.json.

    python benchmarks/prepare_scale.py --work FOLDER [--rows 1e6 1e7 1e8]

Logs are those of synthetic.py, settings the defaults but for texts, which are not read. Every measurement is a whole
command, `corella prepare`, in one process: its start is in its time, and its peak is the system's own count of the
process. In memory only up to 10,000,000 rows.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import DOCS, commit, run
from corella.data.preparation import Preparation
from corella.files import read_json, read_value, write_json
from corella.runs.machine import machine
from synthetic import write_log

PART = "prepare"
MEMORY = {10**6: 2, 10**7: 2, 10**8: 4}
"""GiB that a log of so many rows may take."""
IN_MEMORY = 10**7


@dataclass(frozen=True)
class Measured:
    """One command."""

    rows: int
    kept: int
    """Without repeated pairs of a user and an item."""
    memory: float | None
    """`data.memory`, GiB; None: the log is held in memory."""
    seconds: float
    processor_seconds: float
    peak_gib: float


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=lambda text: int(float(text)), nargs="+", default=list(MEMORY))
    given = parser.parse_args()
    measured = []
    for rows in given.rows:
        source = given.work / f"log-{rows}"
        if not source.is_dir():
            write_log(rows, source)
        for memory in (None, MEMORY.get(rows, 4)) if rows <= IN_MEMORY else (MEMORY.get(rows, 4),):
            measured.append(prepared(source, given.work / "prepared", rows, memory))
            print(measured[-1], flush=True)
            record(measured)


def prepared(source: Path, out: Path, rows: int, memory: float | None) -> Measured:
    """Prepare a log once, into a folder that is removed."""
    shutil.rmtree(out, ignore_errors=True)
    settings = [
        "data.source=tables", f"data.interactions.path={source}/log-*.parquet",
        f"data.items.path={source}/items.parquet", "data.item_fields=[kind]", "data.text.encoder=none",
        "data.counts.groups=[[user],[item],[user,kind]]",
        *([f"data.memory={memory}"] if memory is not None else []),
    ]  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "corella", "prepare", "--out", str(out), *words]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        sys.exit(f"error: preparing {rows:,} rows ended with {os.waitstatus_to_exitcode(status)}")
    kept = read_value(out / "preparation.json", Preparation).facts["interactions kept"]
    shutil.rmtree(out)
    used_seconds = used.ru_utime + used.ru_stime
    return Measured(rows, kept, memory, round(seconds, 1), round(used_seconds, 1), round(used.ru_maxrss / 2**20, 2))


def record(measured: list[Measured]) -> None:
    """Write the part of the page's data that this script makes."""
    on_disk = {each.rows: each for each in measured if each.memory is not None}
    figures: dict[str, Any] = {}
    if len(on_disk) > 1:
        sizes, times = np.log(list(on_disk)), np.log([each.seconds for each in on_disk.values()])
        figures["prepare_exponent"] = round(float(np.polyfit(sizes, times, 1)[0]), 3)
    million = [each.seconds for each in measured if each.rows == 10**6]
    if million:
        figures["prepare_1m_seconds"] = min(million)
    for rows, name in ((10**7, "10m"), (10**8, "100m")):
        if rows in on_disk:
            figures[f"prepare_{name}_peak_gib"] = on_disk[rows].peak_gib
    if 10**8 in on_disk:
        figures["prepare_100m_minutes"] = round(on_disk[10**8].seconds / 60, 1)
    path = DOCS / "scale.json"
    result = read_json(path) if path.is_file() else {}
    result[PART] = {
        "commit": commit(), "machine": machine().model_dump(), "rows": [asdict(each) for each in measured],
        "figures": figures,
    }  # fmt: skip
    write_json(path, result)


if __name__ == "__main__":
    run(main)

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from common import DOCS, commit, run
from corella.data.preparation import Preparation
from corella.files import read_json, read_value, write_json
from corella.runs.machine import machine
from synthetic import BEGIN, WEEK, write_day, write_log
from synthetic import PART as ROWS_A_PART

PART = "prepare"
MEMORY = {10**6: 2, 10**7: 2, 10**8: 4}
"""GiB that a log of so many rows may take."""
IN_MEMORY, DAY = 10**7, 100_000


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
    parser.add_argument("--day-of", type=lambda text: int(float(text)), help="Measure a day more of so many rows.")
    given = parser.parse_args()
    if given.day_of is not None:
        return a_day_more(given.work, given.day_of)
    measured = []
    for rows in given.rows:
        source = given.work / f"log-{rows}"
        if not source.is_dir():
            write_log(rows, source)
        for memory in (None, MEMORY.get(rows, 4)) if rows <= IN_MEMORY else (MEMORY.get(rows, 4),):
            shutil.rmtree(given.work / "prepared", ignore_errors=True)
            measured.append(prepared(source, given.work / "prepared", rows, memory))
            print(measured[-1], flush=True)
            record(measured)


def a_day_more(work: Path, rows: int) -> None:
    """A day of 100,000 rows behind a log, of which the last two parts are for validation and test."""
    source, out = work / f"log-{rows}", work / "prepared"
    day = source / f"log-{-(-rows // ROWS_A_PART):05d}.parquet"
    day.unlink(missing_ok=True)
    begins = [datetime.fromtimestamp(BEGIN + (rows // ROWS_A_PART - left) * WEEK, UTC).isoformat() for left in (2, 1)]
    dates = f"data.split.dates=['{begins[0]}','{begins[1]}']"
    shutil.rmtree(out, ignore_errors=True)
    whole = prepared(source, out, rows, MEMORY[rows], dates)
    write_day(rows, source, DAY)
    added = prepared(source, out, rows + DAY, MEMORY[rows], dates)
    day.unlink()
    shutil.rmtree(out)
    keep("day", [whole, added], {"incremental_share": round(added.seconds / whole.seconds, 4)})
    print(whole, added)


def prepared(source: Path, out: Path, rows: int, memory: float | None, *more: str) -> Measured:
    """Prepare a log once, as the command does."""
    settings = [
        "data.source=tables", f"data.interactions.path={source}/log-*.parquet",
        f"data.items.path={source}/items.parquet", "data.item_fields=[kind]", "data.text.encoder=none",
        "data.counts.groups=[[user],[item],[user,kind]]",
        *([f"data.memory={memory}"] if memory is not None else []), *more,
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
    used_seconds = used.ru_utime + used.ru_stime
    return Measured(rows, kept, memory, round(seconds, 1), round(used_seconds, 1), round(used.ru_maxrss / 2**20, 2))


def record(measured: list[Measured]) -> None:
    """Write the part of the page's data that this script makes."""
    on_disk = {row["rows"]: row for row in merged(PART, measured) if row["memory"] is not None}
    figures: dict[str, Any] = {}
    if len(on_disk) > 1:
        sizes, times = np.log(list(on_disk)), np.log([row["seconds"] for row in on_disk.values()])
        figures["prepare_exponent"] = round(float(np.polyfit(sizes, times, 1)[0]), 3)
        used = np.log([row["processor_seconds"] for row in on_disk.values()])
        figures["prepare_exponent_processor"] = round(float(np.polyfit(sizes, used, 1)[0]), 3)
    million = [row["seconds"] for row in merged(PART, measured) if row["rows"] == 10**6]
    if million:
        figures["prepare_1m_seconds"] = min(million)
    for rows, name in ((10**7, "10m"), (10**8, "100m")):
        if rows in on_disk:
            figures[f"prepare_{name}_peak_gib"] = on_disk[rows]["peak_gib"]
    if 10**8 in on_disk:
        figures["prepare_100m_minutes"] = round(on_disk[10**8]["seconds"] / 60, 1)
    keep(PART, measured, figures)


def merged(part: str, measured: list[Measured]) -> list[dict[str, Any]]:
    """What was measured now, and before of other sizes, each with its commit."""
    path = DOCS / "scale.json"
    before = read_json(path).get(part, {"rows": []})["rows"] if path.is_file() else []
    rows = [{**asdict(each), "commit": commit()} for each in measured]
    now = {(row["rows"], row["memory"]) for row in rows}
    rows += [row for row in before if (row["rows"], row["memory"]) not in now]
    return sorted(rows, key=lambda row: (row["rows"], row["memory"] or 0))


def keep(part: str, measured: list[Measured], figures: dict[str, Any]) -> None:
    """Write a part of the page's data."""
    path = DOCS / "scale.json"
    result = read_json(path) if path.is_file() else {}
    result[part] = {"machine": machine().model_dump(), "rows": merged(part, measured), "figures": figures}
    write_json(path, result)


if __name__ == "__main__":
    run(main)

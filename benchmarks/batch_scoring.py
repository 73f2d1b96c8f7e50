"""Scoring everybody by partitions: how its time grows, what Ray costs over a pool of processes, and which kills it
survives. Writes the part `batch_scoring` of docs/benchmarks/scale.json.

    python benchmarks/batch_scoring.py --run RUN --work FOLDER [--rows 100000 300000 1000000] [--kills 10]

`--run` is a trained run with a language model. Rows are drawn from its users and items (Zipf), in partitions of 50,000.
Every measurement is a whole command, from its start to its end: the start of workers and of Ray, and reading the
run, are in its time.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common import DOCS, commit, run
from corella.errors import UserError
from corella.files import read_json, sha256, write_json
from corella.runs.machine import machine
from corella.runs.train import load_run

PART = "batch_scoring"
PARTITION = 50_000
WORKERS = 2
SEED = 1
KILL_ROWS, KILL_PARTITIONS, KILL_SHARE = 24_000, 8, 0.005
ENGINES = {"processes": [], "ray": ["--ray", "local"]}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--kills", type=int, default=10)
    given = parser.parse_args()
    rows, figures = [], {}
    for size in given.rows:
        source = written(given.run, given.work / f"rows-{size}", size, PARTITION)
        for engine in ENGINES if size == max(given.rows) else ["processes"]:
            rows.append({"rows": size, "engine": engine, "seconds": seconds(given.run, source, given.work, engine)})
            print(rows[-1], flush=True)
    if len(given.rows) > 1:
        pool = [row for row in rows if row["engine"] == "processes"]
        sizes, times = (np.log([row[name] for row in pool]) for name in ("rows", "seconds"))
        figures["score_exponent"] = round(float(np.polyfit(sizes, times, 1)[0]), 3)
    largest = {row["engine"]: row["seconds"] for row in rows if row["rows"] == max(given.rows)}
    figures["ray_overhead"] = round(largest["ray"] / largest["processes"] - 1, 3)
    tried: list[dict[str, Any]] = []
    if given.kills:
        tried = kills(given.run, given.work, given.kills)
        figures["kills_survived"] = sum(each["identical"] for each in tried)
    path = DOCS / "scale.json"
    result = read_json(path) if path.is_file() else {}
    result[PART] = {
        "commit": commit(), "machine": machine().model_dump(), "workers": WORKERS, "partition_rows": PARTITION,
        "rows": rows, "kills": tried, "figures": figures,
    }  # fmt: skip
    write_json(path, result)
    print(figures)


def written(model: Path, folder: Path, size: int, partition: int) -> Path:
    """A folder of `size` rows in partitions; kept from an earlier call."""
    if folder.is_dir():
        return folder
    dataset = load_run(model).dataset
    rng = np.random.default_rng(SEED)
    users, items = (names.to_numpy() for names in (dataset.users["user_id"], dataset.items["item_id"]))
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for number, start in enumerate(range(0, size, partition)):
        count = min(partition, size - start)
        drawn = (rng.zipf(1.2, count) - 1) % len(items)
        frame = pl.DataFrame({"user_id": users[rng.integers(0, len(users), count)], "item_id": items[drawn]})
        frame.write_parquet(partial / f"part-{number:05d}.parquet")
    partial.rename(folder)
    return folder


def command(model: Path, source: Path, out: Path, engine: str, share: float) -> list[str]:
    """The command that scores a folder."""
    words = [sys.executable, "-m", "corella", "score", str(model), str(source), "--out", str(out)]
    return [*words, "--share", str(share), "--workers", str(WORKERS), *ENGINES[engine]]


def seconds(model: Path, source: Path, work: Path, engine: str) -> float:
    """Time of a whole command by the conventional models."""
    out = emptied(work / "timed")
    began = time.monotonic()
    subprocess.run(command(model, source, out, engine, 0.0), check=True)
    return round(time.monotonic() - began, 2)


def kills(model: Path, work: Path, trials: int) -> list[dict[str, Any]]:
    """Kill a worker or the driver at a random moment of scoring with a budget; a killed driver's command is given
    again. Whether every output file is then that of a command which nobody killed."""
    rng = random.Random(SEED)
    source = written(model, work / "rows-kills", KILL_ROWS, KILL_ROWS // KILL_PARTITIONS)
    whole = emptied(work / "unkilled")
    subprocess.run(command(model, source, whole, "processes", KILL_SHARE), check=True)
    expected, tried = digests(whole), []
    choices = [(engine, victim) for engine in ENGINES for victim in ("worker", "driver")]
    for trial in range(trials):
        engine, victim = choices[trial % len(choices)]
        killed = None
        while killed is None:  # it may end before its moment comes
            out = emptied(work / "killed")
            words = command(model, source, out, engine, KILL_SHARE)
            killed = kill_one(words, out, victim, rng.randrange(0, 2 * KILL_PARTITIONS), rng.uniform(0, 2), rng)
        if victim == "driver":
            subprocess.run(words, check=True)
        same = digests(out) == expected
        tried.append({"engine": engine, "victim": victim, "files_made": killed, "identical": same})
        print(tried[-1], flush=True)
    return tried


def kill_one(words: list[str], out: Path, victim: str, entries: int, delay: float, rng: random.Random) -> int | None:
    """Start a command and, when it has made `entries` files, `delay` seconds later SIGKILL the driver or one of its
    workers; then wait for its end. Returns how many files were made at the kill, None where it had ended before."""
    driver = subprocess.Popen(words)
    while driver.poll() is None and (made(out) < entries or not workers(driver.pid)):
        time.sleep(0.01)
    time.sleep(delay)
    found, alive = made(out), workers(driver.pid)
    if driver.poll() is not None or not alive:
        driver.wait()
        return None
    os.kill(driver.pid if victim == "driver" else rng.choice(alive), signal.SIGKILL)
    if driver.wait() != (-signal.SIGKILL if victim == "driver" else 0):
        raise UserError(f"ended with {driver.returncode} after a {victim} was killed: {' '.join(words)}")
    return found


def made(out: Path) -> int:
    """How many entries a manifest has, of every stage."""
    return len(list(out.with_name(f"{out.name}.manifest").rglob("*.parquet.json")))


def workers(driver: int) -> list[int]:
    """Processes below a driver that run its tasks: its own pool's, or Ray's."""
    found = []
    for process in descendants(driver):
        try:
            line = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        if b"spawn_main" in line or line.startswith(b"ray::_make"):
            found.append(process)
    return found


def descendants(process: int) -> Iterator[int]:
    """Children of a process, and theirs."""
    try:
        told = [threads.read_text() for threads in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:
        return
    children = [int(n) for text in told for n in text.split()]
    for child in children:
        yield child
        yield from descendants(child)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {str(file.relative_to(folder)): sha256(file) for file in folder.rglob("*") if file.is_file()}


def emptied(folder: Path) -> Path:
    """A path where no output is."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder.with_name(f"{folder.name}.manifest"), ignore_errors=True)
    return folder


if __name__ == "__main__":
    run(main)

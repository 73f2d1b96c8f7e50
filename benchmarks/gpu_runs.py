"""Part of gpu.py: trainings side by side, each a process of its own: small models leave most of a card idle."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gpu import Setting

AT_ONCE = 8
_GRACE = 12.0
"""Seconds before the end at which what still runs is stopped."""
_LEAST = 40.0
"""Seconds that must be left for a training to begin."""


@dataclass(frozen=True)
class Job:
    """A training: `main` of a script with arguments. It leaves NAME.json, its row, and perhaps NAME.npz, its arrays, in
    the work folder; one that is stopped resumes from its checkpoint there."""

    name: str
    script: str
    main: Callable[[Sequence[str]], None]
    arguments: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The same as a process."""
        return [sys.executable, self.script, *self.arguments]


Rows = dict[str, dict[str, Any]]


def run_jobs(setting: "Setting", jobs: Sequence[Job], rows: Rows) -> list[str]:
    """Run as many as there is time for, in their order; those with a row are done already. A finished one adds its row,
    and its arrays to OUT/logits.npz. Returns the names of those that are not done."""
    waiting = [job for job in jobs if job.name not in rows]
    if setting.dry:
        for job in waiting:
            job.main(job.arguments)
            collect(setting, job.name, rows)
        return []
    running: dict[str, subprocess.Popen[bytes]] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE and setting.left > _LEAST:
            job = waiting.pop(0)
            with (setting.work / f"{job.name}.log").open("a") as log:
                running[job.name] = subprocess.Popen(job.command, stdout=log, stderr=subprocess.STDOUT)
        if setting.left < _GRACE or not running:
            break
        time.sleep(0.5)
        for name in [name for name, process in running.items() if process.poll() is not None]:
            code = running.pop(name).returncode
            print(f"{name}: {'done' if code == 0 else f'exit code {code}'}, {setting.left:.0f} s left", flush=True)
            if code == 0:
                collect(setting, name, rows)
    for process in running.values():
        process.kill()
        process.wait()
    return [job.name for job in jobs if job.name not in rows]


def collect(setting: "Setting", name: str, rows: Rows) -> None:
    """Take over what a finished training left."""
    rows[name] = json.loads((setting.work / f"{name}.json").read_text())
    arrays, kept = setting.work / f"{name}.npz", setting.out / "logits.npz"
    if arrays.is_file():
        with np.load(arrays) as new, np.load(kept) if kept.is_file() else new as old:
            before = {} if old is new else dict(old)
            found = before | {f"{name}/{key}": new[key] for key in new.files}
        part = kept.with_name(".logits.tmp.npz")
        np.savez_compressed(part, **found)
        part.replace(kept)

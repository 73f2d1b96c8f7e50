"""Part of gpu.py: trainings side by side, each a process of its own: small models leave most of a card idle."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu import Setting

HERE = Path(__file__).resolve().parent
AT_ONCE = 12
_GRACE = 15.0
"""Seconds before the end at which what still runs is stopped."""


def residual_runs() -> list[dict[str, Any]]:
    """In order of worth: what the residual and the label teach, all weights, three seeds; adapters; unsure targets."""
    parts = [("polis", 1.0, 128), ("ml-1m", 2.0, 64)]
    runs: list[dict[str, Any]] = []

    def add(seed: int, target: str, tuned: str, rate: float, draw: str = "uniform") -> None:
        for part, epochs, step in parts:
            given = {"target": target, "tuned": tuned, "rate": rate, "seed": seed, "draw": draw}
            runs.append({"part": part, **given, "epochs": epochs, "step": step})

    for seed in (1, 2, 3):
        for target in ("residual", "label"):
            add(seed, target, "all", 1e-4)
    for target in ("residual", "label"):
        add(1, target, "lora", 2e-3)
    add(1, "residual", "all", 1e-4, "unsure")
    return runs


def commands(setting: "Setting") -> list[tuple[str, list[str]]]:
    """Name and command of every process."""
    found = []
    python = sys.executable
    for name in ("Beauty", "Toys", "Sports", "scientific") if setting.sequences else ():
        out = setting.out / f"sasrec-{name}"
        seconds = 3.0 if setting.dry else 50.0
        found.append((out.name, [python, str(HERE / "sasrec.py"), str(setting.sequences / f"{name}.npz"), str(out),
                                 "--seconds", str(seconds)]))  # fmt: skip
    for number, run in enumerate(residual_runs()[:2] if setting.dry else residual_runs()):
        epochs = 0.0005 if setting.dry else run["epochs"]
        rows = setting.out / f"residual-{number}.json"
        given = {**run, "epochs": epochs, "tokens": 4096, "backbone": setting.backbone, "threads": 1}
        del given["part"]
        command = [python, str(HERE / "llm_residual.py"), "train", str(setting.prepared / run["part"]), str(rows)]
        command += [word for name, value in given.items() for word in (f"--{name}", str(value))]
        found.append((rows.stem, [*command, *(["--rows-at-most", "100"] if setting.dry else [])]))
    return found


def run_all(setting: "Setting", found: dict[str, Any]) -> dict[str, Any]:
    """Run as many as there is time for, `AT_ONCE` at a time; what is not done in time is stopped."""
    waiting, running, codes = commands(setting), {}, {}
    at_once = 1 if setting.dry else AT_ONCE
    while waiting or running:
        while waiting and len(running) < at_once and setting.left > 60:
            name, command = waiting.pop(0)
            log = (setting.out / f"{name}.log").open("w")
            running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        if setting.left < _GRACE or not running:
            break
        time.sleep(0.5)
        for name in [name for name, process in running.items() if process.poll() is not None]:
            codes[name] = running.pop(name).returncode
            print(f"{name}: {codes[name]}, {setting.left:.0f} s left", flush=True)
    for name, process in running.items():
        process.kill()
        codes[name] = -9
    rows = [row for path in sorted(setting.out.glob("residual-*.json")) for row in json.loads(path.read_text())]
    (setting.out / "residual.json").write_text(json.dumps(rows, indent=1))
    return {"codes": codes, "not begun": [name for name, _ in waiting]}

"""Speed and memory: the demo, timeline against pointwise training, preparing and training on a million rows.

Each part runs in a process of its own, so that its peak memory is its own; finished parts are kept.

    python benchmarks/speed.py --log interactions.parquet --folder FOLDER    # with users.dat and movies.dat
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from common import commit, run, write_result
from corella.config import Config
from corella.config.loading import load_config
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.crm.training import train_crm
from corella.data.builtin.ml_1m import read_movies, read_users
from corella.data.prepare import load_dataset, prepare
from corella.data.samples import Samples
from corella.data.store import load_prepared
from corella.errors import UserError
from corella.files import read_json, write_json
from corella.joint.trainer import JointTrainer
from corella.llm.backbone import load_backbone, make_trainable
from corella.llm.pointwise import PointwisePrompts
from corella.llm.scoring import Prompts
from corella.llm.timeline import timeline_prompts
from corella.progress import peak_gib
from corella.threads import set_threads

TEXT = """\
`demo_*`: what `corella demo` prints at its end, in a fresh run folder. `prepare_1m_*`: reading, checking, ordering,
splitting and counting 1,000,209 MovieLens-1M ratings from Parquet. `crm_rows_per_second`: training rows of
DCNv2 with count features, history of 30, target attention, on those rows. `timeline_speedup`: training
targets a second of the timeline prompt over the pointwise prompt, same backbone, LoRA and machine, in one
process, alternating; both see some 20 items of history on average (see the rows)."""

HISTORY = 20


def million_config(log: Path, folder: Path, work: Path) -> Config:
    """The million rows as a user's own tables."""
    work.mkdir(parents=True, exist_ok=True)
    read_users(folder / "users.dat").write_parquet(work / "users.parquet")
    read_movies(folder / "movies.dat").write_parquet(work / "items.parquet")
    columns = {"item_id": "movie_id"} if "movie_id" in pl.read_parquet_schema(log) else {}
    data: dict[str, Any] = {
        "source": "tables", "interactions": {"path": str(log), "columns": columns},
        "users": {"path": str(work / "users.parquet")},
        "items": {"path": str(work / "items.parquet")}, "user_fields": ["gender", "age_group", "occupation"],
        "item_fields": ["year"], "list_fields": ["genres"], "item_text": "{title}, {genres}",
        "counts": {"groups": [["user"], ["item"], ["user", "genres"]]},
    }  # fmt: skip
    return load_config(settings={"data": data, "crm": {"epochs": 1, "batch_size": 2048}})


def part_prepare(config: Config, work: Path) -> dict[str, float]:
    """Seconds and peak memory of `prepare`, imports left out of the seconds."""
    began = time.perf_counter()
    dataset = prepare(config.data, config.seed, work / "prepared")
    return {"seconds": time.perf_counter() - began, "peak_gib": peak_gib(), "rows": dataset.log.height}


def part_crm(config: Config, work: Path) -> dict[str, float]:
    """Training rows a second on the prepared million; evaluations on a small validation part are included."""
    dataset = load_prepared(work / "prepared")
    set_threads(config)
    spec = make_spec(dataset)
    torch.manual_seed(config.seed)
    model = build_crm(spec, config.crm)
    valid = dataset.samples("valid").take(np.arange(20_000))
    fit = train_crm(model, make_encoder(spec, dataset), dataset.samples("train"), valid, config.crm, config.seed)
    return {"rows_per_second": fit.rows / fit.seconds, "seconds": fit.seconds, "peak_gib": peak_gib()}


def part_timeline() -> dict[str, float]:
    """Targets a second of both prompt styles, alternating, same backbone and LoRA."""
    settings = {"llm": {"window_tokens": 560, "context_share": 0.0, "history_length": HISTORY, "batch_tokens": 2240}}
    config = load_config(settings={**settings, "joint": {"stages": [3], "stage3_targets": 32, "targets_per_step": 8}})
    set_threads(config)
    dataset = load_dataset(config)
    train = dataset.samples("train")
    backbone = make_trainable(load_backbone(config.llm), config.llm, config.seed)
    spec = make_spec(dataset)
    result: dict[str, float] = {}
    timeline: Prompts = timeline_prompts(dataset, backbone, config.llm)
    pointwise: Prompts = PointwisePrompts(dataset, backbone, config.llm)
    # Users with some history, the same rows for both; a timeline window takes all lines of its users.
    windows = [w for w in timeline.plan(train, 0.0) if len(w.sample) > 1.5 * HISTORY][:12]
    rows = np.concatenate([w.sample for w in windows])
    asked = train.take(np.sort(rows))
    few = asked.take(np.random.default_rng(1).permutation(len(asked))[:32])
    rates: dict[str, list[float]] = {"timeline": [], "pointwise": []}
    for _ in range(2):
        for name, prompts, part, targets in (
            ("timeline", timeline, asked, len(asked)),
            ("pointwise", pointwise, few, len(few)),
        ):
            joint = {"joint": {"stages": [3], "stage3_targets": targets, "targets_per_step": 8}}
            run = load_config(settings={**settings, **joint})
            trainer = JointTrainer(backbone, prompts, build_crm(spec, run.crm), make_encoder(spec, dataset), part, run)
            done = trainer.run()
            rates[name].append(done.targets / done.seconds)
            result[f"{name}_tokens_per_target"] = done.tokens / done.targets
    result["speedup"] = float(np.median([t / p for t, p in zip(rates["timeline"], rates["pointwise"], strict=True)]))
    result["timeline_targets_per_second"] = float(np.median(rates["timeline"]))
    result["pointwise_targets_per_second"] = float(np.median(rates["pointwise"]))
    result["timeline_mean_history"] = float(np.mean([np.mean(w.event - w.first) for w in windows]))
    result["pointwise_mean_history"] = mean_history(few, dataset.events.start)
    return result


def mean_history(samples: Samples, start: np.ndarray) -> float:
    """Items of history that the pointwise prompt shows, on average."""
    return float(np.mean(np.minimum(samples.history_end - start[samples.user], HISTORY)))


def part_demo(work: Path) -> dict[str, float]:
    """Seconds and peak memory of the demo, as it prints them."""
    command = [sys.executable, "-m", "corella", "demo", "--run", str(work / f"demo-{int(time.time())}")]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.search(r"demo: (\d+) s, peak memory ([\d.]+) GiB", said)
    if found is None:
        raise UserError(f"the demo does not say how long it took: {said[-200:]!r}")
    return {"seconds": float(found[1]), "peak_gib": float(found[2])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True, help="Parquet: user_id, item_id, rating, timestamp")
    parser.add_argument("--folder", type=Path, required=True, help="folder with users.dat and movies.dat")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-speed"))
    parser.add_argument("--part", choices=["prepare", "crm", "timeline", "demo"], help="run one part here and now")
    arguments = parser.parse_args()
    if arguments.part:
        config = million_config(arguments.log, arguments.folder, arguments.work)
        parts = {
            "prepare": lambda: part_prepare(config, arguments.work), "crm": lambda: part_crm(config, arguments.work),
            "timeline": part_timeline, "demo": lambda: part_demo(arguments.work),
        }  # fmt: skip
        found = parts[arguments.part]()
        write_json(arguments.work / f"{arguments.part}.json", {"commit": commit(), "figures": found})
        return
    results, commits = {}, {}
    for part in ("prepare", "crm", "timeline", "demo"):
        path = arguments.work / f"{part}.json"
        if not path.is_file():
            command = [sys.executable, __file__, "--log", str(arguments.log), "--folder", str(arguments.folder)]
            subprocess.run([*command, "--work", str(arguments.work), "--part", part], check=True)
        kept = read_json(path)
        results[part], commits[part] = kept["figures"], kept["commit"]
        print(part, json.dumps(results[part]))
    figures = {
        "demo_seconds": results["demo"]["seconds"], "demo_peak_gib": results["demo"]["peak_gib"],
        "timeline_speedup": results["timeline"]["speedup"], "prepare_1m_seconds": results["prepare"]["seconds"],
        "prepare_1m_peak_gib": results["prepare"]["peak_gib"],
        "crm_rows_per_second": results["crm"]["rows_per_second"],
    }  # fmt: skip
    rows = [{"part": part, "measure": name, "value": value} for part, r in results.items() for name, value in r.items()]
    write_result("speed", "Speed and memory", TEXT, rows, figures, {"seeds": [1], "commits": commits})


if __name__ == "__main__":
    run(main)

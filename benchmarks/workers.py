"""What a second worker brings on one machine: `workers.py`, or `workers.py --small` to see that it runs.

Training rows a second of the conventional model, and targets a second of the language model (stage 3, timeline), on
MovieLens-100K, each in three forms: one process with one thread, one process with two threads, two workers with one
thread each. The forms take turns. Writes the part `workers` of docs/benchmarks/scale.json.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from common import DOCS, commit, run
from corella.config import Config
from corella.config.loading import load_config
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.crm.training import train_crm
from corella.data.prepare import load_dataset
from corella.errors import UserError
from corella.files import read_json, write_json
from corella.joint.trainer import JointTrainer
from corella.llm.backbone import load_backbone, make_trainable
from corella.llm.timeline import timeline_prompts
from corella.runs.machine import machine

MODELS = ("conventional", "language")


@dataclass(frozen=True)
class Form:
    """How a training is spread."""

    workers: int
    threads: int
    """Of each worker."""


FORMS = (Form(1, 1), Form(1, 2), Form(2, 1))


def main() -> None:
    """Measure, or, started by itself, be one worker of a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="few rows, one repetition, nothing written")
    parser.add_argument("--measure", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    config = settings(given.small)
    if given.measure is not None:
        print(json.dumps(rate(given.measure, config, given.threads)))
        return
    load_dataset(config)  # once, or two workers would prepare it at the same time
    found: dict[tuple[str, Form], list[float]] = {}
    for _ in range(1 if given.small else 3):
        for model in MODELS:
            for form in FORMS:
                found.setdefault((model, form), []).append(measured(model, form, given.small))
    rates = {key: statistics.median(values) for key, values in found.items()}
    rows = [{"model": model, **asdict(form), "rate": rates[model, form]} for model, form in rates]
    figures = {}
    for model, name in zip(MODELS, ("", "_language"), strict=True):
        one, threads, two = (rates[model, form] for form in FORMS)
        figures[f"workers_speedup_2{name}"] = two / one
        figures[f"workers_2_over_threads_2{name}"] = two / threads
    print(json.dumps({"rows": rows, "figures": figures}, indent=1))
    if not given.small:
        path = DOCS / "scale.json"
        part = {"commit": commit(), "machine": machine().model_dump(), "rows": rows, "figures": figures}
        write_json(path, {**(read_json(path) if path.is_file() else {}), "workers": part})


def settings(small: bool) -> Config:
    """Defaults, but one epoch, and few targets."""
    targets = 60 if small else 3000
    crm = {"epochs": 1, "batch_size": 2048, "evaluations_per_epoch": 1}
    data = {"source": "ml-100k", "text": {"encoder": "none"}, **({"max_rows": 5000} if small else {})}
    return load_config(settings={"data": data, "crm": crm, "joint": {"stages": [3], "stage3_targets": targets}})


def measured(model: str, form: Form, small: bool) -> float:
    """Rows or targets a second of one training."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(Path(__file__)), "--measure", model, "--threads", str(form.threads)]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(form.workers)}
    started = [
        subprocess.Popen(
            [*command, *(["--small"] if small else [])], text=True, stdout=subprocess.PIPE,
            env={**os.environ, **group, "RANK": str(rank), "OMP_NUM_THREADS": str(form.threads)},
        )
        for rank in range(form.workers)
    ]  # fmt: skip
    said = [worker.communicate()[0] for worker in started]
    if any(worker.returncode for worker in started):
        raise UserError(f"{model}, {form}: a worker failed")
    return float(json.loads(said[0].splitlines()[-1]))


def rate(model: str, config: Config, threads: int) -> float:
    """The same in a worker, imports and preparation left out."""
    torch.set_num_threads(threads)
    if os.environ["WORLD_SIZE"] != "1":
        torch.distributed.init_process_group("gloo")
    dataset = load_dataset(config)
    spec, train = make_spec(dataset), dataset.samples("train")
    torch.manual_seed(config.seed)
    crm, encoder = build_crm(spec, config.crm), make_encoder(spec, dataset)
    if model == "conventional":
        fit = train_crm(crm, encoder, train, dataset.samples("valid"), config.crm, config.seed)
        return fit.rows / fit.seconds
    backbone = make_trainable(load_backbone(config.llm), config.llm, config.seed)
    prompts = timeline_prompts(dataset, backbone, config.llm)
    result = JointTrainer(backbone, prompts, crm, encoder, train, config).run()
    return result.targets / result.seconds


if __name__ == "__main__":
    run(main)

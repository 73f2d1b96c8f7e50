"""What the per-request language model adds to the ensemble with text: docs/benchmarks/llm-residual.{json,md}.

    python benchmarks/llm_residual.py prepare --polis FOLDER --ml-1m FOLDER --to PREPARED
    python benchmarks/llm_residual.py train PREPARED/polis ROWS.json --target residual --tuned all --epochs 2 --seed 1
    python benchmarks/llm_residual.py page ROWS.json ...

`prepare` fits the ensemble on a CPU and keeps its logits, out of fold for training rows; `train` needs no more
than that folder and a language model, on a CPU or a GPU, and adds a row; `page` makes the page of all rows.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from common import commit, run, union, write_result
from corella.calibration import fit_blend
from corella.checkpoint import load_tensors, save_tensors
from corella.config.loading import load_config
from corella.crm.models import build_crm
from corella.crm.rungs import Rung, fresh_rungs
from corella.crm.training import train_crm
from corella.crm.trees import train_trees
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.data.samples import Samples
from corella.data.store import load_prepared, write_dataset
from corella.files import read_json, write_json
from corella.intervals import paired_bootstrap
from corella.joint.progress import JointProgress
from corella.joint.residual import COLD, FOLDS, out_of_fold
from corella.joint.trainer import JointTrainer
from corella.llm.backbone import load_backbone, make_trainable
from corella.llm.scoring import score_samples
from corella.llm.timeline import timeline_prompts
from corella.progress import Reporter
from corella.threads import set_threads
from llm_residual_page import figures, llm_residual_page

Floats = npt.NDArray[np.float32]

NAME, TITLE = "llm-residual", "What asking a language model per request adds, on top of text once an item"
PARTS = ("polis", "ml-1m")
BY = {"polis": "item", "ml-1m": "user"}
_RESAMPLES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare")
    prepare.add_argument("--polis", type=Path)
    prepare.add_argument("--ml-1m", type=Path)
    prepare.add_argument("--to", type=Path, required=True)
    prepare.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    prepare.add_argument("--threads", type=int)
    train = commands.add_parser("train")
    train.add_argument("prepared", type=Path)
    train.add_argument("rows", type=Path)
    train.add_argument("--target", choices=("label", "residual"), default="residual")
    train.add_argument("--draw", choices=("uniform", "unsure"), default="uniform")
    train.add_argument("--tuned", choices=("lora", "all"), default="lora")
    train.add_argument("--epochs", type=float, default=1.0, help="of all training rows; a part of one is drawn")
    train.add_argument("--rate", type=float, default=2e-3)
    train.add_argument("--step", type=int, default=32, help="targets an optimiser step waits for")
    train.add_argument("--tokens", type=int, default=2048, help="in one forward pass")
    train.add_argument("--window", type=int, default=256, help="tokens of a window in training")
    train.add_argument("--score-window", type=int, default=512, help="tokens of a window in scoring")
    train.add_argument("--score-context", type=float, default=0.5, help="share of it that is context alone")
    train.add_argument("--backbone", default="smollm2-135m")
    train.add_argument("--rows-at-most", type=int, help="of validation and of test rows, for a trial")
    train.add_argument("--seed", type=int, default=1)
    train.add_argument("--threads", type=int)
    page = commands.add_parser("page")
    page.add_argument("rows", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        return prepare_all(arguments)
    if arguments.command == "train":
        return train_one(arguments)
    rows = [row for path in arguments.rows for row in read_json(path)]
    facts = {
        "seeds": sorted({row["seed"] for row in rows}), "machine": {"machines": union(row["device"] for row in rows)},
        "commits": {"trainings": union(row["commit"] for row in rows)},
    }  # fmt: skip
    write_result(NAME, TITLE, str(__doc__), rows, figures(rows), facts, llm_residual_page)


def datasets(arguments: argparse.Namespace) -> Iterator[tuple[str, Dataset]]:
    if arguments.polis:
        from polis_rows import polis_dataset

        yield "polis", polis_dataset(arguments.polis, "warming", 1, 0)
    if arguments.ml_1m:
        given = {"source": "ml-1m-collm", "path": str(arguments.ml_1m)}
        yield "ml-1m", load_dataset(load_config(settings={"data": given}))


def prepare_all(arguments: argparse.Namespace) -> None:
    """The ensemble with text, and its logits of all rows."""
    for name, dataset in datasets(arguments):
        folder = arguments.to / name
        folder.mkdir(parents=True, exist_ok=True)
        write_dataset(without_features(dataset), folder / "dataset")
        for seed in arguments.seeds:
            prepare_base(name, dataset, seed, arguments.threads, folder)


def prepare_base(name: str, dataset: Dataset, seed: int, threads: int | None, folder: Path) -> None:
    """Fit the ensemble with a seed and keep its logits."""
    config = load_config(settings={"seed": seed, "threads": threads})
    set_threads(config)
    train, valid, test = (dataset.samples(split) for split in ("train", "valid", "test"))
    rungs: list[Rung] = []
    for fresh in fresh_rungs(dataset, config.crm, build_crm, seed):
        rung = replace(fresh, below=rungs[-1] if rungs else None)
        train_crm(rung.neural, rung.encoder, train, valid, config.crm, seed)
        trees = train_trees(rung.encoder, train, valid, config.lightgbm, seed, new_items=config.crm.new_items)
        rungs.append(rung.blended(trees, valid))
    base = rungs[-1]
    with Reporter().task(f"{name}, seed {seed}, out of fold", FOLDS) as task:
        honest = out_of_fold(base, train, valid, config, build_crm, task.update)
    found = {"train": honest, "valid": base.outputs(valid)[0], "test": base.outputs(test)[0]}
    save_tensors(folder / base_file(seed), {n: torch.from_numpy(z) for n, z in found.items()}, {})
    print(name, seed, {part: round(auc(dataset.samples(part), z), 4) for part, z in found.items()}, flush=True)


def base_file(seed: int) -> str:
    return f"base-{seed}.safetensors"


def without_features(dataset: Dataset) -> Dataset:
    """What the language model reads of it, which packs small: features are zeros."""
    return replace(dataset, counts=np.zeros_like(dataset.counts), text=None, texts=None)


def train_one(arguments: argparse.Namespace) -> None:
    """Train once and add a row to the file."""
    dataset = load_prepared(arguments.prepared / "dataset")
    base = {name: z.numpy() for name, z in load_tensors(arguments.prepared / base_file(arguments.seed))[0].items()}
    train = dataset.samples("train")
    targets = round(arguments.epochs * len(train))
    joint = {
        "stages": [3], "stage3_targets": targets, "target": arguments.target, "draw": arguments.draw,
        "learning_rate": arguments.rate, "targets_per_step": arguments.step,
    }  # fmt: skip
    llm = {
        "backbone": arguments.backbone, "tuned": arguments.tuned, "batch_tokens": arguments.tokens,
        "window_tokens": arguments.window, "eval_window_tokens": arguments.score_window,
        "eval_context_share": arguments.score_context,
    }  # fmt: skip
    config = load_config(settings={"seed": arguments.seed, "threads": arguments.threads, "joint": joint, "llm": llm})
    set_threads(config)
    backbone = make_trainable(load_backbone(config.llm), config.llm, config.seed)
    prompts = timeline_prompts(dataset, backbone, config.llm)
    rung = fresh_rungs(dataset, config.crm, build_crm, 1)[0]
    trainer = JointTrainer(backbone, prompts, rung.neural, rung.encoder, train, config, base=base["train"])
    began, losses = time.perf_counter(), []

    def show(progress: JointProgress) -> None:
        losses.append(progress.losses["llm"])
        if progress.step % max(1, progress.steps // 10) == 0:
            recent = np.mean(losses[-max(1, progress.steps // 10) :])
            print(f"step {progress.step} of {progress.steps}, loss {recent:.4f}", flush=True)

    result = trainer.run(on_step=show)
    seconds = time.perf_counter() - began
    row: dict[str, Any] = {
        "part": arguments.prepared.name, "seed": arguments.seed, "target": arguments.target, "draw": arguments.draw,
        "tuned": arguments.tuned, "epochs": arguments.epochs, "targets": result.targets, "tokens": result.tokens,
        "rate": arguments.rate, "step": arguments.step, "window": arguments.window,
        "score_window": arguments.score_window, "score_context": arguments.score_context, "train_seconds": seconds,
        "loss_first": float(np.mean(losses[: len(losses) // 10 + 1])),
        "loss_last": float(np.mean(losses[-len(losses) // 10 :])), "device": _device(), "commit": commit(),
    }  # fmt: skip
    corrected: dict[str, Floats] = {}
    parts: dict[str, tuple[Samples, Floats]] = {}
    began = time.perf_counter()
    for name in ("valid", "test"):
        samples, fixed = dataset.samples(name), base[name]
        if arguments.rows_at_most:
            some = np.sort(np.random.default_rng(1).permutation(len(samples))[: arguments.rows_at_most])
            samples, fixed = samples.take(some), fixed[some]
        said = score_samples(backbone, prompts, samples, 4 * arguments.tokens, config.llm.eval_context_share,
                             window_tokens=config.llm.eval_window_tokens)  # fmt: skip
        learned = trainer.correction.learned() if trainer.correction is not None else None
        corrected[name] = said if learned is None else learned(fixed, said)
        parts[name] = samples, fixed
        row[f"alone_{name}"] = auc(samples, corrected[name])
    row["score_seconds"] = time.perf_counter() - began
    blend = fit_blend(parts["valid"][1], corrected["valid"], parts["valid"][0].label)
    for name, (samples, fixed) in parts.items():
        row |= gains(name, samples, fixed, blend(fixed, corrected[name]).astype(np.float32), BY[row["part"]])
    row |= {"weight_base": blend.weight_a, "weight_llm": blend.weight_b}
    name = f"{row['part']}-{row['target']}-{row['tuned']}-{row['draw']}-{row['seed']}.npz"
    np.savez_compressed(arguments.rows.parent / name, **corrected)  # type: ignore[arg-type]
    kept = read_json(arguments.rows) if arguments.rows.is_file() else []
    write_json(arguments.rows, [*kept, row])
    print({key: value for key, value in row.items() if "gain" in key or "auc" in key}, flush=True)


def gains(name: str, samples: Samples, base: Floats, final: Floats, by: str) -> dict[str, Any]:
    units = samples.item if by == "item" else samples.user
    found = paired_bootstrap(samples.label, base, final, _RESAMPLES, 0, units)
    row: dict[str, Any] = {
        f"auc_{name}": auc(samples, base), f"gain_{name}": found.mean, f"low_{name}": found.low,
        f"high_{name}": found.high,
    }  # fmt: skip
    cold = np.flatnonzero(samples.popularity[:, 0] < COLD)
    if len(np.unique(samples.label[cold])) == 2:
        found = paired_bootstrap(samples.label[cold], base[cold], final[cold], _RESAMPLES, 0, units[cold])
        row |= {f"cold_{name}": [found.mean, found.low, found.high, len(cold)]}
    return row


def auc(samples: Samples, logit: Floats) -> float:
    return float(roc_auc_score(samples.label, logit))


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


if __name__ == "__main__":
    run(main)

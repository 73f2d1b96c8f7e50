"""Part of gpu.py: trainings on all targets of MovieLens-1M (CoLLM's rows), and what each adds to the ensemble.

    python benchmarks/gpu_ranking.py PREPARED/ml-1m WORK --system tallrec --seed 1

`paper`: CoReLLa as in the paper, DCNv2 of stage 1, 20,000 targets in stage 2, the others in stage 3, and the fifth of
the rows with the highest entropy sent to the language model. `tallrec`: the language model alone, pointwise prompts.
`timeline`: timeline prompts, labels. `residual`: the same, what the ensemble leaves open.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import llm_residual
from common import commit
from corella.calibration import fit_blend, probability
from corella.checkpoint import Checkpoints, load_tensors
from corella.config import Config
from corella.config.loading import load_config
from corella.crm.encoder import CRMEncoder
from corella.crm.models import build_crm
from corella.crm.rungs import fresh_rungs
from corella.crm.training import crm_logits, train_crm
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.data.store import load_prepared
from corella.joint.trainer import JointTrainer
from corella.ranking.language import load_llm
from corella.routing.budgets import threshold
from corella.routing.policies import entropy
from corella.threads import set_threads
from gpu_runs import Job, Rows, run_jobs

if TYPE_CHECKING:
    from gpu import Setting

Floats = npt.NDArray[np.float32]

STAGE2 = 20_000
"""Targets of the paper's stage 2 (20,000 to 30,000 there)."""
SHARE = 0.2
"""Of the rows that the paper's system sends to the language model."""


@dataclass(frozen=True)
class Training:
    """What is trained."""

    system: str
    tuned: str = "lora"
    epochs: float = 1.0
    seed: int = 1

    @property
    def name(self) -> str:
        return f"{self.system}-{self.tuned}-{self.epochs:g}-{self.seed}"

    def config(self, rows: int, backbone: str, targets: int | None) -> Config:
        """Settings for so many training rows; `targets`: fewer, for a trial."""
        total = targets or round(self.epochs * rows)
        rate = {"learning_rate": 1e-4} if self.tuned == "all" else {}
        llm = {"backbone": backbone, "tuned": self.tuned, "batch_tokens": 16_384}
        joint: dict[str, Any] = {"checkpoint_seconds": 120.0, "stage3_targets": total, **rate}
        if self.system == "paper":
            second = min(STAGE2, total // 2) if targets else STAGE2
            joint |= {"stage2_targets": second, "stage3_targets": total - second}
        elif self.system != "tallrec":
            target = "residual" if self.system == "residual" else "label"
            joint |= {"stages": [3], "target": target, "targets_per_step": 64}
        recipe = self.system if self.system in ("paper", "tallrec") else "corella"
        given = {"recipe": recipe, "seed": self.seed, "threads": 1, "llm": llm, "joint": joint}
        return load_config(settings=given)


PUBLISHED = (Training("paper"), Training("tallrec"))
CANDIDATES = (
    Training("timeline", "all", 2), Training("residual", "all", 2), Training("timeline", "lora", 4),
    Training("timeline", "all", 4), Training("residual", "lora", 4), Training("timeline", "lora", 2),
)  # fmt: skip
"""Of which validation rows choose the best."""


def rankings(setting: "Setting", found: dict[str, Any]) -> dict[str, Any]:
    """Every training with seed 1, then the best candidate with two more seeds, then the published ones with those."""
    rows: Rows = dict(found.get("ranking", {}).get("rows", {}))
    first = [job(setting, training) for training in (*PUBLISHED, *CANDIDATES)]
    missing = run_jobs(setting, first[:4] if setting.dry else first, rows)
    chosen = best(rows)
    if chosen is not None and not setting.dry:
        again = (chosen, *PUBLISHED)
        more = [Training(t.system, t.tuned, t.epochs, seed) for t in again for seed in (2, 3)]
        missing += run_jobs(setting, [job(setting, training) for training in more], rows)
    return {"rows": rows, "missing": missing}


def best(rows: Mapping[str, Mapping[str, Any]]) -> Training | None:
    """The candidate whose blend gains most on validation rows, seed 1; None where none is done."""
    done = [training for training in CANDIDATES if training.name in rows]
    return max(done, key=lambda training: float(rows[training.name]["gain_valid"]), default=None)


def job(setting: "Setting", training: Training) -> Job:
    """Its process."""
    given = {
        "system": training.system, "tuned": training.tuned, "epochs": training.epochs, "seed": training.seed,
        "backbone": setting.backbone, **({"targets": 48, "rows-at-most": 60} if setting.dry else {}),
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return Job(training.name, __file__, main, (str(setting.prepared / "ml-1m"), str(setting.work), *words))


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--system", choices=("paper", "tallrec", "timeline", "residual"), required=True)
    parser.add_argument("--tuned", choices=("lora", "all"), default="lora")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--targets", type=int, help="fewer than all, for a trial")
    parser.add_argument("--rows-at-most", type=int, help="of validation and of test rows, for a trial")
    arguments = parser.parse_args(given)
    training = Training(arguments.system, arguments.tuned, arguments.epochs, arguments.seed)
    dataset = load_prepared(arguments.prepared / "dataset")
    config = training.config(len(dataset.rows("train")), arguments.backbone, arguments.targets)
    row, arrays = train(training, config, dataset, arguments)
    np.savez_compressed(arguments.work / f"{training.name}.npz", **arrays)  # type: ignore[arg-type]
    (arguments.work / f"{training.name}.json").write_text(json.dumps(row, indent=1))


def train(
    training: Training, config: Config, dataset: Dataset, arguments: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Train once: a row of figures, and the logits of validation and test rows with first logits of training rows."""
    set_threads(config)
    kept = load_tensors(arguments.prepared / llm_residual.base_file(training.seed))[0]
    base = {name: z.numpy() for name, z in kept.items()}
    samples = dataset.samples("train")
    rung = fresh_rungs(dataset, config.crm, build_crm, config.seed)[0]
    if training.system == "paper":
        stage1(rung.neural, rung.encoder, dataset, config, Checkpoints(arguments.prepared))
    llm = load_llm(config, dataset)
    trainer = JointTrainer(llm.backbone, llm.prompts, rung.neural, rung.encoder, samples, config, base=base["train"])
    result = trainer.run(arguments.work / f"{training.name}.safetensors")
    row: dict[str, Any] = {
        "system": training.system, "tuned": training.tuned, "epochs": training.epochs, "seed": training.seed,
        "targets": result.targets, "tokens": result.tokens, "train_seconds": result.seconds, "commit": commit(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
    }  # fmt: skip
    learned = trainer.correction.learned() if trainer.correction is not None else None
    parts: dict[str, Samples] = {}
    said: dict[str, Floats] = {}
    began = time.perf_counter()
    for name in ("valid", "test"):
        part = dataset.samples(name)
        if arguments.rows_at_most:
            some = np.sort(np.random.default_rng(1).permutation(len(part))[: arguments.rows_at_most])
            part, base[name] = part.take(some), base[name][some]
        logits = llm.logits(part, rung)
        parts[name], said[name] = part, logits if learned is None else learned(base[name], logits)
        row[f"llm_auc_{name}"] = llm_residual.auc(part, said[name])
    row["score_seconds"] = time.perf_counter() - began
    blend = fit_blend(base["valid"], said["valid"], parts["valid"].label)
    for name, part in parts.items():
        blended = blend(base[name], said[name]).astype(np.float32)
        row |= llm_residual.gains(name, part, base[name], blended, "user")
        row[f"blend_auc_{name}"] = llm_residual.auc(part, blended)
    if training.system == "paper":
        row |= routed(rung.neural, rung.encoder, parts, said)
    return row, {**said, "first_logits": result.first_logits, "first_step": result.first_step}


def stage1(crm: nn.Module, encoder: CRMEncoder, dataset: Dataset, config: Config, kept: Checkpoints) -> None:
    """DCNv2 alone; read where it was trained before, for it needs no card."""

    def make() -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        train_crm(crm, encoder, dataset.samples("train"), dataset.samples("valid"), config.crm, config.seed)
        return crm.state_dict(), {}

    crm.load_state_dict(kept.tensors(f"dcnv2-{config.seed}", make)[0])


def routed(
    crm: nn.Module, encoder: CRMEncoder, parts: Mapping[str, Samples], said: Mapping[str, Floats]
) -> dict[str, float]:
    """The paper's system: the most uncertain rows get the language model's logit in place of DCNv2's."""
    z = {name: crm_logits(crm, encoder, part) for name, part in parts.items()}
    unsure = {name: entropy(probability(logits)) for name, logits in z.items()}
    asked = unsure["test"] >= threshold(np.sort(unsure["valid"]), SHARE)
    final = np.where(asked, said["test"], z["test"])
    told = {"crm_auc_test": z["test"], "final_auc_test": final}
    return {"share": float(asked.mean()), **{n: llm_residual.auc(parts["test"], s) for n, s in told.items()}}


if __name__ == "__main__":
    main()

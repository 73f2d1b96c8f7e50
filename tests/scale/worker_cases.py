"""Trainings that one process and several must agree on: `worker_cases.py DATASET SETTINGS FOLDER`.

Each case returns its losses, step by step, and its weights; the first of the workers writes them to FOLDER/CASE.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft  # noqa: F401  (imported before the fork, as are the classes of transformers)
import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401

from corella.checkpoint import save_tensors
from corella.config import Config
from corella.config.loading import merge
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.crm.training import train_crm
from corella.data.dataset import Dataset
from corella.data.store import load_prepared
from corella.joint.progress import JointProgress
from corella.joint.trainer import JointTrainer
from corella.llm.backbone import load_backbone, make_trainable, trainable
from corella.llm.shards import gathered
from corella.llm.timeline import timeline_prompts
from corella.workers import here

Outcome = dict[str, Tensor]


def conventional(dataset: Dataset, config: Config, crm: Mapping[str, Any]) -> Outcome:
    """Stage 1 of a neural model, dropout off; items hidden at random, which must not depend on the workers."""
    settings = config.crm.model_copy(update={"dropout": 0.0, "id_dropout": 0.0, "hide_items": 0.3, "epochs": 2, **crm})
    spec = make_spec(dataset)
    torch.manual_seed(7)
    model = build_crm(spec, settings)
    losses: list[float] = []
    fit = train_crm(
        model, make_encoder(spec, dataset), dataset.samples("train"), dataset.samples("valid"), settings, 1,
        lambda done, total, loss: losses.append(loss),
    )  # fmt: skip
    return {"losses": torch.tensor(losses), "auc": torch.tensor(fit.valid_auc), **model.state_dict()}


def joint(dataset: Dataset, config: Config, sections: Mapping[str, Any], residual: bool = False) -> Outcome:
    """Stages 2 and 3 on the timeline."""
    trainer, losses = joint_trainer(dataset, config, sections, residual), list[float]()
    trainer.run(None, lambda p: losses.extend(p.losses.values()))
    return joint_outcome(trainer, losses)


def joint_trainer(
    dataset: Dataset, config: Config, sections: Mapping[str, Any], residual: bool = False
) -> JointTrainer:
    """Fresh models; dropout off."""
    quiet = {"crm": {"dropout": 0.0, "id_dropout": 0.0}, "llm": {"lora_dropout": 0.0}}
    config = Config.model_validate(merge(merge(config.model_dump(mode="json"), quiet), sections))
    torch.manual_seed(7)
    spec = make_spec(dataset)
    crm = build_crm(spec, config.crm)
    backbone = make_trainable(load_backbone(config.llm), config.llm, config.seed)
    prompts = timeline_prompts(dataset, backbone, config.llm)
    train = dataset.samples("train")
    base = np.random.default_rng(1).normal(size=len(train)).astype(np.float32) if residual else None
    return JointTrainer(backbone, prompts, crm, make_encoder(spec, dataset), train, config, base=base)


def joint_outcome(trainer: JointTrainer, losses: list[float]) -> Outcome:
    """What all workers know in the end."""
    result, llm = trainer.result, trainable(gathered(trainer.backbone, trainer.config.llm, trainer.config.seed))
    return {
        "losses": torch.tensor(losses), "first_logits": torch.from_numpy(result.first_logits).nan_to_num(9e9),
        "first_step": torch.from_numpy(result.first_step), "tokens": torch.tensor(result.tokens),
        **{f"llm.{name}": p.detach() for name, p in llm.items()}, **trainer.crm.state_dict(),
        **trainer.projections.state_dict(),
    }  # fmt: skip


_FEW = {"joint": {"stage2_targets": 150, "stage3_targets": 150, "targets_per_step": 30}}
_ALL = {"llm": {"tuned": "all"}, "joint": {"learning_rate": 1e-3, "gamma": 1.0}}

CASES: dict[str, Callable[[Dataset, Config], Outcome]] = {
    "dcnv2": lambda dataset, config: conventional(dataset, config, {}),
    "odd": lambda dataset, config: conventional(dataset, config, {"model": "deepfm", "batch_size": 101}),
    "joint": lambda dataset, config: joint(dataset, config, _FEW),
    "one-window": lambda dataset, config: joint(dataset, config, {"joint": {**_FEW["joint"], "targets_per_step": 1}}),
    "residual": lambda dataset, config: joint(dataset, config, merge(_FEW, {"joint": {"target": "residual"}}), True),
    "all": lambda dataset, config: joint(dataset, config, merge(_FEW, _ALL)),
}
"""By name; each the same for any number of workers."""


SHARDED = ("joint", "one-window", "all")
STOPPED = "stopped"


def stopped(dataset: Dataset, config: Config, folder: Path) -> Outcome:
    """The case `all`, stopped behind its fourth step, and resumed from the checkpoint in `folder`."""
    sections, losses = merge(_FEW, merge(_ALL, {"joint": {"checkpoint_seconds": 1e-9}})), list[float]()

    def stop(progress: JointProgress) -> None:
        losses.extend(progress.losses.values())
        if progress.step == 4:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        joint_trainer(dataset, config, sections).run(folder / "joint.safetensors", stop)
    trainer = joint_trainer(dataset, config, sections)
    trainer.run(folder / "joint.safetensors", lambda p: losses.extend(p.losses.values()))
    return joint_outcome(trainer, losses[: 3 * 3] + losses[4 * 3 :])  # the fourth step was made twice


def main(dataset_folder: str, settings: str, folder: str) -> None:
    """All cases, as one of several workers."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    dataset, config = load_prepared(Path(dataset_folder)), Config.model_validate_json(Path(settings).read_text())
    cases = {name: make(dataset, config) for name, make in CASES.items()}
    held = Config.model_validate(merge(config.model_dump(mode="json"), {"joint": {"shard": True}}))
    cases |= {f"sharded-{name}": CASES[name](dataset, held) for name in SHARDED}
    cases |= {f"sharded-{STOPPED}": stopped(dataset, held, Path(folder).parent)}
    assert here().size > 1
    if here().first:
        for name, outcome in cases.items():
            save_tensors(Path(folder) / name, outcome, {})
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    for rank in range(int(os.environ["WORLD_SIZE"])):
        if os.fork() == 0:
            os.environ["RANK"] = str(rank)
            main(*sys.argv[1:])
            os._exit(0)
    sys.exit(max(os.waitstatus_to_exitcode(os.wait()[1]) != 0 for _ in range(int(os.environ["WORLD_SIZE"]))))

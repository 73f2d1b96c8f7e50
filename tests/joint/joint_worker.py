"""Stages 2 and 3 on a log made from a seed, in processes that can be killed: `joint_worker.py MODEL`.

For each line `CHECKPOINT DONE` of its input it forks a process that trains, going on from the checkpoint, and writes
the final weights to DONE; so the libraries are imported once. Prints `pid`, every step, and the exit status.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import peft  # noqa: F401  (imported before the fork, as are the classes of transformers)
import polars as pl
import torch
from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401

from corella.checkpoint import save_tensors
from corella.config import Config
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.data.dataset import make_dataset
from corella.joint.progress import JointProgress
from corella.joint.trainer import JointTrainer
from corella.llm.backbone import load_backbone, make_trainable
from corella.llm.timeline import timeline_prompts


def main(model: str, checkpoint: str, done: str) -> None:
    """Train; slow steps down a little, so that a kill hits the middle."""
    torch.set_num_threads(1)
    config = Config.model_validate({
        "data": {"source": "tables", "interactions": {"path": "log.csv"}},
        "crm": {"embedding_size": 4, "hidden": [16, 8]},
        "llm": {"backbone": model, "dtype": "bfloat16", "lora_dropout": 0.1, "window_tokens": 128},
        "joint": {"stage2_targets": 600, "stage3_targets": 600, "targets_per_step": 16, "checkpoint_seconds": 1e-9},
    })  # fmt: skip
    rng = np.random.default_rng(1)
    log = pl.DataFrame({
        "user_id": [f"u{i}" for i in rng.integers(0, 9, 400)], "item_id": [f"i{i}" for i in rng.integers(0, 12, 400)],
        "label": rng.integers(0, 2, 400).astype(np.int8), "timestamp": np.arange(400), "split": ["train"] * 400,
    })  # fmt: skip
    users = pl.DataFrame({"user_id": [f"u{i}" for i in range(9)]}).with_columns(text=pl.lit("A user. Likes it?"))
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(12)]}).with_columns(text=pl.format("Film {}", "item_id"))
    dataset = make_dataset(log, users, items, config.data)
    spec = make_spec(dataset)
    torch.manual_seed(3)
    crm = build_crm(spec, config.crm)
    backbone = make_trainable(load_backbone(config.llm), config.llm, config.seed)
    trainer = JointTrainer(
        backbone, timeline_prompts(dataset, backbone, config.llm), crm, make_encoder(spec, dataset),
        dataset.samples("train"), config,
    )  # fmt: skip

    def show(progress: JointProgress) -> None:
        print("step", progress.step, flush=True)
        time.sleep(0.01)

    result = trainer.run(Path(checkpoint), show)
    tensors = {**trainer.masters, **{f"crm.{n}": p for n, p in crm.state_dict().items()}}
    tensors["first_logits"] = torch.from_numpy(result.first_logits)
    tensors["first_step"] = torch.from_numpy(result.first_step)
    save_tensors(Path(done), tensors, {"targets": result.targets, "tokens": result.tokens})


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            main(sys.argv[1], *line.split())
            os._exit(0)
        print("pid", child, flush=True)
        print("end", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

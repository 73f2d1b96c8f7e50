"""Part of gpu.py: CLLM4Rec with all blocks of the language model, frozen [paper] and trained whole; no pooled head, so
that the language model carries everything.

    python benchmarks/gpu_retrieval.py PREPARED/ml-100k WORK --backbone-is frozen --blocks all

Measured as the pages of the two datasets do: NDCG@100, Recall@20 and @40 (ML-100K), NDCG@10 and Recall@10 (Scientific).
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from common import commit
from corella.checkpoint import Checkpoints
from corella.config.loading import load_config
from corella.data.store import load_prepared
from corella.retrieval.cllm4rec.system import CLLM4Rec
from corella.retrieval.histories import Reader, liked_items, top_items
from corella.retrieval.measures import ndcg_at, recall_at
from gpu_runs import Job, Rows, run_jobs

if TYPE_CHECKING:
    from gpu import Setting

DATA = ("ml-100k", "scientific")
_TRIAL = {
    "pretraining_epochs": 0, "fine_tuning_epochs": 1, "head_epochs": 1, "texts_per_epoch": 8, "reviews_per_epoch": 8,
    "users_per_step": 512, "longest_history": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Retrieval:
    """What is trained: `backbone` frozen or tuned, with `blocks` 4 or all."""

    data: str
    backbone: str
    blocks: str
    seed: int = 1

    @property
    def name(self) -> str:
        return f"cllm4rec-{self.data}-{self.backbone}-{self.blocks}-{self.seed}"


RETRIEVALS = [
    Retrieval(data, backbone, blocks)
    for backbone, blocks in (("frozen", "all"), ("tuned", "all"), ("frozen", "4"))
    for data in DATA
]
"""In order of worth; four blocks are what a processor is given."""


def retrievals(setting: "Setting", found: dict[str, Any]) -> dict[str, Any]:
    """All of them, as far as there is time."""
    rows: Rows = dict(found.get("retrieval", {}).get("rows", {}))
    chosen = RETRIEVALS[1:3] if setting.dry else RETRIEVALS  # a frozen and a trained one
    return {"missing": run_jobs(setting, [job(setting, each) for each in chosen], rows), "rows": rows}


def job(setting: "Setting", wanted: Retrieval) -> Job:
    """Its process."""
    given = {
        "backbone-is": wanted.backbone, "blocks": wanted.blocks, "seed": wanted.seed, "backbone": setting.backbone
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    words += ["--trial"] if setting.dry else []
    return Job(wanted.name, __file__, main, (str(setting.prepared / wanted.data), str(setting.work), *words))


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--backbone-is", choices=("frozen", "tuned"), default="frozen")
    parser.add_argument("--blocks", choices=("4", "all"), default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--trial", action="store_true", help="few steps, few users")
    arguments = parser.parse_args(given)
    torch.set_float32_matmul_precision("high")
    wanted = Retrieval(arguments.prepared.name, arguments.backbone_is, arguments.blocks, arguments.seed)
    dataset = load_prepared(arguments.prepared / "dataset")
    retrieval: dict[str, Any] = {
        "cllm4rec": True, "backbone": wanted.backbone, "layers": 4 if wanted.blocks == "4" else None, "refit": False,
        "pooled": False, "fine_tuning_epochs": 5, "fine_tuning_rate": 5e-3, "batch_tokens": 8192,
        "users_per_step": 64 if wanted.data == "scientific" else 16,
        **(_TRIAL if arguments.trial else {}),
    }  # fmt: skip
    llm = {"backbone": arguments.backbone, **({"dtype": "float32"} if wanted.backbone == "tuned" else {})}
    config = load_config(settings={"seed": wanted.seed, "threads": 1, "retrieval": retrieval, "llm": llm})
    began = time.perf_counter()
    model = CLLM4Rec(config).fit(dataset, Checkpoints(arguments.work / wanted.name))
    row: dict[str, Any] = {
        "data": wanted.data, "backbone": wanted.backbone, "blocks": wanted.blocks, "seed": wanted.seed,
        "train_seconds": time.perf_counter() - began, "llm_weight": float(model.model.weight), "commit": commit(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
    }  # fmt: skip
    known, new = liked_items(dataset, ("train", "valid")), liked_items(dataset, ("test",))
    users = [u for u in range(len(known)) if len(known[u]) and len(new[u])][: 40 if arguments.trial else None]
    lists: list[Any] = []
    for start in range(0, len(users), 256):
        some = users[start : start + 256]
        scores = model.scores([Reader(u, known[u]) for u in some])
        lists += top_items(scores, [known[u] for u in some], 100)
    wanted_items = [new[u] for u in users]
    row |= {f"ndcg{k}": float(np.mean(ndcg_at(k, lists, wanted_items))) for k in (10, 100)}
    row |= {f"recall{k}": float(np.mean(recall_at(k, lists, wanted_items))) for k in (10, 20, 40)}
    row["users"] = len(users)
    (arguments.work / f"{wanted.name}.json").write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()

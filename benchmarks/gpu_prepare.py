"""What gpu.py needs beside a card, made on a processor.

    python benchmarks/gpu_prepare.py --ml-1m FOLDER --scientific FOLDER --to PREPARED

PREPARED/ml-1m: CoLLM's rows, and for each seed the ensemble's logits (out of fold for training rows) and the paper's
DCNv2. PREPARED/ml-100k and PREPARED/scientific: rows for CLLM4Rec. All small: no features, no text embeddings.
"""

import argparse
from pathlib import Path

from common import run
from corella.checkpoint import Checkpoints
from corella.config.loading import load_config
from corella.crm.models import build_crm
from corella.crm.rungs import fresh_rungs
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.data.store import load_prepared, write_dataset
from corella.threads import set_threads
from gpu_ranking import Training, stage1
from llm_residual import base_file, prepare_base, without_features
from retrieval import DATA, SPLITS

SEEDS = (1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ml-1m", type=Path, help="the folder of ml-1m-collm")
    parser.add_argument("--scientific", type=Path, help="the folder of amazon-scientific")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.ml_1m:
        given = {"source": "ml-1m-collm", "path": str(arguments.ml_1m)}
        prepare_ranking(load_dataset(load_config(settings={"data": given})), arguments.to / "ml-1m", arguments)
    plain = {"text": {"encoder": "none"}}
    sources = {"ml-100k": {**DATA, "split": next(iter(SPLITS.values()))}}
    if arguments.scientific:
        sources["scientific"] = {"source": "amazon-scientific", "path": str(arguments.scientific)}
    for name, source in sources.items():
        dataset = load_dataset(load_config(settings={"data": {**source, **plain}, "seed": 1}))
        write_dataset(without_features(dataset), arguments.to / name / "dataset")


def prepare_ranking(dataset: Dataset, folder: Path, arguments: argparse.Namespace) -> None:
    """Rows, the ensemble's logits and DCNv2; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dataset" / "manifest.json").is_file():
        write_dataset(without_features(dataset), folder / "dataset")
    plain = load_prepared(folder / "dataset")
    for seed in arguments.seeds:
        if not (folder / base_file(seed)).is_file():
            prepare_base(folder.name, dataset, seed, arguments.threads, folder)
        config = Training("paper", seed=seed).config(len(plain.rows("train")), "smollm2-135m", None)
        set_threads(config.model_copy(update={"threads": arguments.threads}))
        rung = fresh_rungs(plain, config.crm, build_crm, seed)[0]
        stage1(rung.neural, rung.encoder, plain, config, Checkpoints(folder))


if __name__ == "__main__":
    run(main)

"""The routing tables from the logits that gpu.py brought back, on a processor: OUT/routing.json.

    python benchmarks/gpu_routing.py OUT --ml-1m FOLDER --prepared PREPARED

From the ensemble with text, for each seed of the best training: every policy at every share, blended and replaced, on
test rows; calibration, blend and router are fitted on validation rows. The router reads what it reads in the product,
but for the conventional model's hidden layer, which is not kept.
"""

import argparse
import json
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common import run
from corella.checkpoint import load_tensors
from corella.config import Config
from corella.config.loading import load_config
from corella.crm.encoder import make_encoder
from corella.crm.spec import make_spec
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.errors import UserError
from corella.evaluation.curves import RoutedSet, routing_curves
from corella.files import read_json
from corella.llm.backbone import Backbone, load_backbone
from corella.routing.features import cheap_features, fit_distilled_head, text_signals
from corella.routing.router import fit_router
from gpu_ranking import Training, best
from llm_residual import base_file

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
Arrays = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ml-1m", type=Path, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    arguments = parser.parse_args()
    given = {"source": "ml-1m-collm", "path": str(arguments.ml_1m)}
    config = load_config(settings={"data": given})
    backbone = load_backbone(config.llm)
    rows = routing_rows(
        read_json(arguments.out / "gpu.json")["ranking"]["rows"], arguments.out / "logits.npz",
        load_dataset(config), arguments.prepared / "ml-1m", backbone, config,
    )  # fmt: skip
    (arguments.out / "routing.json").write_text(json.dumps(rows, indent=1))


def routing_rows(
    trained: dict[str, Any], logits: Path, dataset: Dataset, prepared: Path, backbone: Backbone, config: Config
) -> list[dict[str, Any]]:
    """One row a policy, way of combining and share: means over the seeds that are there."""
    chosen = best(trained)
    if chosen is None:
        raise UserError("gpu.json has no training of which to make routing tables")
    names = [name for name, row in trained.items() if row["system"] == chosen.system
             and (row["tuned"], row["epochs"]) == (chosen.tuned, chosen.epochs)]  # fmt: skip
    curves = []
    with np.load(logits) as kept:
        for name in names:
            said = {key: kept[f"{name}/{key}"] for key in ("valid", "test", "first_logits", "first_step")}
            base = load_tensors(prepared / base_file(trained[name]["seed"]))[0]
            curves.append(curve(dataset, {k: z.numpy() for k, z in base.items()}, said, backbone, config, chosen))
    rows = []
    for points in zip(*curves, strict=True):
        first = points[0]
        row = {key: first[key] for key in ("policy", "combine", "share")}
        row |= {key: float(np.mean([p[key] for p in points])) for key in ("auc", "auc_low", "auc_high", "captured")}
        if round(first["share"], 2) in SHARES:
            rows.append({**row, "system": chosen.system, "tuned": chosen.tuned, "seeds": len(names)})
    return rows


def curve(
    dataset: Dataset, base: Arrays, said: Arrays, backbone: Backbone, config: Config, training: Training
) -> list[dict[str, Any]]:
    """All points of one seed."""
    encoder, text = make_encoder(make_spec(dataset), dataset), text_signals(dataset, backbone)
    features = partial(cheap_features, encoder, text)
    train, valid, test = (dataset.samples(part) for part in ("train", "valid", "test"))
    head = fit_distilled_head(features, train, said["first_logits"], said["first_step"], training.seed)
    cheap = [features(part) for part in (valid, test)]
    guesses = [head(each) if head is not None else None for each in cheap]
    router = fit_router(
        base["valid"], said["valid"], valid.label, cheap[0], guesses[0], valid.popularity[:, 0], valid.user,
        config.routing, training.seed,
    )  # fmt: skip
    inputs = router.inputs(base["test"], cheap[1], guesses[1], test.popularity[:, 0])
    z_llm = router.llm(said["test"])
    length = test.history_end - dataset.events.start[test.user]
    routed = RoutedSet(
        test.label, test.user, inputs.crm, z_llm, router.blend(inputs.crm, z_llm), inputs, length,
        test.popularity[:, 0],
    )  # fmt: skip
    return [asdict(p) if is_dataclass(p) else p.model_dump() for p in routing_curves(router, routed)]


if __name__ == "__main__":
    run(main)

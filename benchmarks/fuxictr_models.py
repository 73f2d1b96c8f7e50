"""Train FuxiCTR's DCNv2 or DIN on the rows that `peers.py` exported, with FuxiCTR's own loader, models and training.

Runs in an environment of its own (`pip install fuxictr==2.3.10 torch==2.13.0`), which need not hold this project:

    python benchmarks/fuxictr_models.py FOLDER DCNv2 SEED RESULT.json

FOLDER holds train, valid and test.parquet (indices of the user's fields, user_index, item_index, seq_len, label),
user_info.parquet (the whole history of each user), item_info.parquet (an item's fields) and columns.json.
"""

import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything
from model_zoo.LongCTR import DIN, DCNv2
from model_zoo.LongCTR.longctr_dataloader import LongCTRDataLoader

BATCH, EMBEDDING, HIDDEN = 512, 16, [200, 80]
"""Those of corella's own models."""


def main() -> None:
    folder, name, seed, result = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    seed_everything(seed)
    columns = json.loads((folder / "columns.json").read_text())
    features = feature_map(folder, columns)
    common: dict[str, Any] = {
        "gpu": -1, "model_root": str(folder / "checkpoints"), "metrics": ["AUC", "logloss"], "optimizer": "adam",
        "loss": "binary_crossentropy", "learning_rate": 1e-3, "embedding_dim": EMBEDDING, "net_dropout": 0.2,
        "embedding_regularizer": columns["regularizer"], "early_stop_patience": 2, "verbose": 0,
        "model_id": f"{name}-{seed}",
    }  # fmt: skip
    (folder / "checkpoints" / features.dataset_id).mkdir(parents=True, exist_ok=True)
    models = {
        "DCNv2": lambda: DCNv2(features, num_cross_layers=3, parallel_dnn_hidden_units=HIDDEN, **common),
        "DIN": lambda: DIN(features, dnn_hidden_units=HIDDEN, **common),
    }
    model = models[name]()
    train = loader(features, folder, "train", columns, shuffle=True)
    valid, test = (loader(features, folder, part, columns, shuffle=False) for part in ("valid", "test"))
    seconds = timed_epochs(model)
    model.fit(train, epochs=20, validation_data=valid)
    predictions = {part: model.predict(data).tolist() for part, data in (("valid", valid), ("test", test))}
    facts = {
        "rows": len(train.dataset), "rows_per_second": len(train.dataset) / float(np.median(seconds)),
        "epochs": len(seconds), "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
    }  # fmt: skip
    result.write_text(json.dumps({**facts, **predictions}))


def feature_map(folder: Path, columns: dict[str, Any]) -> FeatureMap:
    """FuxiCTR's description of the columns; index 0 of an item's column is padding."""
    features = FeatureMap("rows", str(folder))
    features.labels = ["label"]
    for column in ("user_index", "item_index", "seq_len"):
        features.features[column] = {"type": "meta", "emb_output_dim": 0}
    for column, size in columns["user"].items():
        features.features[column] = {"type": "categorical", "source": "user", "vocab_size": size}
    for column, size in columns["item"].items():
        spec = {"source": "item", "vocab_size": size, "padding_idx": 0, "embedding_dim": EMBEDDING}
        features.features[column] = {"type": "categorical", **spec}
        if column in columns["lists"]:
            features.features[column] |= {"type": "sequence", "feature_encoder": "layers.MaskedAveragePooling()"}
    features.num_fields = features.get_num_fields()
    features.default_emb_dim = EMBEDDING
    return features


def loader(features: FeatureMap, folder: Path, part: str, columns: dict[str, Any], shuffle: bool) -> LongCTRDataLoader:
    files = {name: str(folder / f"{name}_info.parquet") for name in ("user", "item")}
    return LongCTRDataLoader(
        features, str(folder / f"{part}.parquet"), files["user"], files["item"], batch_size=BATCH, shuffle=shuffle,
        num_workers=columns["workers"], max_len=columns["history_length"],
    )  # fmt: skip


def timed_epochs(model: Any) -> list[float]:
    """Seconds of each of the model's training epochs, without the evaluation at its end; filled while it trains."""
    seconds: list[float] = []
    evaluate, train = model.eval_step, model.train_epoch
    spent = [0.0]

    def timed_evaluate() -> None:
        began = time.perf_counter()
        evaluate()
        spent[0] += time.perf_counter() - began

    def timed_train(data: Any) -> None:
        began, spent[0] = time.perf_counter(), 0.0
        train(data)
        seconds.append(time.perf_counter() - began - spent[0])

    model.eval_step, model.train_epoch = timed_evaluate, timed_train
    return seconds


if __name__ == "__main__":
    main()

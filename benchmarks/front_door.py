"""The way in: how fast tables are read, what the checks cost, what a ranking of clicks reaches.

    python benchmarks/front_door.py --cases 25 --right 25      # of the handed cases, how many are right

`csv_over_parquet`: speed of preparing a million rows from CSV, over that from Parquet, every column checked; the same
rows, no text encoder, the mean of three runs in turn. `checks_share`: share of the Parquet preparation that the checks
take (missing values, ids, times, hashes of the files, extremes). `clicks_auc`: the likes of MovieLens-100K without
their ratings; LightGBM on count and text features, on held-out clicks against negatives drawn the same way; beside
popularity and EASE (penalty chosen on validation rows, the user's clicks up to date).
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.metrics import roc_auc_score

from common import DOCS, commit, run
from corella.config import Config
from corella.config.loading import load_config
from corella.crm.encoder import make_encoder
from corella.crm.spec import make_spec
from corella.crm.trees import train_trees
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset, prepare
from corella.files import write_json
from corella.runs.machine import machine

ROWS, USERS, ITEMS, RUNS = 1_000_000, 50_000, 10_000, 3
_CHECKS = (
    "corella.data.tables.read.without_missing", "corella.data.clean.id_warnings", "corella.data.clean._strange_times",
    "corella.data.clean.read_times", "corella.data.prepare.source_files", "corella.data.prepare._extremes",
)  # fmt: skip
_PENALTIES = (50, 100, 200, 500, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, required=True, help="how many cases were handed")
    parser.add_argument("--right", type=int, required=True, help="how many of them are right")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        figures = {
            "cases_right": arguments.right,
            "cases": arguments.cases,
            **reading(Path(folder)),
            **clicks(Path(folder)),
        }
    about = {"benchmark": "front-door", "commit": commit(), "machine": machine().model_dump()}
    write_json(DOCS / "front-door.json", {**about, "figures": figures})
    print(figures)


def reading(folder: Path) -> dict[str, float]:
    """Speed of CSV over Parquet, and what the checks cost."""
    rng = np.random.default_rng(1)
    pairs = rng.choice(USERS * ITEMS, ROWS, replace=False)
    log = pl.DataFrame({
        "user_id": pairs // ITEMS, "item_id": pairs % ITEMS, "rating": rng.integers(1, 6, ROWS),
        "timestamp": 1_500_000_000 + rng.integers(0, 10**8, ROWS),
    })  # fmt: skip
    log.write_csv(folder / "log.csv")
    log.write_parquet(folder / "log.parquet")
    pl.DataFrame({"item_id": range(ITEMS), "title": [f"Item {n}" for n in range(ITEMS)]}).write_csv(
        folder / "items.csv"
    )
    seconds: dict[str, list[float]] = {"csv": [], "parquet": []}
    shares = []
    for _ in range(RUNS):
        for suffix, taken in seconds.items():
            spent = [0.0]
            with _timed(spent):
                began = time.perf_counter()
                prepare(_settings(folder, f"log.{suffix}").data, 1, folder / "out")
                taken.append(time.perf_counter() - began)
            if suffix == "parquet":
                shares.append(spent[0] / taken[-1])
    print(seconds, shares, flush=True)
    return {
        "csv_over_parquet": float(np.mean(seconds["parquet"]) / np.mean(seconds["csv"])),
        "checks_share": float(np.mean(shares)),
    }


def _settings(folder: Path, log: str) -> Config:
    data = {
        "source": "tables", "interactions": {"path": str(folder / log)}, "items": {"path": str(folder / "items.csv")},
        "text": {"encoder": "none"}, "counts": {"neighbours": 0},
    }  # fmt: skip
    return load_config(settings={"data": data})


@contextmanager
def _timed(spent: list[float]) -> Iterator[None]:
    """Add the seconds of the checks."""
    from importlib import import_module

    patches = []
    for name in _CHECKS:
        module, _, function = name.rpartition(".")
        whole: Callable[..., Any] = getattr(import_module(module), function)

        def timed(*given: Any, whole: Callable[..., Any] = whole, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return whole(*given, **named)
            finally:
                spent[0] += time.perf_counter() - began

        patches.append(patch(name, timed))
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def clicks(folder: Path) -> dict[str, float]:
    """AUC on held-out clicks of MovieLens-100K."""
    whole = load_dataset("ml-100k")
    whole.log.filter(pl.col("label") == 1).select("user_id", "item_id", "timestamp").write_csv(folder / "clicks.csv")
    genres = pl.col("genres").list.join("|")
    whole.items.select("item_id", "title", "year", genres).write_csv(folder / "movies.csv")
    data = {
        "source": "tables", "interactions": {"path": str(folder / "clicks.csv")},
        "items": {"path": str(folder / "movies.csv"), "lists": {"genres": "|"}}, "item_text": "{title}, {genres}",
        "item_fields": ["year"], "list_fields": ["genres"],
        "counts": {"groups": [["user"], ["item"], ["user", "genres"]]},
    }  # fmt: skip
    config = load_config(settings={"data": data})
    dataset = prepare(config.data, 1, folder / "clicks")
    test = dataset.samples("test")
    encoder = make_encoder(make_spec(dataset, text=True), dataset)
    trees = train_trees(encoder, dataset.samples("train"), dataset.samples("valid"), config.lightgbm, 1)
    return {
        "clicks_auc": float(roc_auc_score(test.label, trees.logits(encoder, test))),
        "clicks_popularity_auc": float(roc_auc_score(test.label, test.popularity[:, 0])),
        "clicks_ease_auc": _ease(dataset),
    }


def _ease(dataset: Dataset) -> float:
    """EASE on training clicks (Steck, WWW 2019): the sum of an item's weights from what the user clicked before."""
    rows = dataset.seen.log.filter(pl.col("split") == "train")
    clicked = np.zeros((dataset.users.height, dataset.items.height), np.float32)
    clicked[rows["user"].to_numpy(), rows["item"].to_numpy()] = 1
    best = (0.0, 0.0)
    for penalty in _PENALTIES:
        inverse = np.linalg.inv(clicked.T @ clicked + penalty * np.eye(clicked.shape[1]))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        best = max(best, (_auc(dataset, weights, "valid"), _auc(dataset, weights, "test")))
    return best[1]


def _auc(dataset: Dataset, weights: npt.NDArray[np.floating], split: str) -> float:
    history: dict[int, list[int]] = {}
    labels, scores = [], []
    for user, item, label, part, drawn in dataset.log.select("user", "item", "label", "split", "drawn").iter_rows():
        if part == split:
            labels.append(label)
            scores.append(float(weights[history.get(user, []), item].sum()))
        if not drawn:
            history.setdefault(user, []).append(item)
    return float(roc_auc_score(labels, scores))


if __name__ == "__main__":
    run(main)

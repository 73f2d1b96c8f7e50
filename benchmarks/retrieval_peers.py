"""Other people's retrieval on the rows that `retrieval.py` exported, in an environment of its own.

    pip install 'rectools[torch]==0.19.0' pyarrow        (for all but Multi-VAE)
    pip install cornac==3.0.1 pandas pyarrow             (for Multi-VAE)
    python benchmarks/retrieval_peers.py rows.parquet FOLDER --seed 1 --models EASE ALS

`rows.parquet`: user_id, item_id, order, split (train, valid, test; likes only). Writes FOLDER/NAME.parquet (user_id,
place, item_id: the best 100 items for each test user, those of training and validation rows left out) and NAME.json.
Each model's settings are chosen on validation rows by NDCG@100 among a few; the chosen one learns from training and
validation rows. With `--measure LISTS` it writes RecTools' own metrics of any lists instead.
"""

import argparse
import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

K = 100
Settings = dict[str, Any]
GRIDS: dict[str, list[Settings]] = {
    "popularity": [{}],
    "item-KNN": [{"kind": kind, "neighbours": k} for kind, k in product(("cosine", "tfidf"), (20, 100, 400))],
    "ALS": [{"factors": f, "alpha": a, "regularization": 0.05} for f, a in product((16, 32, 64), (1, 5, 20))],
    "BPR": [{"factors": f, "learning_rate": lr, "iterations": 200} for f, lr in product((32, 64), (0.01, 0.05))],
    "EASE": [{"regularization": r} for r in (50, 100, 200, 400, 800)],
    "SASRec": [{"epochs": e} for e in (10, 30)],
    "Multi-VAE": [
        {"k": k, "autoencoder_structure": [600], "n_epochs": e, "beta": b}
        for k, e, b in product((100, 200), (50, 100), (0.1, 0.5))
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", nargs="*", choices=GRIDS, default=[])
    parser.add_argument("--measure", type=Path, help="Parquet: system, user_id, place, item_id")
    arguments = parser.parse_args()
    rows = pd.read_parquet(arguments.rows)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.measure is not None:
        result = measured(pd.read_parquet(arguments.measure), rows)
        (arguments.folder / "usual.json").write_text(json.dumps(result, indent=1))
    for name in arguments.models:
        began = time.perf_counter()
        recommend = multi_vae if name == "Multi-VAE" else rectools
        tried = [ndcg(recommend(name, s, arguments.seed, rows, ["train"], "valid"), rows, "valid") for s in GRIDS[name]]
        chosen = GRIDS[name][int(np.argmax(tried))]
        found = recommend(name, chosen, arguments.seed, rows, ["train", "valid"], "test")
        facts = {"valid_ndcg100": tried, "chosen": chosen, "seconds": time.perf_counter() - began}
        print(name, json.dumps(facts), flush=True)
        found.to_parquet(arguments.folder / f"{name}.parquet")
        (arguments.folder / f"{name}.json").write_text(json.dumps(facts, indent=1))


def rectools(
    name: str, settings: Settings, seed: int, rows: pd.DataFrame, known: list[str], asked: str
) -> pd.DataFrame:
    """The best items for the users of `asked` by a model of RecTools that learned from the rows of `known`."""
    from rectools import Columns
    from rectools.dataset import Dataset

    learned = rows[rows["split"].isin(known)]
    columns = {Columns.User: "user_id", Columns.Item: "item_id", Columns.Datetime: "order"}
    frame = pd.DataFrame({ours: learned[theirs] for ours, theirs in columns.items()})
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    dataset = Dataset.construct(frame.assign(**{Columns.Weight: 1.0}))
    model = _rectools_models()[name](seed, **settings)
    model.fit(dataset)
    users = _users(rows, learned, asked)
    found = model.recommend(users=users, dataset=dataset, k=K, filter_viewed=True)
    return found.rename(columns={Columns.Rank: "place"})[["user_id", "item_id", "place"]]


def _rectools_models() -> dict[str, Callable[..., Any]]:
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from implicit.nearest_neighbours import CosineRecommender, TFIDFRecommender
    from rectools import models

    knn = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender}

    def als(seed: int, **given: Any) -> Any:
        return models.ImplicitALSWrapperModel(AlternatingLeastSquares(random_state=seed, num_threads=2, **given))

    def bpr(seed: int, **given: Any) -> Any:
        return models.ImplicitBPRWrapperModel(BayesianPersonalizedRanking(random_state=seed, num_threads=2, **given))

    def sasrec(seed: int, **given: Any) -> Any:
        from pytorch_lightning import seed_everything

        seed_everything(seed, workers=True)
        return models.SASRecModel(n_factors=64, n_heads=1, session_max_len=100, lr=0.001, **given)

    return {
        "popularity": lambda seed: models.PopularModel(),
        "item-KNN": lambda seed, kind, neighbours: models.ImplicitItemKNNWrapperModel(knn[kind](K=neighbours)),
        "ALS": als,
        "BPR": bpr,
        "EASE": lambda seed, **given: models.EASEModel(**given),
        "SASRec": sasrec,
    }


def multi_vae(
    name: str, settings: Settings, seed: int, rows: pd.DataFrame, known: list[str], asked: str
) -> pd.DataFrame:
    """The same by cornac's Multi-VAE (Liang et al., WWW 2018)."""
    del name
    from cornac.data import Dataset
    from cornac.models import VAECF

    learned = rows[rows["split"].isin(known)]
    dataset = Dataset.from_uir([(u, i, 1.0) for u, i in zip(learned["user_id"], learned["item_id"], strict=True)])
    model = VAECF(seed=seed, likelihood="mult", act_fn="tanh", **settings).fit(dataset)
    items = np.array(list(dataset.item_ids))
    seen = learned.groupby("user_id")["item_id"].agg(set)
    parts = []
    for user in _users(rows, learned, asked):
        scores = np.array(model.score(dataset.uid_map[user]), dtype=float)
        scores[[dataset.iid_map[item] for item in seen[user]]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:K]
        best = best[np.isfinite(scores[best])]
        parts.append(pd.DataFrame({"user_id": user, "item_id": items[best], "place": np.arange(1, len(best) + 1)}))
    return pd.concat(parts, ignore_index=True)


def _users(rows: pd.DataFrame, learned: pd.DataFrame, asked: str) -> Any:
    """Users of `asked` of whom something is known."""
    return np.intersect1d(rows.loc[rows["split"] == asked, "user_id"].unique(), learned["user_id"].unique())


def ndcg(found: pd.DataFrame, rows: pd.DataFrame, asked: str) -> float:
    """NDCG@100, mean over users."""
    wanted = rows[rows["split"] == asked]
    hits = found.merge(wanted[["user_id", "item_id"]], on=["user_id", "item_id"])
    gain = (1 / np.log2(hits["place"] + 1)).groupby(hits["user_id"]).sum()
    ideal = np.cumsum(1 / np.log2(np.arange(2, K + 2)))
    best = wanted.groupby("user_id").size().map(lambda n: ideal[min(n, K) - 1])
    return float((gain.reindex(best.index).fillna(0) / best).mean())


def measured(lists: pd.DataFrame, rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Recall, NDCG, MRR and coverage at 10 by RecTools, for every system."""
    from rectools import Columns, metrics

    wanted = {
        "recall10": metrics.Recall(k=10), "usual_ndcg10": metrics.NDCG(k=10), "mrr10": metrics.MRR(k=10),
        "coverage10": metrics.CatalogCoverage(k=10, normalize=True),
    }  # fmt: skip
    known = rows.loc[rows["split"] != "test", "user_id"]
    test = rows[(rows["split"] == "test") & rows["user_id"].isin(known)]
    catalogue = rows["item_id"].unique()
    result = {}
    for system, found in lists.groupby("system"):
        reco = found.rename(columns={"place": Columns.Rank})[["user_id", "item_id", Columns.Rank]]
        values = metrics.calc_metrics(wanted, reco, test[["user_id", "item_id"]], catalog=catalogue)
        result[str(system)] = {name: float(value) for name, value in values.items()}
    return result


if __name__ == "__main__":
    main()

"""Retrieval: ours, CLLM4Rec and its ablations, and other people's models on MovieLens-100K, same rows, one run.

    python benchmarks/retrieval.py --rectools ENV/bin/python --cornac ENV/bin/python

The two interpreters have what `retrieval_peers.py` asks for. Resumable: trained runs and all lists are kept in the
runs folder.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common import auc, commit, run, stamp, table, union, write_result
from corella.checkpoint import Checkpoints
from corella.config import Config
from corella.config.loading import load_config, to_yaml
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.errors import UserError
from corella.files import read_json, write_json, write_text
from corella.progress import peak_gib
from corella.report.numbers import signed
from corella.retrieval.cllm4rec.system import CLLM4Rec
from corella.retrieval.histories import Reader, liked_items, top_items
from corella.retrieval.measures import ndcg_at, recall_at
from corella.runs.train import train_retrieval

DATA: dict[str, Any] = {"label": "rating > 3", "only_likes": True, "core": 5}
SPLITS: dict[str, dict[str, Any]] = {"each user at random": {"by": "each-user"}, "time": {"by": "time"}}
"""The first is the paper's preparation, another one for every seed; the second is one split."""
_OWN_HEAD: dict[str, Any] = {"pooled": False, "fine_tuning_epochs": 5, "fine_tuning_rate": 5e-3, "users_per_step": 8}
"""Without what the head learns from histories alone the language model carries everything; it gets more epochs."""
ALONE = "the language model alone"
ABLATIONS: dict[str, dict[str, Any]] = {
    "no content part": {**_OWN_HEAD, "content": False},
    "no collaborative part": {**_OWN_HEAD, "collaborative": False},
    "fixed item order": {**_OWN_HEAD, "fixed_order": True},
    "no fine-tuning": {**_OWN_HEAD, "fine_tuning_epochs": 0},
    "items' head tied to their embeddings": {**_OWN_HEAD, "tied": True},
    "masked fine-tuning of the paper": {**_OWN_HEAD, "masked_share": 0.2},
    "everything fine-tuned": {**_OWN_HEAD, "backbone": "tuned"},
    "backbone from scratch": {**_OWN_HEAD, "backbone": "scratch"},
}
"""What each takes away from, or changes in, the language model alone."""
VARIANTS: dict[str, dict[str, Any]] = {
    "corella": {},
    "corella with CLLM4Rec": {"cllm4rec": True},
    "linear with text": {"fusion": False},
    "linear without text": {"fusion": False, "text": 0.0},
    "CLLM4Rec": {},
    ALONE: _OWN_HEAD,
    **ABLATIONS,
}
MAIN = ("corella", "CLLM4Rec", ALONE)
"""On every split; the rest on the first split of the first seed."""
RECTOOLS = ("popularity", "item-KNN", "ALS", "BPR", "EASE", "SASRec")
MULTI_VAE = "Multi-VAE"
K = 100

TITLE = "Retrieval on MovieLens-100K"
TEXT = """\
MovieLens-100K, likes only (rating > 3), users and items with five at least. `each user at random`: 80/10/10 within
each user, the paper's preparation; `time`: the same fractions of the log in order of time, users with a training or
validation row. Recall@20, Recall@40 and NDCG@100 by the paper's definitions, means over users and seeds; the interval
is 95 %, over users (mean of the seeds'). Recall, NDCG, MRR and coverage at 10 by RecTools. Each seed has a random
split of its own; every system of a seed stands on the same rows, and a difference is of the seeds that both have. The
split by time is one, with one seed. All choices are made on validation rows: the others' settings among a few for
each seed. The others, our linear model and our head then learn from training and validation rows together; whatever
stands on the language model learns from training rows alone. Each of ours is trained in a process of its own: seconds
and peak memory are that process's.

`corella` is the retrieval as installed: the closed form with texts and order, and a fusion where that gains more than
noise. `CLLM4Rec` is that source alone: a linear head that learns from histories and texts, and a frozen language model
with user and item tokens, whose weight validation rows choose. `the language model alone` has no such head: the paper's
ablations stand on it, on seed 1 alone; the head tied to the embeddings and the masked fine-tuning are each one step
nearer to the paper. All read the first four blocks of the language model. `demo_train_seconds`: seconds of a training
of corella, mean of the seeds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-retrieval"))
    parser.add_argument("--rectools", type=Path, help="an interpreter with RecTools; unset: without its models")
    parser.add_argument("--cornac", type=Path, help="an interpreter with cornac; unset: without Multi-VAE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--splits", nargs="*", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", help="for all of ours, SECTION.NAME=VALUE"
    )
    parser.add_argument("--only-train", nargs=2, metavar=("SPLIT", "VARIANT"), help="one variant, for the first seed")
    arguments = parser.parse_args()
    if arguments.only_train is not None:
        split, name = arguments.only_train
        seed = arguments.seeds[0]
        config = config_of(split, seed, VARIANTS[name], arguments.overrides)
        return train_variant(folder_of(arguments.runs, split, seed), name, config)
    rows: list[dict[str, Any]] = []
    for split in arguments.splits:
        seeds = arguments.seeds if SPLITS[split]["by"] == "each-user" else arguments.seeds[:1]
        each = [_measure(arguments, split, seed) for seed in seeds]
        for system in each[0]:
            mine = [found[system] for found in each if system in found]
            row = {name: _mean([m[name] for m in mine]) for name in mine[0]}
            rows.append({"split": split, "system": system, **row, "seeds": len(mine)})
    commits = {"ours": union(path.read_text() for path in sorted(arguments.runs.rglob("*.commit")))}
    facts = {"seeds": arguments.seeds, "data": DATA, "overrides": arguments.overrides, "commits": commits}
    write_result("retrieval", TITLE, TEXT, rows, figures(rows), facts, page)


def _measure(arguments: argparse.Namespace, split: str, seed: int) -> dict[str, dict[str, float]]:
    """All systems on one split: system -> its numbers."""
    folder = folder_of(arguments.runs, split, seed)
    first = config_of(split, seed, {}, arguments.overrides)
    dataset = load_dataset(first)
    rows = folder / "rows.parquet"
    columns = dataset.log.select("user_id", "item_id", "split").with_columns(order=pl.int_range(pl.len()))
    if not rows.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        columns.write_parquet(rows)
    elif not columns.equals(pl.read_parquet(rows)):
        raise UserError(f"{folder} holds results on other rows; give another --runs folder")
    facts: dict[str, dict[str, Any]] = {}
    first_of_all = (split, seed) == (arguments.splits[0], arguments.seeds[0])
    variants = [name for name in arguments.variants if first_of_all or name in MAIN]
    for name in variants:
        wanted_config = to_yaml(config_of(split, seed, VARIANTS[name], arguments.overrides))
        kept, config = folder / f"{name}.facts.json", folder / f"{name}.yaml"
        if not kept.is_file() or config.read_text() != wanted_config:
            kept.unlink(missing_ok=True)
            write_text(config, wanted_config)
            again = [Path(__file__).resolve(), "--runs", arguments.runs, "--seeds", seed, "--only-train", split, name]
            more = [word for override in arguments.overrides for word in ("--set", override)]
            subprocess.run([sys.executable, *(str(word) for word in again), *more], check=True)
            write_text(folder / f"{name}.commit", commit())
        facts[name] = read_json(kept)
    here = Path(__file__).resolve().parent / "retrieval_peers.py"
    for python, names in ((arguments.rectools, RECTOOLS), (arguments.cornac, (MULTI_VAE,))):
        missing = [name for name in names if not (folder / f"{name}.parquet").is_file()]
        if python is not None and missing:
            command = [python, here, rows, folder, "--seed", seed, "--models", *missing]
            subprocess.run([str(word) for word in command], check=True)
    names = [*variants, *(n for n in (*RECTOOLS, MULTI_VAE) if (folder / f"{n}.parquet").is_file())]
    lists = {name: pl.read_parquet(folder / f"{name}.parquet") for name in names}
    usual = _usual(arguments, rows, folder, lists)
    codes = {name: _codes(dataset, found) for name, found in lists.items()}
    wanted = held_out(dataset)
    users = [u for u, items in enumerate(wanted) if len(items) and any(len(found[u]) for found in codes.values())]
    scores = {name: per_user([found[u] for u in users], [wanted[u] for u in users]) for name, found in codes.items()}
    return {
        name: {**_with_intervals(mine), **_differences(scores, name), **usual.get(name, {}), **facts.get(name, {})}
        for name, mine in scores.items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def config_of(split: str, seed: int, retrieval: dict[str, Any], overrides: Sequence[str]) -> Config:
    data = {**DATA, "split": SPLITS[split]}
    whole = {"llm": {"dtype": "float32"}} if "backbone" in retrieval else {}
    return load_config(overrides=overrides, settings={"seed": seed, "data": data, "retrieval": retrieval, **whole})


def folder_of(runs: Path, split: str, seed: int) -> Path:
    return runs / f"{re.sub(r'[^a-z]+', '-', split)}-{seed}"


def run_of(folder: Path, name: str) -> Path:
    return folder / f"run-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"


def train_variant(folder: Path, name: str, config: Config) -> None:
    """Train a variant and write its lists, and what it cost. A killed training goes on; its seconds then are None."""
    run_folder = run_of(folder, name)
    resumed = (run_folder / "checkpoints").is_dir() or (run_folder / "retrieval").is_dir()
    began = time.perf_counter()
    find = _trained(run_folder, name, config)
    trained = None if resumed else time.perf_counter() - began
    dataset = load_dataset(config)
    known = liked_items(dataset, ("train", "valid", "history"))
    began = time.perf_counter()
    best = find(known)
    seconds = time.perf_counter() - began
    items, users = dataset.items["item_id"].to_list(), dataset.users["user_id"].to_list()
    rows = [
        (users[u], items[int(i)], place)
        for u, found in enumerate(best)
        for place, i in enumerate(found, start=1)
        if len(known[u])
    ]
    frame = pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String, "place": pl.Int64}, orient="row")
    frame.write_parquet(folder / f"{name}.parquet")
    facts = {"train_seconds": trained, "recommend_seconds": seconds, "train_peak_gib": peak_gib()}
    write_json(folder / f"{name}.facts.json", facts)


def _trained(folder: Path, name: str, config: Config) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Train; returns what gives the best items of every user code, whose known items it is told."""
    if name in ("CLLM4Rec", ALONE, *ABLATIONS):
        beside = CLLM4Rec(config).fit(load_dataset(config), Checkpoints(folder / "checkpoints" / "retrieval"))
        return lambda known: top_items(
            beside.scores([Reader(beside.token(u), h) for u, h in enumerate(known)]), known, K
        )
    model = train_retrieval(folder, config)
    return lambda known: model.top([Reader(model.token(u), h) for u, h in enumerate(known)], known, K)


def _usual(
    arguments: argparse.Namespace, rows: Path, folder: Path, lists: dict[str, pl.DataFrame]
) -> dict[str, dict[str, float]]:
    """RecTools' own metrics of all lists."""
    if arguments.rectools is None:
        return {}
    together = pl.concat(
        found.select(pl.lit(name).alias("system"), "user_id", pl.col("place").cast(pl.Int64), "item_id")
        for name, found in lists.items()
    )
    together.write_parquet(folder / "lists.parquet")
    here = Path(__file__).resolve().parent / "retrieval_peers.py"
    command = [arguments.rectools, here, rows, folder, "--measure", folder / "lists.parquet"]
    subprocess.run([str(word) for word in command], check=True)
    return dict(read_json(folder / "usual.json"))


def held_out(dataset: Dataset) -> list[np.ndarray]:
    """For every user code the test items; none for users of whom nothing else is known."""
    known = liked_items(dataset, ("train", "valid", "history"))
    test = liked_items(dataset, ("test",))
    return [items if len(mine) else items[:0] for items, mine in zip(test, known, strict=True)]


def _codes(dataset: Dataset, found: pl.DataFrame) -> list[np.ndarray]:
    """Lists of item codes for every user code, best first."""
    items = dict(zip(dataset.items["item_id"], range(dataset.items.height), strict=True))
    lists: list[list[int]] = [[] for _ in range(dataset.users.height)]
    users = dict(zip(dataset.users["user_id"], range(dataset.users.height), strict=True))
    for user, item, _ in found.select("user_id", "item_id", "place").sort("user_id", "place").iter_rows():
        lists[users[user]].append(items[item])
    return [np.array(row, dtype=np.int64) for row in lists]


def per_user(lists: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "recall20": recall_at(20, lists, wanted), "recall40": recall_at(40, lists, wanted),
        "ndcg100": ndcg_at(K, lists, wanted),
    }  # fmt: skip


def _with_intervals(scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean over users and the ends of its 95 % interval, for each metric."""
    row = {}
    for name, values in scores.items():
        half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
        mean = float(values.mean())
        row |= {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
    return row


def _differences(scores: dict[str, dict[str, np.ndarray]], name: str) -> dict[str, float]:
    """Corella less this system, user by user, with the interval."""
    full = next(iter(scores))
    row = {}
    for metric in ("recall20", "ndcg100"):
        found = _with_intervals({metric: scores[full][metric] - scores[name][metric]})
        row |= {f"behind_full_{key}": value for key, value in found.items()}
    if name in ABLATIONS and ALONE in scores:
        found = _with_intervals({"ndcg100": scores[name]["ndcg100"] - scores[ALONE]["ndcg100"]})
        row |= {f"above_alone_{key}": value for key, value in found.items()}
    return row


def page(title: str, text: str, result: dict[str, Any]) -> str:
    """The Markdown page: what it says, a table for each split, and the figures."""
    # What an earlier commit measured keeps the words it was measured under.
    lines, full = [f"# {title}", "", result.get("text", text), "", stamp(result), ""], result["rows"][0]["system"]
    head = ["system", "Recall@20", "Recall@40", "NDCG@100", f"{full} less it, Recall@20", "the same, NDCG@100",
            "Recall@10", "MRR@10", "coverage@10", "training, s", "all users, s", "peak, GiB", "seeds"]  # fmt: skip
    for split in dict.fromkeys(row["split"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["split"] == split]
        said = [sentence for row in rows[1:] if (sentence := _sentence(row, full))]
        lines += [f"## Split: {split}", "", *(f"- {sentence}" for sentence in said), ""]
        lines += [*table(head, [_cells(row) for row in rows]), ""]
    lines += [
        "## Figures",
        "",
        *table(["figure", "value"], [[f"`{k}`", f"{v:.4f}"] for k, v in result["figures"].items()]),
    ]
    return "\n".join(lines) + "\n"


def _sentence(row: dict[str, Any], full: str) -> str:
    """What a row's difference says: an ablation's from the language model alone, on which it stands, any other's from
    `full`. Empty where it was not measured."""
    if row["system"] in ABLATIONS:
        if "above_alone_ndcg100" not in row:
            return ""
        low, high = row["above_alone_ndcg100_low"], row["above_alone_ndcg100_high"]
        verdict = "is above" if low > 0 else "is below" if high < 0 else "cannot be told from"
        less = signed(row["above_alone_ndcg100"])
        return f"{row['system']} {verdict} {ALONE}: NDCG@100 {less} [{signed(low)}, {signed(high)}] (one seed)."
    low, high = row["behind_full_ndcg100_low"], row["behind_full_ndcg100_high"]
    verdict = "is above" if low > 0 else "is below" if high < 0 else "cannot be told from"
    if low == high == 0:
        return f"{full} and {row['system']} say the same."
    less = signed(row["behind_full_ndcg100"])
    return f"{full} {verdict} {row['system']}: NDCG@100 {less} [{signed(low)}, {signed(high)}]."


def _cells(row: dict[str, Any]) -> list[str]:
    def spanned(name: str, write: Callable[[float], str] = auc) -> str:
        return f"{write(row[name])} [{write(row[name + '_low'])}, {write(row[name + '_high'])}]"

    usual = [auc(row.get(name)) for name in ("recall10", "mrr10", "coverage10")]
    costs = [row.get(name) for name in ("train_seconds", "recommend_seconds", "train_peak_gib")]
    return [
        row["system"], spanned("recall20"), auc(row["recall40"]), spanned("ndcg100"),
        spanned("behind_full_recall20", signed), spanned("behind_full_ndcg100", signed), *usual,
        *("" if cost is None else f"{cost:.1f}" for cost in costs), str(row["seeds"]),
    ]  # fmt: skip


def figures(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The named figures, on the paper's preparation."""
    rows = {row["system"]: row for row in found if row["split"] == next(iter(SPLITS))}
    names = {
        "corella": "corella",
        "cllm4rec": "CLLM4Rec",
        "ease": "EASE",
        "multivae": MULTI_VAE,
        "als": "ALS",
        "itemknn": "item-KNN",
    }
    values = {
        f"{short}_{metric}": rows[system][metric]
        for short, system in names.items()
        if system in rows
        for metric in ("recall20", "ndcg100")
    }
    costs = {
        "demo_train_seconds": "train_seconds", "recommend_all_users_seconds": "recommend_seconds",
        "train_peak_gib": "train_peak_gib",
    }  # fmt: skip
    full = rows.get("corella", {})
    return values | {figure: full[name] for figure, name in costs.items() if full.get(name) is not None}


if __name__ == "__main__":
    run(main)

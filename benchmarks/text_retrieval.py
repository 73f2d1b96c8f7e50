"""What text, read once an item, is worth to a retrieval: docs/benchmarks/text-retrieval.{json,md}.

    python benchmarks/text_retrieval.py --scientific FOLDER --p5 FOLDER --sasrec FOLDER --parts scientific Beauty

All items ranked for every user, the last of a user's items for the test, the one before it for validation. Trained
without both; a history at the test holds the one before it. Everything is chosen on validation rows. `--sequences OUT`
writes what benchmarks/sasrec.py reads, and ends; `--sasrec` holds what that made, a folder a dataset. Each part is
written as soon as it is measured; parts that are not asked for stay as the file has them.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from common import DOCS, commit, run, write_result
from corella.checkpoint import Checkpoints
from corella.config.loading import load_config
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.errors import UserError
from corella.files import read_json
from corella.progress import Reporter, peak_gib
from corella.retrieval.cllm4rec.system import CLLM4Rec
from corella.retrieval.fit import fit_retrieval
from corella.retrieval.histories import Reader, liked_items, top_items
from corella.retrieval.linear import Strengths
from corella.retrieval.measures import ndcg_at, recall_at
from corella.retrieval.system import Retrieval
from new_items import measure_new_items
from text_retrieval_page import figures, text_retrieval_page

Ints = npt.NDArray[np.int64]
Lists = list[Ints]

NAME, TITLE = "text-retrieval", "What text is worth to a retrieval, once an item"
P5 = ("Beauty", "Toys", "Sports")
PARTS = ("scientific", *P5, "SASRec", "CLLM4Rec", "new items", "sparse", "ml-100k")
_COLD = 5
"""An item with fewer training interactions than this, and at least one, is cold."""
_EVEN = {"text": 0.0, "following": 0.0, "recency": 1.0, "fusion": False}


def settings_of(source: str, path: Path, **retrieval: Any) -> Any:
    """The product's settings but for the protocol: validation rows choose, and are not learned from."""
    given = {"measure_at": 10, "refit": False, **retrieval}
    return load_config(settings={"data": {"source": source, "path": str(path)}, "retrieval": given})


def source_of(arguments: argparse.Namespace, part: str) -> tuple[str, Path]:
    if part in P5:
        return "amazon-p5", arguments.p5 / part
    return "amazon-scientific", arguments.scientific


class Rows:
    """Test users of a dataset, and the measures of lists for them."""

    def __init__(self, dataset: Dataset) -> None:
        known, wanted = liked_items(dataset, ("train", "valid")), liked_items(dataset, ("test",))
        self.users = [u for u in range(len(known)) if len(known[u]) and len(wanted[u])]
        self.histories = [known[u] for u in self.users]
        self.wanted = [wanted[u] for u in self.users]
        train = np.concatenate(liked_items(dataset, ("train",)))
        often = np.bincount(train, minlength=dataset.items.height)[[w[0] for w in self.wanted]]
        self.cold = (often > 0) & (often < _COLD)

    def measures(self, lists: Lists) -> dict[str, Any]:
        each = {
            **{f"ndcg{k}": ndcg_at(k, lists, self.wanted) for k in (5, 10)},
            **{f"recall{k}": recall_at(k, lists, self.wanted) for k in (5, 10, 50)},
        }
        return self._told(each)

    def of_ranks(self, ranks: Sequence[npt.NDArray[np.int32]]) -> dict[str, Any]:
        """The same of the places of the wanted items, a row a seed."""
        place = np.stack(ranks)
        each = {
            **{f"ndcg{k}": np.where(place <= k, 1 / np.log2(place + 1.0), 0).mean(0) for k in (5, 10)},
            **{f"recall{k}": (place <= k).mean(0) for k in (5, 10, 50)},
        }
        return self._told(each)

    def _told(self, each: dict[str, npt.NDArray[np.float64]]) -> dict[str, Any]:
        spread = 1.96 * each["ndcg10"].std(ddof=1) / len(self.users) ** 0.5
        return {
            **{name: float(values.mean()) for name, values in each.items()},
            "ndcg10_low": float(each["ndcg10"].mean() - spread), "ndcg10_high": float(each["ndcg10"].mean() + spread),
            "cold_recall10": float(each["recall10"][self.cold].mean()), "cold": int(self.cold.sum()),
            "users": len(self.users),
        }  # fmt: skip

    def lists(self, model: Retrieval, histories: Sequence[Ints] | None = None) -> Lists:
        used = self.histories if histories is None else list(histories)
        return model.top([Reader(-1, history) for history in used], self.histories, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scientific", type=Path, required=True, help="the folder of amazon-scientific")
    parser.add_argument("--p5", type=Path, required=True, help="the folder with Beauty, Toys and Sports")
    parser.add_argument("--sasrec", type=Path, help="what sasrec.py made, a folder a dataset")
    parser.add_argument("--sequences", type=Path, help="write the sequences that sasrec.py reads there, and end")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    if arguments.sequences:
        return write_sequences(arguments)
    kept = DOCS / f"{NAME}.json"
    rows: list[dict[str, Any]] = read_json(kept)["rows"] if kept.is_file() else []
    for part in arguments.parts:
        for row in _measure(arguments, part):
            found = {"part": part, **row, "commit": commit()}
            rows = [r for r in rows if (r["part"], r["system"]) != (found["part"], found["system"])]
            rows.append(found)
            write_result(NAME, TITLE, str(__doc__), rows, figures(rows), {"seeds": [1]}, text_retrieval_page)


def write_sequences(arguments: argparse.Namespace) -> None:
    arguments.sequences.mkdir(parents=True, exist_ok=True)
    for part in ("scientific", *P5):
        dataset = load_dataset(settings_of(*source_of(arguments, part)))
        histories = liked_items(dataset, ("train", "valid", "test"))
        start = np.cumsum([0, *map(len, histories)])
        np.savez_compressed(
            arguments.sequences / f"{part}.npz", item=np.concatenate(histories).astype(np.int32), start=start
        )


def _measure(arguments: argparse.Namespace, part: str) -> Any:
    if part == "SASRec":
        return _sasrec(arguments)
    if part == "CLLM4Rec":
        return _cllm4rec(arguments)
    if part == "new items":
        return measure_new_items(arguments.scientific)
    if part == "sparse":
        return _sparse(arguments)
    if part == "ml-100k":
        return _ml_100k()
    return _last_out(arguments, part)


def _last_out(arguments: argparse.Namespace, part: str) -> Any:
    source, path = source_of(arguments, part)
    reporter = Reporter()
    dataset = load_dataset(settings_of(source, path), reporter=reporter)
    rows = Rows(dataset)

    def fit(**retrieval: Any) -> tuple[Retrieval, dict[str, Any]]:
        began = time.perf_counter()
        model = fit_retrieval(settings_of(source, path, **retrieval), dataset, reporter=reporter)
        seconds = time.perf_counter() - began
        return model, {"train_seconds": seconds, "valid_ndcg10": model.said.linear, **vars(model.said.strengths)}

    train = np.concatenate(liked_items(dataset, ("train",)))
    popular = np.argsort(-np.bincount(train, minlength=dataset.items.height), kind="stable")
    lists = [popular[~np.isin(popular, history)][:50] for history in rows.histories]
    yield {"system": "popularity", **rows.measures(lists)}
    full, facts = fit()
    linear = replace(full, fusion=None)
    yield {"system": "text neighbours", **rows.measures(rows.lists(neighbours(linear)))}
    yield {"system": "linear with text", **rows.measures(rows.lists(linear)), **facts}
    fused = facts | {"valid_ndcg10": full.said.fused or full.said.linear, "fused": full.said.fused is not None}
    yield {"system": "corella", **rows.measures(rows.lists(full)), **fused, "train_peak_gib": peak_gib()}
    yield from _order(rows, full)
    for name, given in (("EASE", _EVEN), ("linear without text", {"text": 0.0, "fusion": False})):
        model, facts = fit(**given)
        yield {"system": name, **rows.measures(rows.lists(model)), **facts}


def _sasrec(arguments: argparse.Namespace) -> Any:
    """The rows of all datasets for which the folder holds places of the test items."""
    for part in ("scientific", *P5):
        folder = arguments.sasrec / part
        if not (folder / "sasrec.json").is_file():
            continue
        rows = Rows(load_dataset(settings_of(*source_of(arguments, part))))
        ranks = [np.load(found)["rank"] for found in sorted(folder.glob("ranks-*.npz"))]
        said = read_json(folder / "sasrec.json")
        best = max(row["valid_ndcg10"] for row in said["rows"])
        facts = {"valid_ndcg10": best, "seeds": len(ranks), "machine": said["device"]}
        yield {"part": part, "system": "SASRec", **rows.of_ranks(ranks), **facts}


def _cllm4rec(arguments: argparse.Namespace) -> Any:
    """What CLLM4Rec adds to the other sources where texts are rich, by what its items start from; and by itself."""
    source, path = source_of(arguments, "scientific")
    dataset = load_dataset(settings_of(source, path))
    rows, facts = Rows(dataset), {"part": "scientific"}
    readers = [Reader(user, history) for user, history in zip(rows.users, rows.histories, strict=True)]
    for start in ("encoder", "words"):
        config = settings_of(source, path, cllm4rec=True, start=start)
        with TemporaryDirectory() as folder:
            began = time.perf_counter()
            alone = CLLM4Rec(config).fit(dataset, Checkpoints(Path(folder)), Reporter())
            seconds = time.perf_counter() - began
            lists = [top_items(alone.scores([reader]), [reader.history], 50)[0] for reader in readers]
            yield {"system": f"CLLM4Rec, start {start}", **rows.measures(lists), "train_seconds": seconds, **facts}
            model = fit_retrieval(
                config, dataset, Checkpoints(Path(folder)), Reporter()
            )  # goes on from what is trained
        said = {"valid_ndcg10": model.said.fused or model.said.linear, "chosen": model.language_model is not None}
        lists = model.top(readers, rows.histories, 50)
        yield {"system": f"corella, CLLM4Rec beside, start {start}", **rows.measures(lists), **said, **facts}


def neighbours(model: Retrieval) -> Retrieval:
    """Nothing but the cosines of texts: the mean over the history, recent items counting more."""
    vectors = model.catalogue.vectors
    if vectors is None:
        raise UserError("data.text.encoder is none")
    weights = vectors @ vectors.T
    np.fill_diagonal(weights, 0)
    return replace(model, linear=replace(model.linear, weights=weights, strengths=Strengths(1.0, recency=0.7)))


def _order(rows: Rows, model: Retrieval) -> Any:
    """What remains where less is known of the order: the files have no times, and a day's order is theirs."""
    rng = np.random.default_rng(1)
    shuffled = [rng.permutation(history) for history in rows.histories]
    yield {"system": "corella, order of the history not known", **rows.measures(rows.lists(model, shuffled))}


def _sparse(arguments: argparse.Namespace) -> Any:
    """The form for large catalogues: its quality where the other one is possible too, and its cost at 200,000 items."""
    from large_catalogue import measure_large

    source, path = source_of(arguments, "scientific")
    dataset = load_dataset(settings_of(source, path))
    rows = Rows(dataset)
    model = fit_retrieval(settings_of(source, path, dense_items=0, fusion=False), dataset, reporter=Reporter())
    yield {"system": "scientific, 64 nearest items", **rows.measures(rows.lists(model))}
    yield measure_large()


def _ml_100k() -> Any:
    """The paper's preparation, three seeds: NDCG@100 by its definition."""
    each: Callable[[Sequence[float]], float] = lambda values: float(np.mean(values))  # noqa: E731
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in (1, 2, 3):
        data = {"source": "ml-100k", "label": "rating > 3", "only_likes": True, "core": 5, "split": {"by": "each-user"}}
        dataset = load_dataset(load_config(settings={"seed": seed, "data": data}))
        known, wanted = liked_items(dataset, ("train", "valid", "history")), liked_items(dataset, ("test",))
        users = [u for u in range(len(known)) if len(known[u]) and len(wanted[u])]
        for name, given in (("EASE", _EVEN), ("corella", {})):
            config = load_config(settings={"seed": seed, "data": data, "retrieval": given})
            model = fit_retrieval(config, dataset)
            lists = model.top([Reader(-1, known[u]) for u in users], [known[u] for u in users], 100)
            right = [wanted[u] for u in users]
            both = ndcg_at(100, lists, right).mean(), recall_at(20, lists, right).mean()
            found.setdefault(name, []).append((float(both[0]), float(both[1])))
    for name, values in found.items():
        yield {"system": name, "ndcg100": each([v[0] for v in values]), "recall20": each([v[1] for v in values])}


if __name__ == "__main__":
    run(main)

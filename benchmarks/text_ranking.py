"""What text, read once an item, is worth to the ensemble: docs/benchmarks/text-ranking.{json,md}.

    python benchmarks/text_ranking.py --polis FOLDER --ml-1m FOLDER --bookcrossing FOLDER

Rung 1 (with text) over rung 0 (without), each a blend of DCNv2 and LightGBM, both trained and chosen alike, on training
and validation rows. Each part is written as soon as it is measured; parts whose folder is not given, or that `--parts`
leaves out, stay as the file has them.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from common import DOCS, commit, run, write_result
from corella.config import Config
from corella.config.loading import load_config
from corella.crm.models import build_crm
from corella.crm.rungs import Rung, fresh_rungs
from corella.crm.training import crm_logits, train_crm
from corella.crm.trees import Trees, train_trees
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.data.samples import Samples
from corella.files import read_json
from corella.intervals import paired_bootstrap
from corella.threads import set_threads
from polis_rows import polis_dataset
from text_ranking_page import figures, text_ranking_page

NAME, TITLE = "text-ranking", "What text is worth to a ranking, once an item"
_RESAMPLES = 1000
_GROUPS = {"no interactions": (0, 0), "1 to 4": (1, 4), "5 or more": (5, 1 << 62)}


@dataclass(frozen=True)
class Part:
    """A protocol: its datasets (one a fold), what is resampled, and whether the items' own interactions are hidden."""

    datasets: Callable[[Path | None, int], Iterator[Dataset]]
    """From the folder of the raw files and the seed."""
    by: str
    hidden: bool = False


def _builtin(source: str) -> Callable[[Path | None, int], Iterator[Dataset]]:
    def load(path: Path | None, seed: int) -> Iterator[Dataset]:
        given = {"source": source} | ({"path": str(path)} if path else {})
        yield load_dataset(load_config(settings={"data": given, "seed": seed}))

    return load


def _polis(protocol: str, folds: int = 1) -> Callable[[Path | None, int], Iterator[Dataset]]:
    def load(path: Path | None, seed: int) -> Iterator[Dataset]:
        for fold in range(folds) if path else ():
            yield polis_dataset(path, protocol, seed, fold)

    return load


PARTS = {
    "ml-1m-collm": Part(_builtin("ml-1m-collm"), "user"),
    "polis newest": Part(_polis("newest"), "item", hidden=True),
    "polis warming": Part(_polis("warming"), "item"),
    "polis time": Part(_polis("time"), "user"),
    "ml-100k": Part(_builtin("ml-100k"), "user"),
    "polis folds": Part(_polis("folds", 5), "item", hidden=True),
    "bookcrossing": Part(_builtin("bookcrossing"), "user"),
}


def fit(rung: Rung, train: Samples, valid: Samples, config: Config, seed: int) -> tuple[Rung, Trees]:
    """Train a rung alone, as `fit_ranking` does; returns it with its trees."""
    train_crm(rung.neural, rung.encoder, train, valid, config.crm, seed)
    trees = train_trees(rung.encoder, train, valid, config.lightgbm, seed, new_items=config.crm.new_items)
    return rung.blended(trees, valid), trees


def measure(name: str, dataset: Dataset, part: Part, seed: int, fold: int) -> dict[str, Any]:
    """Both rungs on the test rows of a dataset."""
    # Where every item is new all rows are hidden, and nothing else is trained for.
    config = load_config(settings={"seed": seed, "threads": 1, "crm": {"new_items": not part.hidden}})
    set_threads(config)
    below: Rung | None = None
    shown: list[npt.NDArray[np.float32]] = []
    row: dict[str, Any] = {"part": name, "seed": seed, "fold": fold}
    test = dataset.samples("test")
    for place, fresh in enumerate(fresh_rungs(dataset, config.crm, build_crm, seed)):
        rung = replace(fresh, below=below)
        train, valid, asked = (dataset.samples(split) for split in ("train", "valid", "test"))
        if part.hidden:
            train, valid, asked = (rung.encoder.unseen(samples) for samples in (train, valid, asked))
        rung, trees = fit(rung, train, valid, config, seed)
        below = rung
        shown.append(rung.outputs(asked)[0])
        alone = (crm_logits(rung.neural, rung.encoder, asked), trees.logits(rung.encoder, asked))
        row |= {f"neural_{place}": _auc(test.label, alone[0]), f"trees_{place}": _auc(test.label, alone[1])}
        row |= {
            f"auc_{place}": _auc(test.label, shown[-1]),
            f"valid_{place}": _auc(valid.label, rung.outputs(valid)[0]),
        }
    units = test.item if part.by == "item" else test.user
    found = paired_bootstrap(test.label, *shown, _RESAMPLES, 0, units)
    row |= {"gain": found.mean, "low": found.low, "high": found.high, "rows": len(test), "units": len(np.unique(units))}
    for group, (least, most) in _GROUPS.items():
        some = np.flatnonzero((test.popularity[:, 0] >= least) & (test.popularity[:, 0] <= most))
        if len(np.unique(test.label[some])) == 2:
            found = paired_bootstrap(test.label[some], *(z[some] for z in shown), _RESAMPLES, 0, units[some])
            row[group] = [found.mean, found.low, found.high, len(some), _auc(test.label[some], shown[0][some])]
    return row


def _auc(label: npt.NDArray[np.int64], logit: npt.NDArray[np.float32]) -> float:
    return float(roc_auc_score(label, logit))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("polis", "ml-1m", "bookcrossing"):
        parser.add_argument(f"--{option}", type=Path, help="folder of the raw files")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    folders = {"polis": arguments.polis, "ml-1m-collm": arguments.ml_1m, "bookcrossing": arguments.bookcrossing}
    path = DOCS / f"{NAME}.json"
    for name in arguments.parts:
        folder = folders.get(name.split(" ")[0])
        if folder is None and name != "ml-100k":
            continue
        rows = []
        for seed in arguments.seeds:
            for fold, dataset in enumerate(PARTS[name].datasets(folder, seed)):
                rows.append({**measure(name, dataset, PARTS[name], seed, fold), "commit": commit()})
                print(rows[-1], flush=True)
        kept = read_json(path)["rows"] if path.is_file() else []
        rows = [row for row in kept if row["part"] != name] + rows
        rows = [row for part in PARTS for row in rows if row["part"] == part]
        facts = {"seeds": arguments.seeds, "resampled": {name: part.by for name, part in PARTS.items()}}
        write_result(NAME, TITLE, __doc__.split("\n\n")[2], rows, figures(rows), facts, text_ranking_page)


if __name__ == "__main__":
    run(main)

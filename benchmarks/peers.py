"""Our conventional models beside those of FuxiCTR: same rows, same splits, one run on one machine, pair by pair.

    python benchmarks/peers.py --path FOLDER --python ENVIRONMENT/bin/python --run RUN

`--path` is the folder of ml-1m-collm's raw files; `--python` the interpreter of an environment with FuxiCTR (see
`fuxictr_models.py`); `--run` a trained run on the same data, whose router and language model FuxiCTR's DCNv2 is
given to (`corella evaluate --outside`); without it those rows stay as they were measured.
"""

import argparse
import resource
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from common import DOCS, commit, flat, run, union, write_result
from corella.calibration import fit_calibrator
from corella.config import Config
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.crm.training import crm_logits, train_crm
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.evaluation.metrics import quality
from corella.files import read_json, write_json
from corella.intervals import paired_bootstrap
from corella.runs.evaluate import evaluate_run
from corella.threads import set_threads
from definitions import BENCHMARKS
from runs import config as make_config
from summary import METRICS, mean, spread

NAME = "ml-1m-collm"
PAIRS = {"dcnv2": "DCNv2", "din": "DIN"}
ID_DROPOUT = 0.0
"""Of our models; the best on validation rows (three seeds) of 0, .15 and .3."""
WORKERS, REGULARIZER = 2, 1e-4
"""Processes of FuxiCTR's loader, as many as cores (others were not tried); L2 of its embeddings. On validation rows
(seed 1) DCNv2 had .7596 to .7598 for 0, 1e-6, 1e-5, 1e-4, 1e-3, DIN .7585, .7589, .7591 for 0, 1e-6, 1e-4."""

TEXT = """\
The conventional models of FuxiCTR 2.3.10, trained by its own code, beside ours: the same rows, fields and histories
(item and answer), the same vocabularies (of training rows), batch 512, embedding 16, deep part 200-80, on
ml-1m-collm. Early stopping on validation AUC, each in its own way: ours looks four times an epoch (patience 6), theirs
once (patience 2, a tenth of the learning rate after a miss). Rows a second are those of training epochs, evaluation
left out; ours and theirs alternate, so that both meet the same machine. `auc_low` and `auc_high` are means over seeds
of 95 % DeLong intervals, those of differences of a paired bootstrap over users. `outside` rows: FuxiCTR's DCNv2 in
place of our model, calibrated, routed and blended with our language model by `corella evaluate --outside`, of the
first seed alone. The figure of rows a second is the median of the seeds' ratios, the table's rates are means. Peak
memory is that of the training process, without FuxiCTR's loaders. Not blind: our DCNv2 was revised after FuxiCTR's had
been ahead on these test rows (docs/research/experiments.md); here its ids are never
hidden, as validation rows prefer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--python", type=Path, help="interpreter of the environment with FuxiCTR")
    parser.add_argument("--run", type=Path, help="a trained run on ml-1m-collm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=Path("runs/bench-peers"))
    parser.add_argument("--ours", nargs=3, metavar=("MODEL", "SEED", "RESULT"), help="train one of ours here and now")
    arguments = parser.parse_args()
    config = make_config(1, [BENCHMARKS[NAME].settings, {"data": {"path": str(arguments.path)}}], [])
    dataset = load_dataset(config)
    if arguments.ours:
        model, seed, path = arguments.ours
        write_json(Path(path), train_ours(dataset, config, model, int(seed)))
        return
    work = arguments.work / dataset.digest()[:8]  # all on the same rows
    rows = work / "rows"
    if not (rows / "columns.json").is_file():
        export(dataset, rows)
    here = Path(__file__).resolve()
    found: dict[str, list[dict[str, Any]]] = {}
    scores: dict[str, list[np.ndarray]] = {}
    commits: list[str] = []
    for seed in arguments.seeds:
        for ours, theirs in PAIRS.items():
            for title, command in {
                f"corella {ours}": [sys.executable, here, "--path", arguments.path, "--ours", ours, seed],
                f"FuxiCTR {theirs}": [arguments.python, here.parent / "fuxictr_models.py", rows, theirs, seed],
            }.items():
                path = (work / f"{title.replace(' ', '-')}-{seed}.json").resolve()
                if not path.is_file():
                    subprocess.run([str(word) for word in (*command, path)], check=True)
                    write_json(path, {**read_json(path), "commit": commit()})
                commits.append(read_json(path)["commit"])
                found.setdefault(title, []).append(scored(dataset, config, read_json(path)))
                scores.setdefault(title, []).append(np.array(read_json(path)["test"]))
                print(title, seed, {k: v for k, v in found[title][-1].items() if isinstance(v, float)}, flush=True)
    names = (*METRICS, "rows_per_second", "peak_gib")
    table = [
        {"system": title, **{name: mean(each, name) for name in names}, "auc_sd": spread(each)}
        for title, each in found.items()
    ]
    ratios = [
        a["rows_per_second"] / b["rows_per_second"]
        for a, b in zip(found["corella dcnv2"], found["FuxiCTR DCNv2"], strict=True)
    ]
    auc = {row["system"]: row["auc"] for row in table}
    figures = {
        "crm_rows_per_second_ratio_fuxictr": float(np.median(ratios)),
        "crm_auc_minus_fuxictr": auc["corella dcnv2"] - auc["FuxiCTR DCNv2"],
        "din_auc_minus_fuxictr": auc["corella din"] - auc["FuxiCTR DIN"],
    }
    before = read_json(DOCS / "peers.json")
    if arguments.run is not None:
        path = work / "fuxictr-dcnv2.parquet"
        probabilities(dataset, read_json(work / f"FuxiCTR-DCNv2-{arguments.seeds[0]}.json"), path)
        copy = work / "outside"  # the run itself keeps its own figures
        if not copy.is_dir():
            shutil.copytree(arguments.run, copy)
        table += outside_rows(flat(evaluate_run(copy, outside=path).model_dump(mode="json")))
        measured = commit()
    else:
        table += [row for row in before["rows"] if row["system"].startswith("outside: ")]
        measured = before.get("commits", {}).get("outside", before["commit"])
    write_result("peers", "Conventional models beside FuxiCTR's", TEXT, table, figures, {
        "seeds": arguments.seeds, "differences": differences(dataset, scores),
        "commits": {"models": union(commits), "outside": measured},
    })  # fmt: skip


def differences(dataset: Dataset, scores: dict[str, list[np.ndarray]]) -> list[dict[str, Any]]:
    """Ours less theirs, for both models: means over seeds of a paired bootstrap over users."""
    test, rows = dataset.samples("test"), []
    for ours, theirs in PAIRS.items():
        a, b = f"FuxiCTR {theirs}", f"corella {ours}"
        each = [
            asdict(paired_bootstrap(test.label, one, other, 1000, seed, test.user))
            for seed, (one, other) in enumerate(zip(scores[a], scores[b], strict=True))
        ]
        rows.append({"a": a, "b": b, **{name: mean(each, name) for name in ("mean", "low", "high")}})
    return rows


def export(dataset: Dataset, folder: Path) -> None:
    """The rows as FuxiCTR's loader for histories reads them. An item has three rows in item_info: disliked, liked,
    and asked about; so its histories say what ours say."""
    folder.mkdir(parents=True, exist_ok=True)
    spec, config = make_spec(dataset), dataset.config
    encoder = make_encoder(spec, dataset)
    offsets = np.array(list(spec.offsets.values()))
    user_columns, item_columns = list(spec.user_columns), list(spec.item_columns)
    for part in ("train", "valid", "test"):
        samples = dataset.samples(part)
        fields = encoder.fields(samples).numpy() - offsets[: len(user_columns) + len(item_columns)]
        table = {name: fields[:, i] for i, name in enumerate(user_columns)}
        length = samples.history_end - dataset.events.start[samples.user]
        table |= {
            "user_index": samples.user, "item_index": 1 + 3 * samples.item + 2, "seq_len": length,
            "label": samples.label,
        }  # fmt: skip
        pl.DataFrame(table).write_parquet(folder / f"{part}.parquet")
    events, start = dataset.events, dataset.events.start
    sequence = 1 + 3 * events.item + events.label
    whole = [sequence[a:b].tolist() for a, b in pairwise(start)]
    pl.DataFrame({"full_item_seq": whole}).write_parquet(folder / "user_info.parquet")
    code = np.arange(dataset.items.height)
    batch = encoder.batch(replace(dataset.samples(np.zeros_like(code)), item=code))
    columns = {
        name: batch.fields[:, len(user_columns) + i].numpy() - spec.offsets[name] for i, name in enumerate(item_columns)
    }
    info: dict[str, Any] = {"item_index": np.arange(3 * len(code) + 1)}
    for name, values in columns.items():
        info[name] = np.r_[0, np.repeat(values + 1, 3)]
    lists = list(spec.list_columns)
    for name, index in zip(lists, batch.lists, strict=True):
        padded = index.numpy() - spec.offsets[name]
        info[name] = [[0] * padded.shape[1], *np.repeat(padded, 3, axis=0).tolist()]
    info["answer"] = np.r_[0, np.tile([1, 2, 3], len(code))]
    pl.DataFrame(info).write_parquet(folder / "item_info.parquet")
    write_json(folder / "columns.json", {
        "user": {name: len(values) + 1 for name, values in spec.user_columns.items()},
        "item": {name: len(values) + 2 for name, values in {**spec.item_columns, **spec.list_columns}.items()}
        | {"answer": 4},
        "lists": lists, "history_length": config.history_length, "workers": WORKERS, "regularizer": REGULARIZER,
    })  # fmt: skip


def train_ours(dataset: Dataset, config: Config, name: str, seed: int) -> dict[str, Any]:
    """Train one of our models without count features."""
    set_threads(config)
    crm = config.crm.model_copy(update={"model": name, "counts": False, "id_dropout": ID_DROPOUT})
    spec = make_spec(dataset)
    encoder = make_encoder(spec, dataset)
    train, valid, test = (dataset.samples(part) for part in ("train", "valid", "test"))
    once = crm.model_copy(update={"epochs": 3, "evaluations_per_epoch": 1})
    timed = train_crm(build_crm(spec, crm), encoder, train, valid.take(np.arange(200)), once, seed)
    torch.manual_seed(seed)
    model = build_crm(spec, crm)
    train_crm(model, encoder, train, valid, crm, seed)
    z = {part: crm_logits(model, encoder, samples) for part, samples in (("valid", valid), ("test", test))}
    return {
        "rows": len(train), "rows_per_second": timed.rows / timed.seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
        **{part: (1 / (1 + np.exp(-logits.astype(float)))).tolist() for part, logits in z.items()},
    }  # fmt: skip


def scored(dataset: Dataset, config: Config, result: dict[str, Any]) -> dict[str, Any]:
    """Quality of a result's probabilities on the test rows, calibrated on the validation rows like all others."""
    z_valid, z_test = (logit(np.array(result[part])) for part in ("valid", "test"))
    valid, test = dataset.samples("valid"), dataset.samples("test")
    calibrate = fit_calibrator(z_valid, valid.label, config.routing.calibration)
    facts = {name: float(result[name]) for name in ("rows_per_second", "peak_gib")}
    return {**quality(test.label, calibrate(z_test), test.user).model_dump(), **facts}


def logit(probability: np.ndarray) -> np.ndarray:
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p) - np.log1p(-p), np.float32)


def probabilities(dataset: Dataset, result: dict[str, Any], path: Path) -> None:
    """A table of user_id, item_id, timestamp and probability of the validation and test rows."""
    rows = np.concatenate([dataset.rows(part) for part in ("valid", "test")])
    values = pl.Series("probability", [*result["valid"], *result["test"]])
    dataset.log[rows].select("user_id", "item_id", "timestamp").with_columns(values).write_parquet(path)


def outside_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an evaluation that are about the outside model."""
    table = [
        {"system": f"outside: {s['system']}", **{m: s.get(m) for m in METRICS}}
        for s in metrics["systems"]
        if "outside" in s["system"]
    ]
    for point in metrics["curves"]["outside CRM"]:
        if (point["combine"], point["share"]) == ("blend", 0.2):
            name = f"outside: {point['policy']}, blend, 20 % routed"
            table.append({"system": name, **{m: point.get(m) for m in METRICS}})
    return table


if __name__ == "__main__":
    run(main)

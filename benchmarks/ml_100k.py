"""MovieLens-100K, split by time 8:1:1, label rating >= 4, mean of three seeds: every system, control and routing curve.

Resumable: each seed is a run folder; call again after a kill. Some half an hour a seed on two cores.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import write_result
from corella.config import Config
from corella.files import read_json
from corella.run import evaluate_run, train_run
from corella.settings import load_config

SETTINGS: dict[str, Any] = {
    "crm": {"id_dropout": 0.8},
    "llm": {"lora_first_layer": 10},
    "joint": {"stage2_targets": 16_000, "stage3_targets": 16_000},
    "evaluation": {"max_valid": 6000},
}
METRICS = ("auc", "auc_low", "auc_high", "user_auc", "logloss", "accuracy", "ece", "ndcg10")
TEXT = """\
MovieLens-100K (100,000 ratings), ordered by time, first 80 % of the rows for training, next 10 % for
validation, last 10 % for test; positive: rating >= 4. Language model: SmolLM2-135M-Instruct with LoRA, timeline
prompts. Every number is the mean over the seeds; `auc_low` and `auc_high` are the means of the seeds' 95 %
DeLong intervals on the 10,000 test rows, so they hold the uncertainty of the test set, not of the seed;
`auc_sd` is the standard deviation over seeds. `a & b` is a logistic regression on both calibrated logits,
fitted on validation rows. Rows with a policy route that share of the test samples by that policy and blend (or
replace) there; `captured` is the share of the full blend's AUC gain over that CRM. The oracle knows the true
difference of the logits: a guide, not a policy."""


def config(seed: int, overrides: Sequence[str]) -> Config:
    """The benchmark's configuration for a seed."""
    return load_config(overrides=overrides, settings={"seed": seed, **SETTINGS})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-ml-100k"))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--again", action="store_true", help="evaluate anew, without training again")
    arguments = parser.parse_args()
    results = []
    for seed in arguments.seeds:
        run = arguments.runs / f"seed-{seed}"
        model = train_run(run, config(seed, arguments.overrides))
        if arguments.again or not (run / "metrics.json").is_file():
            evaluate_run(run, model)
        results.append(read_json(run / "metrics.json"))
    facts = {"seeds": arguments.seeds, "settings": SETTINGS, "cost": cost(results)}
    write_result("ml-100k", "MovieLens-100K, split by time", TEXT, rows(results), figures(results), facts)


def rows(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a system, then one a CRM, policy, way of combining and share; means over the seeds."""
    table = []
    for name in (s["system"] for s in results[0]["systems"]):
        each = [next(s for s in r["systems"] if s["system"] == name) for r in results]
        routed = 1.0 if "llm" in name else 0.0
        means = {metric: mean(each, metric) for metric in METRICS}
        table.append({"system": name, "routed": routed, **means, "auc_sd": spread(each)})
    for crm, curve in results[0]["curves"].items():
        for point in curve:
            if round(point["share"], 2) not in (0.1, 0.2, 0.3, 0.5, 1.0):
                continue
            key = {k: point[k] for k in ("policy", "combine", "share")}
            each = [next(p for p in r["curves"][crm] if key.items() <= p.items()) for r in results]
            name = f"{crm}, {point['policy']}, {point['combine']}"
            facts = {metric: mean(each, metric) for metric in ("auc", "auc_low", "auc_high", "logloss", "accuracy")}
            captured = captured_gain(results, crm, str(point["policy"]), str(point["combine"]), point["share"])
            row = {"system": name, "routed": point["share"], **facts, "captured": captured, "auc_sd": spread(each)}
            table.append(row)
    return table


def figures(results: list[dict[str, Any]]) -> dict[str, float]:
    """The named figures, means over the seeds."""
    main_crm = results[0]["main_crm"]

    def system(name: str, metric: str = "auc") -> float:
        return mean([next(s for s in r["systems"] if s["system"] == name) for r in results], metric)

    def hard_third(name: str) -> float:
        groups = [r["groups"]["confidence of dcnv2"] for r in results]
        return mean(
            [next(g for g in t if g["group"] == "least confident" and g["system"] == name) for t in groups], "auc"
        )

    best = max(("lightgbm", "dcnv2", main_crm, f"lightgbm & {main_crm}"), key=system)
    captured = {
        f"gain_captured_20_{policy}": captured_gain(results, "dcnv2", policy, "blend", 0.2)
        for policy in ("learned", "entropy", "random", "oracle")
    }
    strong = {
        f"strong_gain_captured_20_{policy}": captured_gain(results, main_crm, policy, "blend", 0.2)
        for policy in ("learned", "entropy", "random")
    }
    values = {
        "crm_auc": system("dcnv2"), "strong_crm_auc": system(main_crm), "lightgbm_auc": system("lightgbm"),
        "llm_auc": system("llm"), "blend_auc": system(f"{main_crm} & llm"),
        "plain_blend_auc": system("dcnv2 & llm"), "stack_auc": system(f"lightgbm & {main_crm} & llm"),
        "best_conventional_auc": system(best),
        "blend_minus_best_conventional": system(f"{main_crm} & llm") - system(best),
        "stack_minus_best_conventional": system(f"lightgbm & {main_crm} & llm") - system(best),
        "routed_20_auc": curve_auc(results, "dcnv2", "learned", "blend", 0.2),
        "routed_30_auc": curve_auc(results, "dcnv2", "learned", "blend", 0.3),
        "strong_routed_30_auc": curve_auc(results, main_crm, "learned", "blend", 0.3), **captured, **strong,
        "hard_third_crm_auc": hard_third("dcnv2"), "hard_third_llm_auc": hard_third("llm"),
    }  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}


def curve_auc(results: list[dict[str, Any]], crm: str, policy: str, combine: str, share: float) -> float:
    """Mean AUC over the seeds of a policy at a share."""
    wanted = {"policy": policy, "combine": combine}
    points = [
        next(p for p in r["curves"][crm] if wanted.items() <= p.items() and abs(p["share"] - share) < 1e-9)
        for r in results
    ]
    return mean(points, "auc")


def captured_gain(results: list[dict[str, Any]], crm: str, policy: str, combine: str, share: float) -> float | None:
    """The share of the full blend's mean gain over the CRM that a policy has at a share (a ratio of means: a mean of
    ratios would be ruled by the seed whose gain is smallest); None where the blend gains less than .001 AUC: a share
    of that is noise."""
    base, full = (curve_auc(results, crm, policy, "blend", end) for end in (0.0, 1.0))
    if full - base < 0.001:
        return None
    return (curve_auc(results, crm, policy, combine, share) - base) / (full - base)


def cost(results: list[dict[str, Any]]) -> dict[str, float]:
    """Mean cost of a run."""
    names = ("llm_targets", "llm_tokens", "llm_seconds", "milliseconds_per_sample", "test_seconds")
    return {name: mean([r["cost"] for r in results], name) for name in names}


def mean(items: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([item[key] for item in items]))


def spread(items: list[dict[str, Any]]) -> float:
    return float(np.std([item["auc"] for item in items], ddof=1)) if len(items) > 1 else 0.0


if __name__ == "__main__":
    main()

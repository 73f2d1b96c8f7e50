"""Rows and figures of a ranking benchmark, means over the seeds, from the runs' metrics.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common import read_metrics
from corella.columns import ITEM, LABEL, TIME, USER
from corella.errors import UserError
from corella.evaluation.metrics import user_aucs
from corella.intervals import LEAST_CLUSTERS, bootstrap_mean, paired_bootstrap

METRICS = ("auc", "auc_low", "auc_high", "user_auc", "logloss", "accuracy", "ece", "ndcg10")
ROLES = {
    "neural": "neural model", "crm": "ensemble", "llm": "language model",
    "neural blend": "neural model & language model", "blend": "blend", "final": "final",
}  # fmt: skip
"""Roles that every run has, and their titles."""
SHARES = (0.1, 0.2, 0.3, 0.5, 1.0)
VARIANT_FIGURES = {
    "distilled_crm_auc": "distilled into the CRM: neural model",
    "crm_tokens_llm_auc": "CRM's view as soft tokens: language model",
    "crm_tokens_blend_auc": "CRM's view as soft tokens: blend",
    "titles_likes_only_auc": "titles and liked items only: blend",
    "titles_likes_only_llm_auc": "titles and liked items only: language model",
    "strict_time_blend_auc": "strict time: blend", "paper_auc": "CoReLLa as in the paper: final",
    "tallrec_auc": "TALLRec: language model",
}  # fmt: skip
"""Named figures, and the rows of variants whose AUC they are."""


def rows(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a system, then one a CRM, policy, way of combining and share; means over the seeds."""
    table = []
    for name in (s["system"] for s in results[0]["systems"]):
        each = [next(s for s in r["systems"] if s["system"] == name) for r in results]
        routed = 1.0 if "llm" in name else 0.0
        means = {metric: mean(each, metric) for metric in METRICS}
        table.append({"table": "systems", "system": name, "routed": routed, **means, **seeds(each)})
    finals = [r["final"] for r in results]
    routed = mean(finals, "share_routed")
    means = {metric: mean(finals, metric) for metric in METRICS}
    table.append({"table": "systems", "system": "final", "routed": routed, **means, **seeds(finals)})
    for crm, curve in results[0]["curves"].items():
        for point in curve:
            if round(point["share"], 2) not in SHARES:
                continue
            key = {k: point[k] for k in ("policy", "combine", "share")}
            each = [next(p for p in r["curves"][crm] if key.items() <= p.items()) for r in results]
            name = f"{crm}, {point['policy']}, {point['combine']}"
            names = ("auc", "auc_low", "auc_high", "user_auc", "logloss", "accuracy")
            facts = {name: mean(each, name) for name in names if all(name in p for p in each)}
            captured = captured_gain(results, crm, str(point["policy"]), str(point["combine"]), point["share"])
            key = {
                "crm": crm,
                "policy": point["policy"],
                "combine": point["combine"],
                "routed": round(point["share"], 2),
            }
            table.append({"table": "routing", "system": name, **key, **facts, "captured": captured, **seeds(each)})
    return table


def list_rows(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a system in lists that are scored at one moment: means over the seeds of the AUC and NDCG@10 within them,
    and of the difference of that AUC from the ensemble's and the ends of its interval. Empty where a run has
    no such lists."""
    if not all(r.get("slates") for r in results):
        return []
    table, main = [], results[0]["main_crm"]
    for name in (s["system"] for s in results[0]["slates"]["systems"]):
        each = [next(s for s in r["slates"]["systems"] if s["system"] == name) for r in results]
        apart = [d for r in results for d in r["slates"]["differences"] if (d["a"], d["b"]) == (main, name)]
        facts = {key: mean(each, key) for key in ("user_auc", "ndcg10")}
        if len(apart) == len(results):
            facts |= {f"difference_{key}": mean(apart, key) for key in ("mean", "low", "high")}
        facts["lists"] = mean([r["slates"] for r in results], "users")
        routed = mean([r["slates"] for r in results], "share_routed") if name == "final" else float("llm" in name)
        row = {"table": "lists", "system": f"one list a user: {name}", "routed": routed, "auc": None}
        table.append({**row, **facts, "seeds": len(results)})
    return table


def variant_rows(name: str, systems: Sequence[str], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a variant; `systems` are names of systems, or of roles, see `ROLES`."""
    table = []
    for system in systems:
        each = [
            r["final"] if system == "final" else next(s for s in r["systems"] if s["system"] == played(r, system))
            for r in results
        ]
        everywhere = 1.0 if "llm" in played(results[0], system) else 0.0
        routed = mean(each, "share_routed") if system == "final" else everywhere
        means = {metric: mean(each, metric) for metric in METRICS}
        row = {"table": "variants", "system": titled(name, system), "routed": routed, **means}
        size = {"targets": cost(results)["llm_targets"], "test_rows": results[0]["samples"]["test"]}
        table.append({**row, **seeds(each), **size})
    return table


def titled(name: str, system: str) -> str:
    """What a system of a variant is called."""
    return f"{name}: {ROLES.get(system, system)}"


def played(result: Mapping[str, Any], role: str) -> str:
    """The system that plays a role in a run; other names stand for themselves."""
    crm = result["main_crm"]
    neural = result["neural_crm"]
    systems = {"neural": neural, "crm": crm, "neural blend": f"{neural} & llm", "blend": f"{crm} & llm"}
    return str(systems.get(role, role))


def variant_differences(
    name: str, other: str, systems: Sequence[str], pairs: Sequence[tuple[Path, Path]]
) -> list[dict[str, Any]]:
    """AUC of a variant's systems less that of the same ones of another run, on the test rows that both have read, users
    resampled; means over the seeds. `pairs`: both runs' folders, a pair a seed."""
    found = []
    for system in systems:
        each = [paired_difference(run_scores(ours, system), run_scores(theirs, system)) for ours, theirs in pairs]
        found.append({"a": titled(other, system), "b": titled(name, system), **mean_difference(each)})
    return found


def inner_difference(name: str, a: str, b: str, runs: Sequence[Path]) -> dict[str, Any]:
    """AUC and per-user AUC of system `b` of a variant less those of its system `a`, on its own test rows, users
    resampled; means over the seeds. `runs`: its folders, one a seed."""
    each = [paired_difference(run_scores(run, b), run_scores(run, a)) for run in runs]
    return {"a": titled(name, a), "b": titled(name, b), **mean_difference(each)}


def run_scores(run: Path, system: str) -> pl.DataFrame:
    """What a system of a run says of its test rows, a column `score` beside what names the row."""
    column = played(read_metrics(run), system)
    rows = pl.read_parquet(run / "predictions.parquet")
    return rows.select(USER, ITEM, LABEL, *({TIME} & set(rows.columns)), score=column)


def paired_difference(ours: pl.DataFrame, theirs: pl.DataFrame) -> dict[str, float]:
    """AUC of ours less that of theirs on the rows that both have, users resampled. Raises `UserError` where they share
    none."""
    keys = [name for name in ours.columns if name != "score"]
    both = ours.join(theirs, on=keys, suffix="_theirs", validate="1:1")
    if both.is_empty():
        raise UserError("two systems that are compared have read no test row in common")
    user, label = both[USER].rank("dense").to_numpy().astype(np.int64), both[LABEL].to_numpy()
    a, b = (both[name].to_numpy() for name in ("score_theirs", "score"))
    found = {**asdict(paired_bootstrap(label, a, b, 1000, 1, user)), "rows": len(both), "users": len(np.unique(user))}
    within = user_aucs(label, b, user) - user_aucs(label, a, user)
    if len(within) >= LEAST_CLUSTERS:
        found["user_auc_users"] = len(within)
        found |= {f"user_auc_{key}": value for key, value in asdict(bootstrap_mean(within, 1000, 1)).items()}
    return {key: value for key, value in found.items() if not key.endswith("p_value")}


def mean_difference(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the seeds of what all have: differences, and the ends of their intervals."""
    shared = [key for key in each[0] if all(key in found for found in each)]
    return {"seeds": len(each), **{key: mean(each, key) for key in shared}}


def figures(results: list[dict[str, Any]]) -> dict[str, float | None]:
    """The named figures of the main runs, means over the seeds; None where a figure is not defined."""
    main_crm, neural = results[0]["main_crm"], results[0]["neural_crm"]

    def system(name: str, metric: str = "auc") -> float:
        return mean([next(s for s in r["systems"] if s["system"] == name) for r in results], metric)

    def hard_third(name: str) -> float:
        groups = [r["groups"]["confidence of dcnv2"] for r in results]
        return mean(
            [next(g for g in t if g["group"] == "least confident" and g["system"] == name) for t in groups], "auc"
        )

    captured = {
        f"gain_captured_20_{policy}": captured_gain(results, "dcnv2", policy, "blend", 0.2)
        for policy in ("learned", "entropy", "random", "oracle")
    }
    strong = {
        f"half_gain_captured_20_{policy}": captured_gain(results, main_crm, policy, "blend", 0.2)
        for policy in ("learned", "entropy", "random")
    }
    return {
        "crm_auc": system("dcnv2"), "strong_crm_auc": system(neural), "lightgbm_auc": system("lightgbm"),
        "conventional_half_auc": system(main_crm),
        "llm_auc": system("llm"), "blend_auc": system(f"{main_crm} & llm"),
        "half_user_auc": system(main_crm, "user_auc"), "llm_user_auc": system("llm", "user_auc"),
        "blend_user_auc": system(f"{main_crm} & llm", "user_auc"),
        "plain_blend_auc": system("dcnv2 & llm"), "neural_blend_auc": system(f"{neural} & llm"),
        "main_best_conventional_auc": max(system(name) for name in results[0]["conventional"]),
        "final_auc": mean([r["final"] for r in results], "auc"),
        "routed_20_auc": curve_auc(results, "dcnv2", "learned", "blend", 0.2),
        "routed_30_auc": curve_auc(results, "dcnv2", "learned", "blend", 0.3),
        "half_routed_20_auc": curve_auc(results, main_crm, "learned", "blend", 0.2),
        "half_routed_30_auc": curve_auc(results, main_crm, "learned", "blend", 0.3), **captured, **strong,
        "hard_third_crm_auc": hard_third("dcnv2"), "hard_third_llm_auc": hard_third("llm"),
    }  # fmt: skip


def table_figures(table: list[dict[str, Any]], main: Mapping[str, float]) -> dict[str, float]:
    """The named figures that other parts of the page have a share in; `main`: those of the main runs."""
    found = {row["system"]: row["auc"] for row in table}
    rivals = [row["auc"] for row in table if row["table"] == "conventional"]
    best = max([main["main_best_conventional_auc"], *rivals])
    return {
        "best_conventional_auc": best,
        "blend_minus_best_conventional": main["blend_auc"] - best,
        **{name: found[row] for name, row in VARIANT_FIGURES.items() if row in found},
    }


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
    names = ("llm_targets", "llm_tokens", "llm_seconds", "milliseconds_per_sample", "crm_milliseconds_per_sample",
             "test_seconds")  # fmt: skip
    return {name: mean([r["cost"] for r in results], name) for name in names}


def differences(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every comparison of the runs, users resampled (rows, where each user has one): means over the seeds of the
    difference and of the ends of its 95 % interval."""
    kinds = {d["resampled"] for d in results[0]["differences"]}
    chosen = "users" if "users" in kinds else "rows"
    pairs = [(d["a"], d["b"]) for d in results[0]["differences"] if d["resampled"] == chosen]
    found = []
    for a, b in dict.fromkeys(pairs):
        each = [
            d for r in results for d in r["differences"] if (d["a"], d["b"], d["resampled"]) == (a, b, chosen)
        ]  # fmt: skip
        if len(each) == len(results):  # the best conventional system may be another in another seed
            means = {name: mean(each, name) for name in ("mean", "low", "high")}
            found.append({"a": a, "b": b, "seeds": len(each), **means, **_within_users(results, a, b)})
    return found


def _within_users(results: list[dict[str, Any]], a: str, b: str) -> dict[str, float]:
    """The same of the AUC within users, where all runs have measured it."""
    each = [d for r in results for d in r.get("user_auc_differences", []) if (d["a"], d["b"]) == (a, b)]
    if len(each) < len(results):
        return {}
    return {f"user_auc_{name}": mean(each, name) for name in ("mean", "low", "high", "users")}


def groups(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """AUC of the systems in every group, means over the seeds; groups that a seed lacks are left out."""
    found = []
    for grouping, first in results[0]["groups"].items():
        for row in first:
            key = {"group": row["group"], "system": row["system"]}
            each = [g for r in results for g in r["groups"][grouping] if key.items() <= g.items()]
            if len(each) == len(results):
                values = {name: mean(each, name) for name in ("auc", "auc_low", "auc_high")}
                samples = round(float(np.mean([g["samples"] for g in each])))
                found.append({"grouping": grouping, **key, "samples": samples, **values})
    return found


def seeds(items: list[dict[str, Any]]) -> dict[str, Any]:
    """How many seeds a row is the mean of, and the standard deviation of the AUC over them."""
    return {"auc_sd": spread(items), "seeds": len(items)}


def mean(items: Sequence[Mapping[str, Any]], key: str) -> Any:
    """The mean of a metric, None where it is not defined (per-user AUC with one test row a user)."""
    values = [item[key] for item in items]
    return None if any(value is None for value in values) else float(np.mean(values))


def spread(items: list[dict[str, Any]]) -> float | None:
    """Standard deviation of the AUC over the seeds; None for one seed."""
    return float(np.std([item["auc"] for item in items], ddof=1)) if len(items) > 1 else None

"""What a run shows, in sentences that follow from its numbers alone; and the paired differences they rest on."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import rankdata

from corella.evaluation.results import Interval, RankingMetrics
from corella.evaluation.systems import LIGHTGBM, System
from corella.intervals import LEAST_CLUSTERS
from corella.report.markup import esc, interval
from corella.report.numbers import auc_text, percent, signed


def difference(metrics: RankingMetrics, predictions: pl.DataFrame, a: str, b: str) -> Interval | None:
    """AUC of b minus AUC of a, its interval with users as units: from the metrics, or else from the predictions."""
    return metrics.difference(a, b) or clustered(predictions, a, b)


def clustered(predictions: pl.DataFrame, a: str, b: str) -> Interval | None:
    """The difference from the predictions with users as units; nothing where they do not allow one.

    DeLong's components (see `auc_interval`) are summed within each user, whose sums are independent (Obuchowski
    1997): what resampling users tends to, without the resampling.
    """
    if not {a, b, "label", "user_id"} <= set(predictions.columns) or predictions["label"].n_unique() < 2:
        return None
    user = predictions["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    users = int(user.max()) + 1
    if users < LEAST_CLUSTERS:
        return None
    positive = predictions["label"].to_numpy() == 1
    (first, auc_first), (second, auc_second) = (_components(predictions[c].to_numpy(), positive) for c in (a, b))
    sums = np.bincount(user, weights=second - first)
    half = 1.96 * float(np.sqrt(users / (users - 1) * np.sum(sums**2)))
    mean = auc_second - auc_first
    return Interval(mean=mean, low=mean - half, high=mean + half)


def _components(score: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], float]:
    """How far each row pulls the AUC up or down, and the AUC."""
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(score)
    above = (ranks[positive] - rankdata(score[positive])) / n
    below = 1 - (ranks[~positive] - rankdata(score[~positive])) / m
    auc = float(above.mean())
    pull = np.empty(len(score))
    pull[positive], pull[~positive] = (above - auc) / m, (below - auc) / n
    return pull, auc


def render_verdict(metrics: RankingMetrics, predictions: pl.DataFrame) -> str:
    """The box at the top of the report."""
    main, final = metrics.main_crm, metrics.final
    crm, routed = metrics.system(main).auc, difference(metrics, predictions, main, "final")
    state, status, judged = "even", "Routing makes no significant difference", ": not significant."
    if routed is None:
        status, judged = "Too few users to judge the routing", "."
    elif routed.sign > 0:
        state, status, judged = "better", "Routing to the language model helps", ": a significant gain."
    elif routed.sign < 0:
        state, status, judged = "worse", "Routing to the language model hurts", ": significantly worse."
    change = signed(final.auc - crm) + (f"; {interval(routed)}, resampling users" if routed else "")
    first = (
        f"Sending {percent(final.share_routed)} of the test samples to the language model moves test AUC from "
        f"{auc_text(crm)} to {auc_text(final.auc)} ({change}){judged}"
    )
    said = (
        first,
        _against_full(routed, difference(metrics, predictions, main, f"{main} & llm")),
        _within_users(metrics),
        _against_conventional(metrics, predictions),
    )
    text = "".join(f"<p>{esc(s)}</p>" for s in said if s)
    return (
        f'<div class="verdict {state}" role="note" aria-label="Verdict"><p class="status">{esc(status)}</p>{text}</div>'
    )


def _against_full(routed: Interval | None, full: Interval | None) -> str:
    """How much of what the language model could give at 100 % was captured, if there is anything to capture."""
    if routed is None or full is None:
        return ""
    if full.mean <= 0:
        return (
            f"Blending it into every sample changes AUC by {signed(full.mean)} ({interval(full)}): "
            "there is no gain to capture."
        )
    if full.sign == 0:
        return (
            f"Blending it into every sample would give {signed(full.mean)} ({interval(full)}): not significant, so "
            "there is nothing to capture."
        )
    if routed.mean <= 0:
        return (
            f"Blending it into every sample gives {signed(full.mean)} ({interval(full)}); "
            "routing captures none of that."
        )
    return (
        f"That is {percent(routed.mean / full.mean)} of the {signed(full.mean)} ({interval(full)}) that the "
        "language model gives when it is blended into every sample."
    )


def _within_users(metrics: RankingMetrics) -> str:
    """What asking the language model does to the order of one user's items, at the routed share and everywhere: the
    AUC of all samples also gains from telling users apart. Where slates are measured, the per-user AUC of all samples
    is told only where it is significant."""
    main, slates = metrics.main_crm, metrics.slates
    named = [(main, "final"), (main, f"{main} & llm")]
    said = []
    if slates:
        order = [next((d for d in slates.differences if (d.a, d.b) == pair), None) for pair in named]
        said.append(_order(f"The order within a slate ({slates.users} slates)", *order))
    across = [metrics.user_auc_difference(*pair) for pair in named]
    if not slates or any(d and d.sign for d in across):
        said.append(_order("Per-user AUC", *across))
    return " ".join(said)


def _order(what: str, routed: Interval | None, full: Interval | None) -> str:
    if routed is None or full is None:
        return ""
    return f"{what} changes by {_judged(routed)}; blended into every sample, by {_judged(full)}."


def _judged(d: Interval) -> str:
    words = ("significantly worse", "not significant", "a significant gain")[d.sign + 1]
    return f"{signed(d.mean)} ({interval(d)}), {words}"


def _against_conventional(metrics: RankingMetrics, predictions: pl.DataFrame) -> str:
    """Plain words where something without a language model does as well."""
    there = {row.system: row.made_of for row in metrics.systems if row.system != metrics.main_crm}
    rivals = dict.fromkeys(name for name in (LIGHTGBM.name, metrics.best_conventional) if name in there)
    return " ".join(_against(metrics, predictions, there[name]) for name in rivals)


def _against(metrics: RankingMetrics, predictions: pl.DataFrame, rival: System) -> str:
    name, final = rival.name, metrics.final.auc
    auc, tested = metrics.system(name).auc, difference(metrics, predictions, name, "final")
    known = f" ({interval(tested)})" if tested else ""
    if tested and tested.sign == 0:
        outcome = f"the two cannot be told apart (routed system {signed(final - auc)}; {interval(tested)})"
    elif final > auc:
        outcome = f"the routed system is better by {auc_text(final - auc)}{known}"
    else:
        outcome = f"without any language model it beats the routed system by {auc_text(auc - final)}{known}"
    subject = "LightGBM on count features alone" if rival == LIGHTGBM else f"The best conventional system, {name},"
    share = _share_of_base(metrics, predictions, rival) if tested and tested.sign else ""
    return f"{subject} has {auc_text(auc)}: {outcome}{share}."


def _share_of_base(metrics: RankingMetrics, predictions: pl.DataFrame, rival: System) -> str:
    """Where the rival is a part of the base ranker: what that has of the difference on its own."""
    main = next((row.made_of for row in metrics.systems if row.system == metrics.main_crm), rival)
    if main == rival or not set(rival.models) <= set(main.models):
        return ""
    own = difference(metrics, predictions, rival.name, main.name)
    return f", of which the base ranker, {main.name}, has {signed(own.mean)} ({interval(own)})" if own else ""

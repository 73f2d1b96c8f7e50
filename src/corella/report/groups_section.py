"""The sections of the report about groups of samples: by confidence, rarity, and predicted probability."""

from collections.abc import Sequence

import polars as pl

from corella.evaluation.groups import bins
from corella.evaluation.results import GroupResult, RankingMetrics, confidence_of
from corella.evaluation.systems import LLM, Kind, System
from corella.report import charts, markup
from corella.report.charts import Lift, Point
from corella.report.markup import paragraph
from corella.report.numbers import auc_text, signed
from corella.report.verdict import clustered

_EDGES = [0, 5, 20, 50, 100, 200]


def render_confidence(metrics: RankingMetrics) -> str:
    """Thirds of the samples by the CRM's confidence."""
    lead = (
        "The test samples in thirds by how far the CRM's probability is from one half. The paper's claim is that "
        "the language model is the better one where the CRM is least sure."
    )
    made_of = {row.system: row.made_of for row in metrics.systems}
    panels = []
    for name in sorted(metrics.curves, key=lambda crm: crm == metrics.main_crm):
        rows = metrics.groups.get(confidence_of(name), [])
        if rows:
            points = [
                (row.group, Point(row.system, made_of[row.system].kind, row.auc, row.auc_low, row.auc_high))
                for row in rows
            ]
            chart = charts.confidence_chart(points, name)
            shown = markup.figure(f"{name}, the language model, and their blend", chart)
            panels.append(f"<div>{shown}{paragraph(_least_confident(made_of[name], rows))}</div>")
    return f'{paragraph(lead)}<div class="pair">{"".join(panels)}</div>'


def _least_confident(system: System, rows: Sequence[GroupResult]) -> str:
    by = {row.system: row for row in rows if row.group == "least confident"}
    name, both = system.name, system.asked.name
    if not {name, LLM.name, both} <= by.keys():
        return "The least confident third holds too few samples to tell."
    crm, llm, blend = by[name], by[LLM.name], by[both]
    overlap = min(crm.auc_high, llm.auc_high) > max(crm.auc_low, llm.auc_low)
    return (
        f"In the least confident third ({crm.samples:,} samples) {name} has {auc_text(crm.auc)}, the language "
        f"model {auc_text(llm.auc)} ({signed(llm.auc - crm.auc)}) and the blend {auc_text(blend.auc)}; "
        f"the intervals of the first two {'overlap' if overlap else 'do not overlap'}."
    )


def render_groups(metrics: RankingMetrics, predictions: pl.DataFrame) -> str:
    """What the blend adds for rare items and short histories."""
    lead = (
        f"What the blend on every sample adds to {metrics.main_crm}, by how many interactions the item, or the user, "
        "had before the sample. Thin lines are 95 % intervals with users as units: where one crosses zero, the bar "
        "shows nothing."
    )
    panels = []
    for key, column in (("item popularity", "item_answers"), ("history length", "answers_before")):
        if rows := _lifts(metrics, predictions, key, column):
            panels.append(markup.figure(f"By {key}", charts.lift_chart(rows, key)))
    return f'{paragraph(lead)}<div class="pair">{"".join(panels)}</div>'


def _lifts(metrics: RankingMetrics, predictions: pl.DataFrame, key: str, column: str) -> list[Lift]:
    """One row a group: lift of the blend, and its interval where the predictions allow one."""
    main, rows = metrics.main_crm, metrics.groups.get(key, [])
    both = next((row.made_of.asked.name for row in metrics.systems if row.system == main), main)
    auc = {(row.group, row.system): row.auc for row in rows}
    known = column in predictions.columns
    inside = dict(bins(predictions[column].to_numpy(), _EDGES, "interactions")) if known else {}
    lifts = []
    for row in (r for r in rows if r.system == main):
        tested = None
        if row.group in inside:
            tested = clustered(predictions.filter(pl.Series(inside[row.group])), main, both)
        lifts.append(Lift(row.group, row.samples, auc[row.group, both] - row.auc, tested))
    return lifts


def render_calibration(metrics: RankingMetrics, predictions: pl.DataFrame) -> str:
    """Reliability, and which probabilities were routed."""
    main = metrics.main_crm
    lead = (
        "Reliability: where a system says 70 %, are 70 % of the samples positive? On the dashed diagonal, yes; each "
        "dot is a tenth of the samples. Beside it: which of the CRM's probabilities the router sent on."
    )
    shown: tuple[tuple[str, Kind], ...] = ((main, "conventional"), (LLM.name, "language model"), ("final", "combined"))
    errors = ", ".join(f"{name} {auc_text(metrics.system(name).ece)}" for name, _ in shown)
    scores = {key: predictions[key[0]].to_numpy() for key in shown if key[0] in predictions.columns}
    figures = markup.figure("Reliability", charts.reliability_chart(predictions["label"].to_numpy(), scores))
    if main in predictions.columns:
        chart = charts.routed_chart(predictions[main].to_numpy(), predictions["routed"].to_numpy())
        figures += markup.figure(f"Probability by {main}", chart)
    text = f"Mean distance from the diagonal (ECE): {errors}."
    return f'{paragraph(lead)}<div class="pair">{figures}</div>{paragraph(text)}'

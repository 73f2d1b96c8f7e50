"""The section of the report about all systems: a chart, paired differences, a table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from corella.evaluation.results import Interval, Quality, RankingMetrics
from corella.evaluation.systems import Kind
from corella.report import charts, markup
from corella.report.charts import KINDS, Point
from corella.report.markup import Html, esc, paragraph, span, table
from corella.report.numbers import auc_text, percent, signed

Best = Callable[[Iterable[float]], float]


@dataclass(frozen=True)
class _Column:
    title: str
    value: Callable[[Quality], float | None]
    best: Best


_COLUMNS = (
    _Column("AUC", lambda q: q.auc, max),
    _Column("per-user AUC", lambda q: q.user_auc, max),
    _Column("log loss", lambda q: q.logloss, min),
    _Column("accuracy", lambda q: q.accuracy, max),
    _Column("ECE", lambda q: q.ece, min),
    _Column("NDCG@10", lambda q: q.ndcg10, max),
)


@dataclass(frozen=True)
class _Row:
    name: str
    label: str
    kind: Kind
    quality: Quality


def render_systems(metrics: RankingMetrics) -> str:
    """The content of the section."""
    order, final = list(KINDS), metrics.final
    rows = [_Row(row.system, row.system, row.kind, row) for row in metrics.systems]
    rows.append(_Row("final", f"final ({percent(final.share_routed)} routed)", "combined", final))
    rows.sort(key=lambda row: (order.index(row.kind), -row.quality.auc))
    points = [Point(r.name, r.kind, r.quality.auc, r.quality.auc_low, r.quality.auc_high) for r in rows]
    chart = charts.systems_chart(points, metrics.best_conventional)
    lead = (
        "Each dot is a system's AUC on the same test samples, the bar its 95 % interval; the dashed line marks the "
        "best system without a language model. “a & b” is a logistic regression on the logits of both, fitted on "
        "validation rows; “final” is this run's router at its budget."
    )
    why = (
        "The bars of single systems overlap because they come from the same samples. Whether one system beats "
        "another is told by the paired differences alone."
    )
    everything = table(
        "Every system on the test samples (best of each column in bold)",
        ["system", "made of", "AUC", "95 % interval", *(column.title for column in _COLUMNS[1:])],
        _lines(rows),
        text=(1,),
        marked=[place for place, row in enumerate(rows) if row.name == "final"],
    )
    return (
        f'<div class="pair">{markup.figure("Test AUC", chart)}<div>{paragraph(lead)}{paragraph(why)}</div></div>'
        f"{_differences(metrics)}{everything}"
    )


def _differences(metrics: RankingMetrics) -> str:
    rows = [
        [
            Html(f"{esc(d.b)}<small>minus {esc(d.a)}</small>"),
            *_told(d),
            *_told(metrics.user_auc_difference(d.a, d.b)),
        ]
        for d in metrics.differences
        if d.resampled == "users"
    ]
    heads = ["system", "AUC", "95 % interval", "significant", "per-user AUC", "95 % interval", "significant"]
    return table("Differences on the same samples, resampling users", heads, rows, text=(0,))


def _told(d: Interval | None) -> list[str]:
    """A difference; empty where it is not measured."""
    return ["", "", ""] if d is None else [signed(d.mean), span(d), "yes" if d.sign else "no"]


def _lines(rows: Sequence[_Row]) -> list[list[str]]:
    best = []
    for column in _COLUMNS:
        known = [value for row in rows if (value := column.value(row.quality)) is not None]
        best.append(column.best(known) if known else None)
    lines: list[list[str]] = []
    for row in rows:
        cells = [_cell(column.value(row.quality), top) for column, top in zip(_COLUMNS, best, strict=True)]
        ends = f"{auc_text(row.quality.auc_low)} to {auc_text(row.quality.auc_high)}"
        badge = Html(f'<span class="badge {row.kind.replace(" ", "-")}">{row.kind}</span>')
        lines.append([row.label, badge, cells[0], ends, *cells[1:]])
    return lines


def _cell(value: float | None, best: float | None) -> str:
    if value is None:
        return "n/a"
    return Html(f"<b>{auc_text(value)}</b>") if value == best else auc_text(value)

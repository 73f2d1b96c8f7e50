"""The section of the report about routing curves."""

from collections.abc import Sequence

from corella.evaluation.results import CurvePoint, RankingMetrics
from corella.report import charts, markup
from corella.report.markup import Html, interval, paragraph, table
from corella.report.numbers import auc_text, percent, signed

_SHARES = (0.1, 0.2, 0.3)
_TINY = 0.001
"""A full gain below this is called tiny: a captured share of it is noise."""


def render_routing(metrics: RankingMetrics) -> str:
    """Quality against the share that is asked about, by policy and base ranker."""
    main, final = metrics.main_crm, metrics.final
    lead = (
        "From left to right more samples go to the language model, the most promising first; a good policy rises "
        "early. “learned” is Corella's router, “entropy” the CoReLLa paper's, “random” the control that a policy "
        "must beat, and the oracle knows the language model's answers beforehand."
    )
    meaning = (
        "The tables give the AUC gained over the CRM and, beside it, the captured gain: its share of what "
        f"blending every sample gains. Where that full gain is tiny (below {auc_text(_TINY, 3)}) or not "
        "significant, the captured share is noise."
    )
    panels, tables = [], []
    for name in sorted(metrics.curves, key=lambda n: n == main):
        rows = metrics.curves[name]
        here = (final.share_routed, final.auc) if name == main and final.combine == "blend" else None
        chart = charts.routing_chart(rows, name, here)
        if here:
            chart += paragraph("Green square: this run, whose threshold was set on validation rows.")
        panels.append(markup.figure(f"Starting from {name}, blending", chart))
        tables.append(_captured(metrics, name, rows))
    return f'{paragraph(lead)}<div class="pair">{"".join(panels)}</div>{paragraph(meaning)}{"".join(tables)}'


def _captured(metrics: RankingMetrics, name: str, rows: Sequence[CurvePoint]) -> str:
    """Gain at a few shares, by policy, for both ways of combining."""
    at = {(r.policy, r.combine, round(r.share, 2)): r for r in rows}
    first = rows[0].policy
    base, whole = at[first, "blend", 0.0].auc, at[first, "blend", 1.0].auc
    lines: list[list[str]] = []
    for policy in dict.fromkeys(r.policy for r in rows):
        cells = [at[policy, how, share] for how in ("blend", "replace") for share in _SHARES]
        lines.append([policy, *(_gain(c.auc - base, c.captured, whole > base) for c in cells)])
    blended = next((row.made_of.asked.name for row in metrics.systems if row.system == name), "")
    full = metrics.difference(name, blended)
    warning = ""
    if whole - base < _TINY or (full and not full.sign):
        known = f" ({interval(full)})" if full else ""
        warning = paragraph(
            f"Blending every sample changes the AUC of {name} by {signed(whole - base)}{known}: too little to read "
            "anything into the captured shares.",
            "note",
        )
    groups = "".join(f'<th class="group" colspan="3" scope="colgroup">{how}</th>' for how in ("blend", "replace"))
    return warning + table(
        f"AUC gained over {name} ({auc_text(base)}) at three shares",
        ["policy", *([percent(s) for s in _SHARES] * 2)],
        lines,
        above=f"<tr><td></td>{groups}</tr>",
        edges=(1, 4),
    )


def _gain(gain: float, share: float, positive: bool) -> str:
    return Html(f"{signed(gain)}<small>{markup.captured(share) if positive else 'n/a'}</small>")

"""The report's charts: Vega-Lite through altair, drawn to inline SVG, so that the page needs no script and no network.

One colour and one shape mean the same thing in every chart. The style sheet swaps these colours for lighter ones in
dark mode, by the attribute values that stand in the SVG, so a colour is changed in both places.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
import vl_convert

from corella.evaluation.results import CurvePoint, Interval
from corella.evaluation.systems import Kind
from corella.intervals import Difference
from corella.report.numbers import auc_text

INK, MUTED, GRID = "#1f2933", "#52606d", "#dde2e8"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
KINDS = {
    "conventional": (BLUE, "circle"),
    "language model": (ORANGE, "diamond"),
    "combined": (GREEN, "square"),
}
"""Colour and shape of each kind of system (Okabe and Ito's colours, told apart by colour-blind readers)."""
POLICIES = {
    "learned": ("#aa3377", [1, 0]),
    "entropy": ("#e69f00", [1, 0]),
    "random": ("#8a94a0", [1, 0]),
    "longest history": ("#56b4e9", [7, 2]),
    "least popular": ("#7a7a1f", [2, 2]),
    "oracle": (INK, [5, 4]),
}
"""Colour and dash of each routing policy."""


@dataclass(frozen=True)
class Point:
    """A system's AUC with its interval."""

    name: str
    kind: Kind
    auc: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """What a rung gains over the one below it in a group."""

    group: str
    rung: str
    samples: int
    gain: Difference


@dataclass(frozen=True)
class Lift:
    """What the blend adds in a group."""

    group: str
    samples: int
    lift: float
    tested: Interval | None
    """With its interval, where one is known."""


_LEAST_SPAN = 0.004
"""A routing chart covers at least this much AUC, so that noise looks as flat as it is."""
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"


def systems_chart(rows: Sequence[Point], best: str) -> str:
    """AUC with its interval of every system, in the order given; a dashed line at the best conventional one."""
    data = [{**_point(r), "kind": r.kind, "text": auc_text(r.auc)} for r in rows]
    names = [r.name for r in rows]
    line = [{"auc": r.auc} for r in rows if r.name == best]
    low, high = min(r.low for r in rows), max(r.high for r in rows)
    x = _auc_axis("auc", "x", low, high + 0.16 * (high - low))
    y = alt.Y("system:N", sort=names, title=None, axis=alt.Axis(labelLimit=290, grid=False, ticks=False, domain=False))
    base = alt.Chart(alt.Data(values=data)).encode(y=y, color=_kind_colour())
    rule = alt.Chart(alt.Data(values=line)).mark_rule(strokeDash=[4, 4], stroke=MUTED).encode(x="auc:Q")
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q")
    points = base.mark_point(filled=True, size=80, opacity=1).encode(x=x, shape=_kind_shape())
    text = base.mark_text(align="left", dx=6, fontSize=13).encode(x="high:Q", text="text:N")
    chart = alt.layer(rule, bars, points, text).properties(width=262, height=25 * len(rows))
    return _svg(chart, f"AUC of {len(rows)} systems with 95 % intervals; the table below holds the same figures")


def routing_chart(rows: Sequence[CurvePoint], crm: str, operating: tuple[float, float] | None) -> str:
    """AUC of blending against the share routed, a line a policy; `operating`: share and AUC of the run itself."""
    data = [{"policy": r.policy, "share": r.share, "auc": r.auc} for r in rows if r.combine == "blend"]
    names = [p for p in POLICIES if any(r.policy == p for r in rows)]
    values = [r.auc for r in rows if r.combine == "blend"] + ([operating[1]] if operating else [])
    middle, half = (max(values) + min(values)) / 2, max(max(values) - min(values), _LEAST_SPAN) / 2
    colour = alt.Color(
        "policy:N", scale=alt.Scale(domain=names, range=[POLICIES[p][0] for p in names]),
        legend=alt.Legend(title=None, orient="top", columns=3, symbolStrokeWidth=2.5, symbolSize=260),
    )  # fmt: skip
    dash = alt.StrokeDash("policy:N", scale=alt.Scale(domain=names, range=[POLICIES[p][1] for p in names]), sort=names)
    width = alt.condition("datum.policy == 'learned'", alt.value(3), alt.value(1.8))
    share = alt.X("share:Q", title="share of samples sent to the language model", axis=alt.Axis(format=".0%"))
    lines = alt.Chart(alt.Data(values=data)).mark_line().encode(
        x=share, y=_auc_axis("auc", "y", middle - half, middle + half), color=colour, strokeDash=dash, strokeWidth=width
    )  # fmt: skip
    layers = [lines]
    if operating:
        here = alt.Chart(alt.Data(values=[{"share": operating[0], "auc": operating[1]}]))
        mark = here.mark_point(filled=True, shape="square", size=110, opacity=1, color=GREEN)
        layers.append(mark.encode(x="share:Q", y="auc:Q"))
    chart = alt.layer(*layers).properties(width=400, height=270)
    return _svg(chart, f"AUC against the share routed, starting from {crm}, one line a policy")


def confidence_chart(rows: Sequence[tuple[str, Point]], crm: str) -> str:
    """Dots with intervals: CRM, language model and their blend in each confidence group, whose name comes first."""
    data = [{**_point(r), "group": group, "kind": r.kind} for group, r in rows]
    groups = list(dict.fromkeys(r["group"] for r in data))
    x = alt.X("group:N", sort=groups, title=None, axis=alt.Axis(labelAngle=0, grid=False))
    base = alt.Chart(alt.Data(values=data)).encode(
        x=x, xOffset=alt.XOffset("kind:N", sort=list(KINDS)), color=_kind_colour()
    )  # fmt: skip
    low, high = min(r.low for _, r in rows), max(r.high for _, r in rows)
    bars = base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=_auc_axis("auc", "y", low, high), shape=_kind_shape()
    )
    return _svg(
        (bars + points).properties(width=400, height=250),
        f"AUC of {crm}, the language model and their blend in thirds of the samples by confidence",
    )


def lift_chart(rows: Sequence[Lift], what: str) -> str:
    """Bars of the AUC that the blend adds to the CRM in each group, with intervals where they are known."""
    data = [
        {"lift": r.lift, "low": r.tested and r.tested.low, "high": r.tested and r.tested.high,
         "name": f"{r.group}  (n = {r.samples:,})"}
        for r in rows
    ]  # fmt: skip
    ends = [r.lift for r in rows] + [end for r in rows if r.tested for end in (r.tested.low, r.tested.high)]
    names = [r["name"] for r in data]
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=220, grid=False, ticks=False, domain=False))
    x = _auc_axis("lift", "x", min(0.0, *ends), max(0.0, *ends), "AUC of the blend minus AUC of the CRM", zero=True)
    base = alt.Chart(alt.Data(values=data)).encode(y=y)
    bars = base.mark_bar(color=GREEN, height=13, opacity=0.55).encode(x=x)
    known = alt.Chart(alt.Data(values=[r for r in data if r["low"] is not None])).encode(y=y)
    intervals = known.mark_rule(strokeWidth=1.6, color=INK).encode(x="low:Q", x2="high:Q")
    zero = alt.Chart(alt.Data(values=[{"z": 0}])).mark_rule(color=MUTED).encode(x="z:Q")
    chart = alt.layer(bars, zero, intervals).properties(width=250, height=30 * len(rows))
    return _svg(chart, f"AUC lift of the blend over the CRM in groups by {what}")


def gains_chart(rows: Sequence[Gain], rungs: Sequence[str]) -> str:
    """Dots with intervals: what each rung gains over the one below it, in each group; a line at zero."""
    groups = {r.group: f"{r.group}  (n = {r.samples:,})" for r in reversed(rows)}
    data = [
        {"rung": r.rung, "gain": r.gain.mean, "low": r.gain.low, "high": r.gain.high, "name": groups[r.group]}
        for r in rows
    ]
    names = [groups[g] for g in dict.fromkeys(r.group for r in rows)]
    shown = [name for name in rungs if any(r.rung == name for r in rows)]
    styles = {name: style for name, style in zip(rungs, (KINDS["conventional"], KINDS["language model"]), strict=True)}
    low, high = min(0.0, *(r.gain.low for r in rows)), max(0.0, *(r.gain.high for r in rows))
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=270, grid=False, ticks=False, domain=False))
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1)
    colour = alt.Color("rung:N", scale=alt.Scale(domain=shown, range=[styles[n][0] for n in shown]), legend=legend)
    shape = alt.Shape("rung:N", scale=alt.Scale(domain=shown, range=[styles[n][1] for n in shown]), legend=legend)
    base = alt.Chart(alt.Data(values=data)).encode(y=y, yOffset=alt.YOffset("rung:N", sort=shown), color=colour)
    bars = base.mark_rule(strokeWidth=2).encode(
        x=_auc_axis("low", "x", low, high, "AUC gained", zero=True), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=90, opacity=1).encode(x="gain:Q", shape=shape)
    zero = alt.Chart(alt.Data(values=[{"z": 0}])).mark_rule(color=MUTED, strokeDash=[4, 4]).encode(x="z:Q")
    chart = alt.layer(zero, bars, points).properties(width=230, height=alt.Step(26))
    return _svg(chart, "AUC that each dearer way gains in each group; the table below holds the same figures")


def reliability_chart(
    label: npt.NDArray[Any], systems: Mapping[tuple[str, Kind], npt.NDArray[Any]], bins: int = 10
) -> str:
    """Observed share of positives against mean prediction, in bins of equally many samples; the diagonal is perfect."""
    data = []
    for (name, kind), probability in systems.items():
        for part in np.array_split(np.argsort(probability, kind="stable"), bins):
            if len(part):
                predicted, seen = float(probability[part].mean()), float(label[part].mean())
                data.append({"system": name, "kind": kind, "predicted": predicted, "seen": seen})
    unit = alt.Scale(domain=[0, 1])
    names = [name for name, _ in systems]
    colour = alt.Color(
        "system:N", scale=alt.Scale(domain=names, range=[KINDS[kind][0] for _, kind in systems]),
        legend=alt.Legend(title=None, orient="top", symbolOpacity=1),
    )  # fmt: skip
    shape = alt.Shape("system:N", scale=alt.Scale(domain=names, range=[KINDS[kind][1] for _, kind in systems]))
    x = alt.X("predicted:Q", scale=unit, title="predicted probability (mean of the bin)", axis=_plain_axis())
    y = alt.Y("seen:Q", scale=unit, title="observed share of positives", axis=_plain_axis())
    base = alt.Chart(alt.Data(values=data)).encode(x=x, y=y, color=colour)
    corner = alt.Data(values=[{"predicted": 0, "seen": 0}, {"predicted": 1, "seen": 1}])
    perfect = alt.Chart(corner).mark_line(strokeDash=[4, 4], color=MUTED, strokeWidth=1.2)
    points = base.mark_point(filled=True, size=65, opacity=1).encode(shape=shape)
    chart = alt.layer(perfect.encode(x="predicted:Q", y="seen:Q"), base.mark_line(strokeWidth=1.8), points)
    return _svg(chart.properties(width=350, height=270), "Observed share of positives against predicted probability")


def routed_chart(probability: npt.NDArray[Any], routed: npt.NDArray[np.bool_]) -> str:
    """How many samples the CRM gives each probability, those sent to the language model told apart."""
    edges, unit = np.linspace(0, 1, 26), alt.Scale(domain=[0, 1])
    data = []
    for name, mask in (("kept by the CRM", ~routed), ("sent to the language model", routed)):
        counts = np.histogram(probability[mask], edges)[0]
        data += [{"from": float(a), "to": float(b), "samples": int(n), "where": name}
                 for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]  # fmt: skip
    names = ["kept by the CRM", "sent to the language model"]
    colour = alt.Color(
        "where:N", scale=alt.Scale(domain=names, range=[BLUE, ORANGE]),
        legend=alt.Legend(title=None, orient="top", symbolType="square", columns=2),
    )  # fmt: skip
    x = alt.X("from:Q", bin="binned", title="probability by the CRM", axis=_plain_axis(), scale=unit)
    chart = alt.Chart(alt.Data(values=data)).mark_bar(binSpacing=1).encode(
        x=x, x2="to:Q", y=alt.Y("samples:Q", stack="zero", title="samples"), color=colour
    )  # fmt: skip
    return _svg(chart.properties(width=350, height=270), "Number of samples by CRM probability, routed and not routed")


def _point(row: Point) -> dict[str, object]:
    return {"system": row.name, "auc": row.auc, "low": row.low, "high": row.high}


def _kind_colour() -> Any:
    scale = alt.Scale(domain=list(KINDS), range=[colour for colour, _ in KINDS.values()])
    return alt.Color("kind:N", scale=scale, legend=alt.Legend(title=None, orient="top", symbolOpacity=1))


def _kind_shape() -> Any:
    scale = alt.Scale(domain=list(KINDS), range=[shape for _, shape in KINDS.values()])
    return alt.Shape("kind:N", scale=scale, legend=alt.Legend(title=None, orient="top"))


def _plain_axis() -> Any:
    return alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format=".1f")


def _auc_axis(name: str, channel: str, low: float, high: float, title: str = "test AUC", zero: bool = False) -> Any:
    """An axis of AUCs, as many decimals as its range needs, no leading zero, a little room at both ends."""
    span = max(high - low, 1e-4)
    digits = 4 if span < 0.012 else 3 if span < 0.08 else 2
    strip = f"replace(format(datum.value, '.{digits}f'), /0[.]/, '.')"
    scale = alt.Scale(domain=[low - 0.05 * span, high + 0.05 * span], zero=zero, nice=False)
    axis = alt.Axis(labelExpr=strip, tickCount=4 if zero else 5)
    return (alt.X if channel == "x" else alt.Y)(f"{name}:Q", title=title, scale=scale, axis=axis)


def _svg(chart: Any, label: str) -> str:
    """The chart as an SVG element with a text for screen readers and no background."""
    styled = (
        chart.configure(background="transparent", font=_FONT, aria=False, padding=4)
        .configure_axis(
            labelFontSize=13, titleFontSize=13, titleFontWeight="normal", labelColor=INK, titleColor=MUTED,
            gridColor=GRID, domainColor=GRID, tickColor=GRID, titlePadding=8, labelPadding=5,
        )
        .configure_legend(labelFontSize=13, labelColor=INK, labelLimit=240, rowPadding=4, columnPadding=14, offset=10)
        .configure_view(stroke=None)
    )  # fmt: skip
    svg: str = vl_convert.vegalite_to_svg(styled.to_dict())
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label, quote=True)}" ', 1)

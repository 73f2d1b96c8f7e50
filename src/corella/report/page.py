"""The report of a run: one HTML file that works offline, without scripts, in light and dark, on a phone and on paper.

Everything shown comes from metrics.json and predictions.parquet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import yaml

from corella.config import Config
from corella.evaluation.groups import bins
from corella.evaluation.rungs import Prices
from corella.report import charts, markup
from corella.report.charts import kind
from corella.report.lists_section import render_lists
from corella.report.markup import Html, esc, interval, paragraph, span, table
from corella.report.numbers import auc_text, number, percent, signed
from corella.report.recommendations import render_recommendations
from corella.report.rungs_section import TITLE, render_lead, render_rungs
from corella.report.verdict import (
    clustered,
    known_difference,
    render_verdict,
    sign,
    system,
    user_auc_difference,
)

Metrics = Mapping[str, Any]
Row = Mapping[str, Any]

_SHARES = (0.1, 0.2, 0.3)
_TINY = 0.001
"""A full gain below this is called tiny: a captured share of it is noise."""
_SECRET = {"uri", "password", "token", "secret"}
_EDGES = [0, 5, 20, 50, 100, 200]
_COLUMNS = {
    "auc": ("AUC", max),
    "interval": ("95 % interval", None),
    "user_auc": ("per-user AUC", max),
    "logloss": ("log loss", min),
    "accuracy": ("accuracy", max),
    "ece": ("ECE", min),
    "ndcg10": ("NDCG@10", max),
}


def render_report(metrics: Metrics, config: Config, predictions: pl.DataFrame) -> str:
    """The whole page. `predictions`: one row a test sample: `label`, `routed`, every system's probability."""
    prices = Prices.from_json(metrics["rungs"])
    sections = [
        ("prices", TITLE, render_rungs(prices, metrics, config.llm.backbone)),
        ("asking", "Asking a language model per request", _asking(metrics, config, predictions)),
        ("systems", "All systems", _systems(metrics)),
        *render_lists(metrics),
        ("routing", "Routing curves", _routing(metrics)),
        ("confidence", "Where the conventional model is unsure", _confidence(metrics)),
        ("groups", "Rare items and short histories", _groups(metrics, predictions)),
        ("calibration", "Calibration", _calibration(metrics, predictions)),
        *render_recommendations(metrics),
        ("cost", "Cost", _cost(metrics)),
        ("data", "Data and settings", _data(metrics, config)),
        ("glossary", "Glossary", markup.details("Ten terms", markup.asset("glossary.html"))),
    ]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{content}</section>'
        for key, title, content in sections
    )
    seed = metrics.get("seed")
    name = str(config.data.source) + (f", seed {seed}" if seed is not None else "")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Corella report: {esc(name)}</title><style>{markup.asset('page.css')}</style></head><body>"
        f"<header><h1>Corella report: {esc(name)}</h1></header><main>{render_lead(prices)}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>{body}</main>'
        "<footer><p>All figures: metrics.json. One row a test sample: predictions.parquet. "
        "Both lie beside this file.</p></footer></body></html>\n"
    )


def _asking(metrics: Metrics, config: Config, predictions: pl.DataFrame) -> str:
    """The router at its budget, whether or not that is what is served."""
    lead = (
        f"A conventional recommender model (CRM), here {metrics['main_crm']}, scores every sample; a router sends some "
        "of them to the language model. “final” is the router at its budget, whether or not it is what is served."
    )
    return f"{paragraph(lead)}{render_verdict(metrics, predictions)}{_cards(metrics, config)}"


def _cards(metrics: Metrics, config: Config) -> str:
    main, final, best = metrics["main_crm"], metrics["final"], metrics["best_conventional"]
    full = f"{main} & llm"
    each = metrics["cost"].get("milliseconds_per_sample", 0.0)
    # What learned a residual says nothing alone.
    asked = "Language model alone" if config.joint.target == "label" else "CRM as the language model corrects it"
    cards = [
        ("CRM alone, AUC", auc_text(system(metrics, main)["auc"]), main),
        ("CRM with routing, AUC", auc_text(final["auc"]), f"final: {final['policy']} policy, {final['combine']}"),
        (f"{asked}, AUC", auc_text(system(metrics, "llm")["auc"]), "llm"),
        ("Blend on every sample, AUC", auc_text(system(metrics, full)["auc"]), full),
        ("Best conventional, AUC", auc_text(system(metrics, best)["auc"]), best),
        ("Share routed", percent(final["share_routed"]), f"wanted: {percent(final['share_wanted'])}"),
        ("Time per sample asked", f"{number(each)} ms", "language model, in batches"),
        ("Time per sample overall", f"{number(each * final['share_routed'])} ms", "at the share routed"),
    ]
    items = (
        f'<div><dt>{esc(a)}</dt><dd class="value">{esc(b)}</dd><dd class="sub">{esc(c)}</dd></div>' for a, b, c in cards
    )
    return f'<dl class="cards">{"".join(items)}</dl>'


def _within(d: Row | None) -> list[str]:
    """A difference of per-user AUC; empty where it is not measured."""
    return ["", "", ""] if d is None else [signed(d["mean"]), span(d), "yes" if sign(d) else "no"]


def _systems(metrics: Metrics) -> str:
    order = list(charts.KINDS)
    rows = [*metrics["systems"], {"system": "final", **metrics["final"]}]
    rows.sort(key=lambda r: (order.index(kind(r["system"])), -r["auc"]))
    final = [i for i, r in enumerate(rows) if r["system"] == "final"]
    differences = [
        [
            Html(f"{esc(d['b'])}<small>minus {esc(d['a'])}</small>"),
            signed(d["mean"]),
            span(d),
            "yes" if sign(d) else "no",
            *_within(user_auc_difference(metrics, d["a"], d["b"])),
        ]
        for d in metrics["differences"]
        if d["resampled"] == "users"
    ]
    heads = ["system", "AUC", "95 % interval", "significant", "per-user AUC", "95 % interval", "significant"]
    paired = table("Differences on the same samples, resampling users", heads, differences, text=(0,))
    chart = charts.systems_chart(rows, metrics["best_conventional"])
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
        ["system", "made of", *(title for title, _ in _COLUMNS.values())],
        _system_lines(rows),
        text=(1,),
        marked=final,
    )
    return (
        f'<div class="pair">{markup.figure("Test AUC", chart)}<div>{paragraph(lead)}{paragraph(why)}</div></div>'
        f"{paired}{everything}"
    )


def _system_lines(rows: Sequence[Row]) -> list[list[str]]:
    known = {k: [r[k] for r in rows if r[k] is not None] for k, (_, pick) in _COLUMNS.items() if pick}
    best = {k: pick(known[k]) for k, (_, pick) in _COLUMNS.items() if pick and known[k]}
    lines: list[list[str]] = []
    for row in rows:
        made = kind(row["system"])
        label = f"final ({percent(row['share_routed'])} routed)" if row["system"] == "final" else row["system"]
        line = [label, Html(f'<span class="badge {made.replace(" ", "-")}">{made}</span>')]
        for key in _COLUMNS:
            if key == "interval":
                line.append(f"{auc_text(row['auc_low'])} to {auc_text(row['auc_high'])}")
            elif row[key] is None:
                line.append("n/a")
            else:
                text = auc_text(row[key])
                line.append(Html(f"<b>{text}</b>") if row[key] == best[key] else text)
        lines.append(line)
    return lines


def _routing(metrics: Metrics) -> str:
    main, final = metrics["main_crm"], metrics["final"]
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
    for name in sorted(metrics["curves"], key=lambda n: n == main):
        rows = metrics["curves"][name]
        here = (final["share_routed"], final["auc"]) if name == main and final["combine"] == "blend" else None
        chart = charts.routing_chart(rows, name, here)
        if here:
            chart += paragraph("Green square: this run, whose threshold was set on validation rows.")
        panels.append(markup.figure(f"Starting from {name}, blending", chart))
        tables.append(_captured(metrics, name, rows))
    return f'{paragraph(lead)}<div class="pair">{"".join(panels)}</div>{paragraph(meaning)}{"".join(tables)}'


def _captured(metrics: Metrics, name: str, rows: Sequence[Row]) -> str:
    """Gain at a few shares, by policy, for both ways of combining."""
    at = {(r["policy"], r["combine"], round(r["share"], 2)): r for r in rows}
    first = rows[0]["policy"]
    base, whole = at[first, "blend", 0.0]["auc"], at[first, "blend", 1.0]["auc"]
    lines: list[list[str]] = []
    for policy in dict.fromkeys(r["policy"] for r in rows):
        cells = [at[policy, how, share] for how in ("blend", "replace") for share in _SHARES]
        lines.append([policy, *(_gain(c["auc"] - base, c["captured"], whole > base) for c in cells)])
    full = known_difference(metrics, name, f"{name} & llm")
    warning = ""
    if whole - base < _TINY or (full and not sign(full)):
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


def _confidence(metrics: Metrics) -> str:
    lead = (
        "The test samples in thirds by how far the CRM's probability is from one half. The paper's claim is that "
        "the language model is the better one where the CRM is least sure."
    )
    panels = []
    for key in sorted(metrics["groups"], key=lambda k: k == f"confidence of {metrics['main_crm']}"):
        rows = metrics["groups"][key]
        if key.startswith("confidence of ") and rows:
            name = key.removeprefix("confidence of ")
            chart = charts.confidence_chart(rows, name)
            shown = markup.figure(f"{name}, the language model, and their blend", chart)
            panels.append(f"<div>{shown}{paragraph(_least_confident(name, rows))}</div>")
    return f'{paragraph(lead)}<div class="pair">{"".join(panels)}</div>'


def _least_confident(name: str, rows: Sequence[Row]) -> str:
    by = {r["system"]: r for r in rows if r["group"] == "least confident"}
    if not {name, "llm", f"{name} & llm"} <= by.keys():
        return "The least confident third holds too few samples to tell."
    crm, llm, blend = by[name], by["llm"], by[f"{name} & llm"]
    overlap = min(crm["auc_high"], llm["auc_high"]) > max(crm["auc_low"], llm["auc_low"])
    return (
        f"In the least confident third ({crm['samples']:,} samples) {name} has {auc_text(crm['auc'])}, the language "
        f"model {auc_text(llm['auc'])} ({signed(llm['auc'] - crm['auc'])}) and the blend {auc_text(blend['auc'])}; "
        f"the intervals of the first two {'overlap' if overlap else 'do not overlap'}."
    )


def _groups(metrics: Metrics, predictions: pl.DataFrame) -> str:
    lead = (
        f"What the blend on every sample adds to {metrics['main_crm']}, by how many answers the item, or the user, "
        "had before the sample. Thin lines are 95 % intervals with users as units: where one crosses zero, the bar "
        "shows nothing."
    )
    panels = []
    for key, column in (("item popularity", "item_answers"), ("history length", "answers_before")):
        if rows := _lifts(metrics, predictions, key, column):
            panels.append(markup.figure(f"By {key}", charts.lift_chart(rows, key)))
    return f'{paragraph(lead)}<div class="pair">{"".join(panels)}</div>'


def _lifts(metrics: Metrics, predictions: pl.DataFrame, key: str, column: str) -> list[dict[str, Any]]:
    """One row a group: lift of the blend, and its interval where the predictions allow one."""
    main, rows = metrics["main_crm"], metrics["groups"].get(key, [])
    auc = {(r["group"], r["system"]): r["auc"] for r in rows}
    known = column in predictions.columns
    inside = dict(bins(predictions[column].to_numpy(), _EDGES, "answers")) if known else {}
    lifts = []
    for row in (r for r in rows if r["system"] == main):
        group, tested = row["group"], None
        if group in inside:
            tested = clustered(predictions.filter(pl.Series(inside[group])), main, f"{main} & llm")
        ends = {"low": tested["low"], "high": tested["high"]} if tested else {}
        lift = auc[group, f"{main} & llm"] - row["auc"]
        lifts.append({"group": group, "samples": row["samples"], "lift": lift, **ends})
    return lifts


def _calibration(metrics: Metrics, predictions: pl.DataFrame) -> str:
    main = metrics["main_crm"]
    lead = (
        "Reliability: where a system says 70 %, are 70 % of the samples positive? On the dashed diagonal, yes; each "
        "dot is a tenth of the samples. Beside it: which of the CRM's probabilities the router sent on."
    )
    ece = {n: system(metrics, n)["ece"] for n in (main, "llm", "final")}
    text = "Mean distance from the diagonal (ECE): " + ", ".join(f"{n} {auc_text(v)}" for n, v in ece.items())
    scores = {n: predictions[n].to_numpy() for n in ece if n in predictions.columns}
    chart = charts.reliability_chart(predictions["label"].to_numpy(), scores)
    figures = markup.figure("Reliability", chart)
    if main in scores:
        chart = charts.routed_chart(scores[main], predictions["routed"].to_numpy())
        figures += markup.figure(f"Probability by {main}", chart)
    return f'{paragraph(lead)}<div class="pair">{figures}</div>{paragraph(text + ".")}'


def _cost(metrics: Metrics) -> str:
    cost, share = metrics["cost"], metrics["final"]["share_routed"]
    each, trained = cost.get("milliseconds_per_sample", 0.0), cost.get("llm_seconds", 0.0)
    tokens, targets = cost.get("llm_tokens", 0), cost.get("llm_targets", 0)
    seconds = {**cost.get("seconds", {}), "reading the test samples": cost.get("test_seconds", 0.0)}
    longest = max([*seconds.values(), 1e-9])
    stages = [
        [name, f"{value:,.1f}", Html(f'<span class="bar" style="width:{100 * value / longest:.1f}%"></span>')]
        for name, value in seconds.items()
    ]
    facts = [
        ["training: answers learned from", f"{targets:,}"],
        ["training: tokens read", f"{tokens:,}"],
        ["training: tokens per answer", number(tokens / max(targets, 1))],
        ["training: tokens per second", f"{tokens / trained:,.0f}" if trained else "n/a"],
        ["scoring: samples per second", f"{1000 / each:,.0f}" if each else "n/a"],
        ["scoring: ms per sample asked", number(each)],
        [f"scoring: ms per sample, {percent(share)} routed", number(each * share)],
    ]
    lead = (
        "What training took, and what the language model costs when it scores, on the machine named below. Scoring "
        "is measured in batches over whole users (throughput); a single request waits longer. The neural "
        f"conventional model trains on {cost.get('crm_rows_per_second', 0):,.0f} rows a second."
    )
    left, right = table("Language model", ["", ""], facts), table("Seconds by stage", ["", "", ""], stages, bars=(2,))
    return f'{paragraph(lead)}<div class="pair">{left}{right}</div>'


def _data(metrics: Metrics, config: Config) -> str:
    data, samples = metrics.get("dataset") or {}, metrics["samples"]
    facts = [[k, f"{v:,}" if isinstance(v, int) else str(v)] for k, v in (data.get("facts") or {}).items()]
    splits = [
        [s["split"], f"{s['rows']:,}", f"{s['users']:,}", f"{s['items']:,}", f"{100 * s['positive']:.1f}\xa0%"]
        for s in data.get("splits") or []
    ]
    dropped = [[d["reason"], f"{d['rows']:,}", d["first"]] for d in data.get("dropped") or []]
    warnings = "".join(f"<li>{esc(w)}</li>" for w in data.get("warnings") or [])
    machine = {"seed": metrics.get("seed", "n/a"), **metrics.get("machine", {})}
    measured = table("Measured on", ["", ""], [[k, _fact(v)] for k, v in machine.items()])
    lead = (
        f"The rows, split into training, validation and test. The language model read {samples['valid']:,} "
        f"validation samples, on which router and blends were fitted, and {samples['test']:,} test samples."
    )
    parts = [
        paragraph(lead),
        table("Splits", ["split", "rows", "users", "items", "positive"], splits),
        table("Rows dropped", ["reason", "rows", "first of them"], dropped, text=(0, 2))
        if dropped
        else paragraph("No rows were dropped."),
        f"<h3>Warnings</h3><ul>{warnings}</ul>" if warnings else paragraph("There were no warnings."),
        f'<div class="pair">{table("Read", ["", ""], facts)}{measured}</div>',
        markup.details("Configuration (YAML)", f'<pre tabindex="0">{esc(_yaml(config))}</pre>'),
    ]
    return "".join(parts)


def _fact(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _yaml(config: Config) -> str:
    """The configuration as it was, secrets hidden."""
    return yaml.safe_dump(_masked(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "(hidden)" if str(k).lower() in _SECRET and v else _masked(v) for k, v in value.items()}
    return [_masked(v) for v in value] if isinstance(value, list) else value

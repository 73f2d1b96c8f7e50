"""The report of a run: one HTML file that works offline, without scripts, in light and dark, on a phone and on paper.

Everything shown comes from metrics.json and predictions.parquet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import yaml

from corella.config import Config
from corella.evaluation import charts
from corella.evaluation.charts import auc_text, kind
from corella.evaluation.groups import bins
from corella.evaluation.markup import (
    Html, asset, captured, details, esc, figure, interval, number, paragraph, percent, signed, span, table,
)  # fmt: skip
from corella.evaluation.verdict import bootstrap, render_verdict, sign, system

Metrics = Mapping[str, Any]
Row = Mapping[str, Any]

_SHARES = (0.1, 0.2, 0.3)
_TINY = 0.001
"""A full gain below this is called tiny: a captured share of it is noise."""
_SECRET = {"uri", "password", "token", "secret"}
_COLUMNS = {
    "auc": ("AUC", max), "interval": ("95 % interval", None), "user_auc": ("user AUC", max), "logloss": ("log loss", min),
    "accuracy": ("accuracy", max), "ece": ("ECE", min), "ndcg10": ("NDCG@10", max),
}  # fmt: skip


def render_report(metrics: Metrics, config: Config, predictions: pl.DataFrame) -> str:
    """The whole page. `predictions`: one row a test sample, with the columns `label`, `routed`, and every system's probability."""
    name = f"{config.data.source}, seed {metrics['seed']}" if "seed" in metrics else str(config.data.source)
    sections = [
        ("systems", "All systems", _systems(metrics)),
        ("routing", "Routing curves", _routing(metrics)),
        ("confidence", "Where the conventional model is unsure", _confidence(metrics)),
        ("groups", "Rare items and short histories", _groups(metrics, predictions)),
        ("calibration", "Calibration", _calibration(metrics, predictions)),
        ("cost", "Cost", _cost(metrics)),
        ("data", "Data and settings", _data(metrics, config)),
        ("glossary", "Glossary", details("Ten terms", asset("report_glossary.html"))),
    ]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{content}</section>'
        for key, title, content in sections
    )
    samples = metrics["samples"]
    intro = (
        f"A conventional recommender model (CRM) scores every sample; a router sends some of them to a language model. "
        f"Measured on {samples['test']:,} test samples of {samples['test_users']:,} users that no part was fitted on."
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Corella report: {esc(name)}</title><style>{asset('report.css')}</style></head><body>"
        f"<header><h1>Corella report: {esc(name)}</h1><p>{esc(intro)}</p></header><main>"
        f"{render_verdict(metrics, predictions)}{_cards(metrics)}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>{body}</main>'
        "<footer><p>Figures: metrics.json. One row a test sample: predictions.parquet. Both lie beside this file.</p></footer>"
        "</body></html>\n"
    )


def _cards(metrics: Metrics) -> str:
    main, final, best = metrics["main_crm"], metrics["final"], metrics["best_conventional"]
    full = f"{main} & llm"
    milliseconds = metrics["cost"].get("milliseconds_per_sample", 0.0)
    cards = [
        ("CRM alone, AUC", auc_text(system(metrics, main)["auc"]), main),
        ("CRM with routing, AUC", auc_text(final["auc"]), f"policy {final['policy']}, {final['combine']}"),
        ("Language model alone, AUC", auc_text(system(metrics, "llm")["auc"]), "asked about every sample"),
        ("Blend on every sample, AUC", auc_text(system(metrics, full)["auc"]), full),
        ("Best without language model, AUC", auc_text(system(metrics, best)["auc"]), best),
        ("Share routed", percent(final["share_routed"]), f"{percent(final['share_wanted'])} wanted"),
        ("Language model, ms a sample", number(milliseconds), "read in batches"),
        ("Language model, ms a sample, mean over all samples", number(milliseconds * final["share_routed"]), "at the share routed"),
    ]
    return '<dl class="cards">' + "".join(
        f'<div><dt>{esc(a)}</dt><dd class="value">{esc(b)}</dd><dd class="sub">{esc(c)}</dd></div>' for a, b, c in cards
    ) + "</dl>"  # fmt: skip


def _systems(metrics: Metrics) -> str:
    order = list(charts.KINDS)
    rows = [*metrics["systems"], {"system": "final", **metrics["final"]}]
    rows.sort(key=lambda r: (order.index(kind(r["system"])), -r["auc"]))
    best = {k: pick(r[k] for r in rows) for k, (_, pick) in _COLUMNS.items() if pick}
    lines = []
    for row in rows:
        label = f"final ({percent(row['share_routed'])} routed)" if row["system"] == "final" else row["system"]
        badge = Html(f'<span class="badge {kind(row["system"]).replace(" ", "-")}">{kind(row["system"])}</span>')
        cells = [_cell(row[k], best[k]) if k in best else f"{auc_text(row['auc_low'])} to {auc_text(row['auc_high'])}" for k in _COLUMNS]
        lines.append([label, badge, *cells])
    here = [i for i, r in enumerate(rows) if r["system"] == "final"]
    differences = [
        [Html(f"{esc(d['b'])}<small>minus {esc(d['a'])}</small>"), signed(d["mean"]), span(d), "yes" if sign(d) else "no"]
        for d in metrics["differences"] if d["resampled"] == "users"
    ]  # fmt: skip
    chart = charts.systems_chart(rows, metrics["best_conventional"])
    paired = table("Differences on the same samples", ["", "AUC", "95 % interval", "significant"], differences)
    lead = (
        "Each dot is a system's AUC on the same test samples, the bar its 95 % interval; the dashed line marks the best system "
        "without a language model. “a & b” is a stack of both, fitted on validation rows; “final” is this run's router at work."
    )
    why = "The intervals of single systems overlap because they share the samples; only the paired differences tell two systems apart."
    heads = ["system", "made of", *(title for title, _ in _COLUMNS.values())]
    return (
        f'{paragraph(lead)}<div class="pair">{figure("Test AUC", chart)}<div>{paired}{paragraph(why)}</div></div>'
        + table("Every system on the test samples (best of each column in bold)", heads, lines, text=(1,), marked=here)
    )


def _cell(value: float, best: float) -> str:
    return Html(f'<b class="best">{auc_text(value)}</b>') if value == best else auc_text(value)


def _routing(metrics: Metrics) -> str:
    main, final = metrics["main_crm"], metrics["final"]
    lead = (
        "From left to right more samples go to the language model, the most promising first; a good policy rises early. "
        "“learned” is Corella's router, “entropy” the CoReLLa paper's, “random” the control that a policy must beat, and the oracle "
        "knows the language model's answers beforehand."
    )
    meaning = (
        "The tables give the AUC gained over the CRM and, in small print, the captured gain: its share of what blending every sample "
        f"gains. Where that full gain is tiny (below {auc_text(_TINY, 3)}) or not significant, the captured share is noise."
    )
    panels, tables = [], []
    for name in sorted(metrics["curves"], key=lambda n: n == main):
        rows = metrics["curves"][name]
        here = (final["share_routed"], final["auc"]) if name == main and final["combine"] == "blend" else None
        panels.append(figure(f"Starting from {name}, blending", charts.routing_chart(rows, name, here)))
        tables.append(_captured(metrics, name, rows))
    return f'{paragraph(lead)}<div class="pair">{"".join(panels)}</div>{paragraph(meaning)}{"".join(tables)}'


def _captured(metrics: Metrics, name: str, rows: Sequence[Row]) -> str:
    """Gain at a few shares, by policy, for both ways of combining."""
    at = {(r["policy"], r["combine"], round(r["share"], 2)): r for r in rows}
    base, whole = (next(r["auc"] for r in rows if r["combine"] == "blend" and r["share"] == s) for s in (0.0, 1.0))
    lines = []
    for policy in dict.fromkeys(r["policy"] for r in rows):
        cells = [at[policy, how, share] for how in ("blend", "replace") for share in _SHARES]
        lines.append([policy, *(Html(f"{signed(c['auc'] - base)}<small>{captured(c["captured"])}</small>") for c in cells)])
    full = next((d for d in metrics["differences"] if d["resampled"] == "users" and d["a"] == name and d["b"] == f"{name} & llm"), None)
    warning = ""
    if whole - base < _TINY or (full and sign(full) == 0):
        warning = paragraph(
            f"Blending every sample changes the AUC of {name} by {signed(whole - base)}"
            + (f" ({interval(full)})" if full else "") + ": too little to read anything into the captured shares.", "note",
        )  # fmt: skip
    heads = ["policy", *([percent(s) for s in _SHARES] * 2)]
    groups = '<tr><td></td><th class="group" colspan="3" scope="colgroup">blend</th><th class="group" colspan="3" scope="colgroup">replace</th></tr>'
    return table(f"AUC gained over {name} ({auc_text(base)}) at three shares", heads, lines, above=groups, edges=(1, 4)) + warning


def _confidence(metrics: Metrics) -> str:
    lead = (
        "The test samples in thirds by how far the CRM's probability is from one half. The paper's claim is that the language "
        "model is the better one where the CRM is least sure."
    )
    panels = []
    for key in sorted(metrics["groups"], key=lambda k: k == f"confidence of {metrics['main_crm']}"):
        if not key.startswith("confidence of ") or not metrics["groups"][key]:
            continue
        name, rows = key.removeprefix("confidence of "), metrics["groups"][key]
        caption = f"{name}, the language model, and their blend"
        panels.append(f"<div>{figure(caption, charts.confidence_chart(rows, name))}{paragraph(_least_confident(name, rows))}</div>")
    return f'{paragraph(lead)}<div class="pair">{"".join(panels)}</div>'


def _least_confident(name: str, rows: Sequence[Row]) -> str:
    by = {r["system"]: r for r in rows if r["group"] == "least confident"}
    if not {name, "llm", f"{name} & llm"} <= by.keys():
        return "The least confident third holds too few samples to tell."
    crm, llm, blend = by[name], by["llm"], by[f"{name} & llm"]
    overlap = min(crm["auc_high"], llm["auc_high"]) > max(crm["auc_low"], llm["auc_low"])
    return (
        f"In the least confident third ({crm['samples']:,} samples) {name} has {auc_text(crm['auc'])}, the language model "
        f"{auc_text(llm['auc'])} ({signed(llm['auc'] - crm['auc'])}) and the blend {auc_text(blend['auc'])}"
        + ("; the intervals of the first two overlap." if overlap else "; the intervals of the first two do not overlap.")
    )


def _groups(metrics: Metrics, predictions: pl.DataFrame) -> str:
    lead = (
        "What the blend on every sample adds to the CRM, by how many answers the item, or the user, had before the sample. "
        "Thin lines are 95 % intervals, resampling users: a bar whose line crosses zero shows nothing."
    )
    panels = []
    for key, column in (("item popularity", "item_answers"), ("history length", "answers_before")):
        rows = _lifts(metrics, predictions, key, column)
        if rows:
            panels.append(figure(f"By {key} (n: samples)", charts.lift_chart(rows, key)))
    return f'{paragraph(lead)}<div class="pair">{"".join(panels)}</div>'


def _lifts(metrics: Metrics, predictions: pl.DataFrame, key: str, column: str) -> list[dict[str, Any]]:
    """One row a group: lift of the blend, and its interval where the predictions allow one."""
    main = metrics["main_crm"]
    auc = {(r["group"], r["system"]): r["auc"] for r in metrics["groups"].get(key, [])}
    known = column in predictions.columns
    inside = dict(bins(predictions[column].to_numpy(), [0, 5, 20, 50, 100, 200], "answers")) if known else {}
    rows = []
    for row in (r for r in metrics["groups"].get(key, []) if r["system"] == main):
        group = row["group"]
        tested = bootstrap(predictions.filter(inside[group]), main, f"{main} & llm", metrics.get("seed", 0)) if group in inside else None
        ends = {"low": tested["low"], "high": tested["high"]} if tested else {}
        rows.append({"group": group, "samples": row["samples"], "lift": auc[group, f"{main} & llm"] - row["auc"], **ends})
    return rows


def _calibration(metrics: Metrics, predictions: pl.DataFrame) -> str:
    main = metrics["main_crm"]
    lead = (
        "Left: where a system says 70 %, are 70 % of the samples positive? On the diagonal, yes; each dot is a tenth of the samples. "
        "Right: which of the CRM's probabilities the router sent on."
    )
    ece = {n: system(metrics, n)["ece"] for n in (main, "llm", "final")}
    text = "Mean distance from the diagonal (ECE): " + ", ".join(f"{n} {auc_text(v)}" for n, v in ece.items()) + "."
    scores = {n: predictions[n].to_numpy() for n in ece if n in predictions.columns}
    figures = figure("Reliability", charts.reliability_chart(predictions["label"].to_numpy(), scores))
    if main in scores:
        figures += figure(f"Probability by {main}", charts.routed_chart(scores[main], predictions["routed"].to_numpy()))
    return f'{paragraph(lead)}<div class="pair">{figures}</div>{paragraph(text)}'


def _cost(metrics: Metrics) -> str:
    cost, final = metrics["cost"], metrics["final"]
    each, share = cost.get("milliseconds_per_sample", 0.0), final["share_routed"]
    trained = cost.get("llm_seconds", 0.0)
    seconds = {**cost.get("seconds", {}), "reading the test samples": cost.get("test_seconds", 0.0)}
    longest = max([*seconds.values(), 1e-9])
    stages = [
        [name, f"{value:,.1f}", Html(f'<span class="bar" style="width:{100 * value / longest:.1f}%"></span>')]
        for name, value in seconds.items()
    ]
    facts = [
        ["answers the language model was trained on", f"{cost.get('llm_targets', 0):,}"],
        ["tokens it read in training", f"{cost.get('llm_tokens', 0):,}"],
        ["tokens a trained answer", number(cost.get("llm_tokens", 0) / max(cost.get("llm_targets", 0), 1))],
        ["training, tokens a second", f"{cost.get('llm_tokens', 0) / trained:,.0f}" if trained else "n/a"],
        ["scoring, ms a sample", number(each)],
        ["scoring, samples a second", f"{1000 / each:,.0f}" if each else "n/a"],
        [f"scoring, ms a sample, mean at {percent(share)} routed", number(each * share)],
        ["conventional model, training rows a second", f"{cost.get('crm_rows_per_second', 0):,.0f}"],
    ]
    lead = (
        "What training took and what the language model costs at scoring time, on the machine named below. Scoring is measured in "
        "batches over whole users (throughput); a single request waits longer."
    )
    left = table("Language model", ["", "value"], facts)
    right = table("Seconds by stage", ["stage", "seconds", ""], stages, bars=(2,))
    return f'{paragraph(lead)}<div class="pair">{left}{right}</div>'


def _data(metrics: Metrics, config: Config) -> str:
    data = metrics.get("dataset", {})
    facts = [[k, f"{v:,}" if isinstance(v, int) else str(v)] for k, v in (data.get("facts") or {}).items()]
    splits = [
        [s["split"], f"{s['rows']:,}", f"{s['users']:,}", f"{s['items']:,}", f"{100 * s['positive']:.1f} %"]
        for s in data.get("splits") or []
    ]
    dropped = [[d["reason"], f"{d['rows']:,}", d["first"]] for d in data.get("dropped") or []]
    machine = [[k, str(v)] for k, v in {"seed": metrics.get("seed"), **metrics.get("machine", {})}.items()]
    samples = metrics["samples"]
    lead = (
        f"Rows in their order, split into training, validation and test; of these, {samples['valid']:,} validation and "
        f"{samples['test']:,} test samples were read by the language model."
    )
    parts = [
        paragraph(lead), table("Splits", ["split", "rows", "users", "items", "positive"], splits),
        table("Rows dropped", ["reason", "rows", "first of them"], dropped, text=(0, 2)) if dropped else paragraph("No rows were dropped."),
        "<h3>Warnings</h3><ul>" + "".join(f"<li>{esc(w)}</li>" for w in data["warnings"]) + "</ul>" if data.get("warnings") else "",
        f'<div class="pair">{table("Read", ["", ""], facts)}{table("Measured on", ["", ""], machine)}</div>',
        details("Configuration (YAML)", f'<pre tabindex="0">{esc(_yaml(config))}</pre>'),
    ]  # fmt: skip
    return "".join(parts)


def _yaml(config: Config) -> str:
    """The configuration as it was, secrets hidden."""
    return yaml.safe_dump(_masked(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def _masked(value: Any) -> Any:
    """The same data with every database URI and the like hidden."""
    if isinstance(value, dict):
        return {k: "(hidden)" if str(k).lower() in _SECRET and v else _masked(v) for k, v in value.items()}
    return [_masked(v) for v in value] if isinstance(value, list) else value

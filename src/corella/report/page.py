"""The report of a run: one HTML file that works offline, without scripts, in light and dark, on a phone and on paper.

Everything shown comes from metrics.json and predictions.parquet.
"""

import polars as pl

from corella.config import Config
from corella.errors import UserError
from corella.evaluation.results import Metrics, RankingMetrics
from corella.evaluation.systems import LLM
from corella.report import markup
from corella.report.cost_section import render_cost
from corella.report.data_section import render_data
from corella.report.groups_section import render_calibration, render_confidence, render_groups
from corella.report.markup import esc, paragraph
from corella.report.numbers import auc_text, number, percent
from corella.report.recommendations import render_recommendations
from corella.report.routing_section import render_routing
from corella.report.rungs_section import TITLE, render_lead, render_rungs
from corella.report.slates_section import render_slates
from corella.report.systems_section import render_systems
from corella.report.verdict import render_verdict


def render_report(whole: Metrics, config: Config, predictions: pl.DataFrame) -> str:
    """The whole page. `predictions`: one row a test sample: `label`, `routed`, every system's probability. Raises
    `UserError` where there are no figures of a ranking."""
    metrics = whole.ranking
    if metrics is None:
        raise UserError("these are figures of a retrieval alone, and the report is about a ranking")
    prices = metrics.rungs
    sections = [
        ("prices", TITLE, render_rungs(prices, metrics.samples, config.llm.backbone)),
        ("asking", "Asking a language model per request", _asking(metrics, config, predictions)),
        ("systems", "All systems", render_systems(metrics)),
        *render_slates(metrics),
        ("routing", "Routing curves", render_routing(metrics)),
        ("confidence", "Where the conventional model is unsure", render_confidence(metrics)),
        ("groups", "Rare items and short histories", render_groups(metrics, predictions)),
        ("calibration", "Calibration", render_calibration(metrics, predictions)),
        *render_recommendations(whole),
        ("cost", "Cost", render_cost(metrics)),
        ("data", "Data and settings", render_data(whole, metrics.samples, config)),
        ("glossary", "Glossary", markup.details("Ten terms", markup.asset("glossary.html"))),
    ]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{content}</section>'
        for key, title, content in sections
    )
    name = f"{config.data.source}, seed {whole.seed}"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Corella report: {esc(name)}</title><style>{markup.asset('page.css')}</style></head><body>"
        f"<header><h1>Corella report: {esc(name)}</h1></header><main>{render_lead(prices)}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>{body}</main>'
        "<footer><p>All figures: metrics.json. One row a test sample: predictions.parquet. "
        "Both lie beside this file.</p></footer></body></html>\n"
    )


def _asking(metrics: RankingMetrics, config: Config, predictions: pl.DataFrame) -> str:
    """The router at its budget, whether or not that is what is served."""
    lead = (
        f"A conventional recommender model (CRM), here {metrics.main_crm}, scores every sample; a router sends some "
        "of them to the language model. “final” is the router at its budget, whether or not it is what is served."
    )
    return f"{paragraph(lead)}{render_verdict(metrics, predictions)}{_cards(metrics, config)}"


def _cards(metrics: RankingMetrics, config: Config) -> str:
    main, final, best = metrics.main_crm, metrics.final, metrics.best_conventional
    full = f"{main} & llm"
    each = metrics.cost.milliseconds_per_sample
    # What learned a residual says nothing alone.
    asked = "Language model alone" if config.joint.target == "label" else "CRM as the language model corrects it"
    cards = [
        ("CRM alone, AUC", auc_text(metrics.system(main).auc), main),
        ("CRM with routing, AUC", auc_text(final.auc), f"final: {final.policy} policy, {final.combine}"),
        (f"{asked}, AUC", auc_text(metrics.system(LLM.name).auc), "llm"),
        ("Blend on every sample, AUC", auc_text(metrics.system(full).auc), full),
        ("Best conventional, AUC", auc_text(metrics.system(best).auc), best),
        ("Share routed", percent(final.share_routed), f"wanted: {percent(final.share_wanted)}"),
        ("Time per sample asked", f"{number(each)} ms", "language model, in batches"),
        ("Time per sample overall", f"{number(each * final.share_routed)} ms", "at the share routed"),
    ]
    items = (
        f'<div><dt>{esc(a)}</dt><dd class="value">{esc(b)}</dd><dd class="sub">{esc(c)}</dd></div>' for a, b, c in cards
    )
    return f'<dl class="cards">{"".join(items)}</dl>'

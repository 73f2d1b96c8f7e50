"""What a dataset holds, and the figures of a run, in a terminal."""

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corella.data.preparation import Preparation
from corella.evaluation.results import Metrics
from corella.evaluation.retrieval import MEASURES
from corella.report.recommendations import retrieval_rows
from corella.report.wording import recommendation


def print_metrics(out: Console, metrics: Metrics) -> None:
    """The figures of a run as tables."""

    ranking, retrieval = metrics.ranking, metrics.retrieval
    if ranking is not None:
        table = Table(f"test samples: {ranking.samples.test:,}", "AUC", "95 % interval", "log loss", "accuracy")
        final = (f"final, {ranking.final.share_routed:.0%} routed", ranking.final)
        for name, row in [*((row.system, row) for row in ranking.systems), final]:
            span = f"{row.auc_low:.3f} to {row.auc_high:.3f}"
            table.add_row(name, f"{row.auc:.4f}", span, f"{row.logloss:.4f}", f"{row.accuracy:.4f}")
        out.print(table)
        out.print(recommendation(ranking.rungs), markup=False, soft_wrap=True)
    if retrieval is not None:
        table = Table(f"retrieval, {retrieval.users:,} users", *MEASURES.values())
        for cells in retrieval_rows(retrieval):
            table.add_row(*map(escape, cells))
        out.print(table)
    elif ranking is None:
        out.print("nobody has a like in test rows and one in the others: there is nothing to measure")


def print_prepared(out: Console, made: Preparation, items: pl.Series, users: pl.Series) -> None:
    """What was kept and dropped, and how the language model reads the items and the users, of which these are texts."""
    out.print(", ".join(f"{name}: {value:,}" for name, value in made.facts.items()))
    table = Table("split", "rows", "users", "items", "positive")
    for part in made.splits:
        table.add_row(part.split, f"{part.rows:,}", f"{part.users:,}", f"{part.items:,}", f"{part.positive:.1%}")
    out.print(table)
    for part in made.splits:
        if part.first:
            out.print(f"{part.split}: {part.first} to {part.last} (UTC)", soft_wrap=True)
    found = made.extremes
    told = {"ratings": found.ratings, "most rows": f"user {found.busiest_user}, item {found.busiest_item}"}
    out.print("; ".join(f"{name}: {said}" for name, said in told.items() if said), markup=False, soft_wrap=True)
    for drop in made.dropped:
        out.print(f"dropped {drop.rows:,} rows: {drop.reason} (first: {drop.first})", markup=False, soft_wrap=True)
    for warning in made.warnings:
        out.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if not made.dropped:
        out.print("nothing was dropped")
    for name, texts in (("items", items), ("users", users)):
        shown = " | ".join(texts.unique(maintain_order=True).head(3))
        out.print(f"the language model reads {name} as: {shown}", markup=False, soft_wrap=True)

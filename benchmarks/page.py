"""The Markdown page of a ranking benchmark: what the figures say, with intervals, then the tables behind them."""

from collections.abc import Sequence
from typing import Any

from common import auc, sentences, stamp, table
from pictures import PICTURES

Row = dict[str, Any]

_MODELS = ["AUC", "95 % interval", "per-user AUC", "LogLoss", "ACC", "sd over seeds", "seeds"]
_SIZES = {"targets learned": "targets", "test rows read": "test_rows"}
_TABLES = {
    "systems": (
        "Systems",
        "One run a seed; `a & b` is a logistic regression on the logits of both, fitted on validation rows.",
    ),
    "conventional": ("All conventional models", "No language model in them; `+counts` reads the counting features."),
    "variants": (
        "Controls, ablations and options",
        "Many are smaller than the main run; how far those that can be compared are from their reference stands above.",
    ),
    "published": ("Published by others", "On the same rows; see the text above for what their models read."),
}
_SHARES = (0.1, 0.2, 0.3, 0.5)


def ranking_page(title: str, text: str, result: Row) -> str:
    """The page of a result as `ranking.py` writes it."""
    rows: list[Row] = result["rows"]
    lines = [f"# {title}", "", text, "", stamp(result), ""]
    if result.get("not_measured"):
        lines += [f"Not measured yet: {', '.join(result['not_measured'])}.", ""]
    for picture, caption in PICTURES.items():
        lines += [f"![{caption}]({result['benchmark']}-{picture}.svg)", "", f"*{caption}.*", ""]
    lines += ["## What it says", ""]
    lines += [f"- {sentence}" for sentence in sentences(result)]
    for name, (heading, note) in _TABLES.items():
        chosen = [row for row in rows if row["table"] == name]
        sizes = list(_SIZES) if name == "variants" else []
        if chosen:
            body = [[*_model_row(row), *(f"{row[_SIZES[size]]:,.0f}" for size in sizes)] for row in chosen]
            said = note + (_tuning(chosen) if name == "conventional" else "")
            lines += ["", f"## {heading}", "", said, "", *table(["system", *_MODELS, *sizes], body)]
    lines += _routing([row for row in rows if row["table"] == "routing"])
    lines += _groups(result["groups"])
    lines += [
        "",
        "## Figures by name",
        "",
        *table(["figure", "value"], [[f"`{k}`", auc(v)] for k, v in result["figures"].items()]),
    ]
    return "\n".join(lines) + "\n"


def _tuning(rows: Sequence[Row]) -> str:
    """How the settings of the conventional rows were chosen."""
    trials = {row.get("trials", 0) for row in rows}
    if len(trials) == 1 and trials != {0}:
        return (
            f" The settings of each are the best of {trials.pop()} trials on validation rows; main runs have defaults."
        )
    tuned = [row["system"].removeprefix("conventional: ") for row in rows if row.get("trials")]
    if not tuned:
        return " All have the default settings: none was tuned here."
    return f" The best of {max(trials)} trials on validation rows: {', '.join(tuned)}; the others have the defaults."


def _routing(rows: Sequence[Row]) -> list[str]:
    """A table a conventional model: a row a policy and way of combining, a column a share."""
    lines: list[str] = []
    for crm in dict.fromkeys(row["crm"] for row in rows):
        mine = [row for row in rows if row["crm"] == crm]
        lines += ["", f"## Routing from {crm}", ""]
        lines += [
            "AUC at the share of samples that go to the language model; in brackets the share of the full blend's"
        ]
        lines += [
            "gain that it captures (`loss`: below the conventional model; empty where the blend gains less than .001).",
            "",
        ]
        body = []
        for policy, combine in dict.fromkeys((row["policy"], row["combine"]) for row in mine):
            at = {row["routed"]: row for row in mine if (row["policy"], row["combine"]) == (policy, combine)}
            body.append([f"{policy}, {combine}", *(_cell(at.get(share)) for share in (*_SHARES, 1.0))])
        lines += table(["policy", *(f"{share:.0%}" for share in (*_SHARES, 1.0))], body)
    return lines


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    share = row["captured"]
    return auc(row["auc"]) + ("" if share is None else " (loss)" if share < 0 else f" ({share:.0%})")


def _groups(groups: Sequence[Row]) -> list[str]:
    """Where the lift lies: a table a grouping, a column a system."""
    lines: list[str] = []
    for grouping in dict.fromkeys(row["grouping"] for row in groups):
        mine = [row for row in groups if row["grouping"] == grouping]
        systems = list(dict.fromkeys(row["system"] for row in mine))
        body = []
        for group in dict.fromkeys(row["group"] for row in mine):
            at = {row["system"]: row for row in mine if row["group"] == group}
            body.append(
                [group, str(next(iter(at.values()))["samples"]), *(_interval(at.get(name)) for name in systems)]
            )
        lines += ["", f"## Groups by {grouping}", "", *table(["group", "samples", *systems], body)]
    return lines


def _interval(row: Row | None) -> str:
    if row is None or row["auc"] is None:
        return ""
    return f"{auc(row['auc'])} [{auc(row['auc_low'])}, {auc(row['auc_high'])}]"


def _model_row(row: Row) -> list[str]:
    interval = f"[{auc(row['auc_low'])}, {auc(row['auc_high'])}]" if row.get("auc_low") is not None else ""
    rest = [auc(row.get(name)) for name in ("user_auc", "logloss", "accuracy", "auc_sd")]
    return [row["system"], auc(row["auc"]), interval, *rest, str(row.get("seeds", ""))]

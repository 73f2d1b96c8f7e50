"""The Markdown page of a ranking benchmark: what the figures say, with intervals, then the tables behind them."""

from collections.abc import Sequence
from typing import Any

from common import auc, sentences, stamp, table
from corella.report.numbers import signed
from figures import FIGURES
from pictures import PICTURES, is_conventional

Row = dict[str, Any]

_MODELS = ["AUC", "95 % interval", "per-user AUC", "LogLoss", "ACC", "sd over seeds", "seeds"]
_SIZES = {"targets learned": "targets", "test rows read": "test_rows"}
_TABLES = {
    "systems": (
        "Systems",
        "One run a seed; `a & b` is a logistic regression on the logits of both, fitted on validation rows.",
    ),
    "conventional": (
        "All conventional models",
        "No language model in them; `+counts` reads the count features. `a & b & c` is the control of the blend:\n"
        "the main runs' ensemble with a third model (the best of the others, by test AUC) where the language\n"
        "model would be.",
    ),
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
    lines += [f"- {sentence}" for sentence in [*_beside(result), *sentences(result)]]
    for name, (heading, note) in _TABLES.items():
        chosen = [row for row in rows if row["table"] == name]
        sizes = list(_SIZES) if name == "variants" else []
        if chosen:
            body = [[*_model_row(row), *(f"{row[_SIZES[size]]:,.0f}" for size in sizes)] for row in chosen]
            said = note + (_weight(chosen) + _tuning(chosen, result["settings"]) if name == "conventional" else "")
            lines += ["", f"## {heading}", "", said, "", *table(["system", *_MODELS, *sizes], body)]
        if name == "systems":
            lines += [*_lists(rows), *_ours(result)]
    lines += _routing([row for row in rows if row["table"] == "routing"])
    lines += _groups(result["groups"])
    lines += [
        "",
        "## Figures by name",
        "",
        *table(["figure", "value", "of"], [_figure(name, value) for name, value in result["figures"].items()]),
    ]
    return "\n".join(lines) + "\n"


def _beside(result: Row) -> list[str]:
    """The final system beside the best conventional model, and the comparable row beside the best published one."""
    rows, cost = {row["system"]: row for row in result["rows"]}, result["cost"]
    rivals = [row for row in result["rows"] if row["table"] in ("systems", "conventional") and is_conventional(row)]
    best = max(rivals, key=lambda row: float(row["auc"]))
    routed = rows["final"]["routed"] if "final" in rows else None  # pages of before have no such row
    share = "a share" if routed is None else f"{routed:.0%}"
    tested = any((d["a"], d["b"]) == (best["system"], "final") for d in result["differences"])
    said = [
        f"Of all models without a language model `{best['system']}` has the best test AUC, {auc(best['auc'])}; `final` "
        f"has {auc(result['figures']['final_auc'])}, with {share} of the samples sent to the language model at "
        f"{cost['milliseconds_per_sample']:.0f} ms each."
        + ("" if tested else " Their difference has no interval yet: they were not measured together.")
    ]
    ours = rows.get(result["comparable"])
    published = [row for row in result["rows"] if row["table"] == "published"]
    if ours is not None and published:
        theirs = max(published, key=lambda row: float(row["auc"]))
        where = (
            "above" if ours["auc_low"] > theirs["auc"] else "below" if ours["auc_high"] < theirs["auc"] else "around"
        )
        said.append(
            f"The best published row is {theirs['system']}, {auc(theirs['auc'])}; the interval of `{ours['system']}`, "
            f"{_interval(ours)}, lies {where} it."
        )
    return said


def _lists(rows: Sequence[Row]) -> list[str]:
    """The order within lists that are scored at one moment; nothing where it is not measured."""
    chosen = [row for row in rows if row["table"] == "lists"]
    if not chosen:
        return []
    note = (
        f"Test items of {chosen[0]['lists']:.0f} users, at most 20 each and the same for all seeds, all scored at the "
        "moment of the\nuser's first test sample, as if the items that the user answered later were one list. The "
        "difference is from the\nensemble, users resampled."
    )
    body = []
    for row in chosen:
        known = "difference_mean" in row
        low, high = (signed(row[f"difference_{end}"]) if known else "" for end in ("low", "high"))
        difference = f"{signed(row['difference_mean'])} [{low}, {high}]" if known else ""
        share = f"{row['routed']:.0%}"
        body.append([row["system"], share, auc(row["user_auc"]), auc(row["ndcg10"]), difference, str(row["seeds"])])
    heads = ["system", "to the language model", "AUC in a list", "NDCG@10", "difference", "seeds"]
    return ["", "## One list a user", "", note, "", *table(heads, body)]


def _ours(result: Row) -> list[str]:
    """Our policy at every share, from each conventional model, and the final system, with all metrics and the cost."""
    each, crm = (result["cost"].get(name) for name in ("milliseconds_per_sample", "crm_milliseconds_per_sample"))
    systems = {row["system"]: row for row in result["rows"] if row["table"] == "systems"}
    routing = [row for row in result["rows"] if row["table"] == "routing"]
    body = []
    for name in dict.fromkeys(row["crm"] for row in routing):
        body.append((name, systems[name]))
        ours = [row for row in routing if (row["crm"], row["policy"], row["combine"]) == (name, "learned", "blend")]
        body += [(name, row) for row in sorted(ours, key=lambda row: float(row["routed"]))]
    if "final" in systems:
        body.append(("final", systems["final"]))
    cells = []
    for name, row in body:
        metrics = [auc(row.get(metric)) for metric in ("user_auc", "logloss", "accuracy")]
        cells.append([name, f"{row['routed']:.0%}", _interval(row), *metrics, f"{each * row['routed']:.0f}"])
    head = ["from", "to the language model", "AUC", "per-user AUC", "LogLoss", "ACC", "ms a sample"]
    note = "The learned router's blend. `ms a sample`: the language model's, where it is asked for new rows one by one"
    note += "." if crm is None else f";\nthe ensemble takes {crm:.2f}."
    return ["", "## Ours", "", note, "", *table(head, cells)]


def _figure(name: str, value: float | None) -> list[str]:
    reason = "no user has both answers" if name.endswith("user_auc") else "the blend gains less than .001"
    return [f"`{name}`", f"not defined: {reason}" if value is None else auc(value), FIGURES[name]]


def _weight(rows: Sequence[Row]) -> str:
    """What validation rows give the third model of the control."""
    weight = next((row["third_weight"] for row in rows if "third_weight" in row), None)
    if weight is None:
        return ""
    if weight < 0.005:
        return " Validation rows give the third model no weight\nhere, so its row has the order of the half alone."
    return f" The third model's weight is {weight:.2f},\nboth logits calibrated."


def _tuning(rows: Sequence[Row], settings: Row) -> str:
    """How the settings of the conventional rows were chosen."""
    trials = {row.get("trials", 0) for row in rows}
    own = ", ".join(f"crm.{name} {value}" for name, value in settings.get("crm", {}).items())
    usual = f"the defaults (with {own})" if own else "the defaults"
    if len(trials) == 1 and trials != {0}:
        return (
            f" The settings of each are the best of {trials.pop()} trials on validation rows,\n"
            "the same draws for models of one search space; frozen counts have LightGBM's. Main runs have\n"
            f"{usual}; of the language model's and the router's settings none was searched with a budget."
        )
    tuned = [row["system"].removeprefix("conventional: ") for row in rows if row.get("trials")]
    if not tuned:
        return (
            f" No settings were searched here: they are {usual}, and without count features ids are\n"
            "hidden as often as validation rows prefer (never, or .3 of the time)."
        )
    return f" The best of {max(trials)} trials on validation rows: {', '.join(tuned)}; the others have {usual}."


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

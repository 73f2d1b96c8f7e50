"""The section of the report about one list a user."""

from collections.abc import Mapping
from typing import Any

from corella.report.markup import paragraph, span, table
from corella.report.numbers import auc_text, percent, signed
from corella.report.verdict import sign


def render_lists(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Key, title and content, where there are such lists (see `corella.evaluation.lists`)."""
    lists = metrics.get("lists")
    if not lists:
        return []
    apart = {d["b"]: d for d in lists["differences"]}
    rows = []
    for system in lists["systems"]:
        d = apart.get(system["system"])
        difference = ["", "", ""] if d is None else [signed(d["mean"]), span(d), "yes" if sign(d) else "no"]
        rows.append([system["system"], auc_text(system["user_auc"]), auc_text(system["ndcg10"]), *difference])
    what = (
        f"{lists['samples']:,} test items of {lists['users']:,} users, at most {lists['longest']} each, all scored at "
        "the moment of the user's first test sample, as if the items that he answered later were one list. Final asks "
        f"the language model about {percent(lists['share_routed'])} of them. Differences of the AUC are from "
        f"{metrics['main_crm']}, resampling users."
    )
    why = (
        "The per-user AUC of all test samples, above, compares samples of different moments. Answers given before a "
        "like hold fewer likes than those before a dislike, as with cards that are not put back; so it tends to be "
        "lower for a model that follows a user's answers closely, whatever order it gives a list."
    )
    heads = ["system", "AUC in a list", "NDCG@10", "difference", "95 % interval", "significant"]
    body = paragraph(what) + table("Order within a list", heads, rows, text=(0,)) + paragraph(why)
    return [("lists", "One list a user", body)]

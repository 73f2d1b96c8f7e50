"""The report's section on retrieval: how well it finds, and what a few users would get."""

from collections.abc import Mapping
from typing import Any

from corella.evaluation.retrieval import MEASURES, retrieval_rows
from corella.report.markup import esc, paragraph, table
from corella.report.numbers import auc_text

Metrics = Mapping[str, Any]

_OPINIONS = {"probability": "final", "crm_probability": "CRM", "llm_probability": "language model"}


def render_recommendations(metrics: Metrics) -> list[tuple[str, str, str]]:
    """The section, as (key, title, HTML), where the run can retrieve."""
    shown, found = metrics.get("recommendations"), metrics.get("retrieval")
    if not shown and not found:
        return []
    lead = (
        "The retrieval finds a hundred items that the user has not interacted with, by what the user liked; the base "
        "ranker orders them, and the router asks the language model about some. The best ten, as of the end of the log."
    )
    parts = _retrieval(found) if found else []
    parts += [paragraph(lead)] if shown else []
    for user in shown or []:
        known = "known to training" if user["trained"] else "new since training, read by the history alone"
        lists = [
            f"<h4>{title}</h4><ul>{''.join(f'<li>{esc(text)}</li>' for text in user[key])}</ul>"
            for key, title in (("liked", "Liked, newest first"), ("disliked", "Disliked"))
            if user[key]
        ]
        lines = [
            [row["text"], str(row["retrieved_at"]), *(_probability(row[p]) for p in _OPINIONS)] for row in user["items"]
        ]
        heads = ["item", "retrieved at", *_OPINIONS.values()]
        items = table(f"Recommended to user {user['user_id']}", heads, lines)
        about = f"{esc(user['user'])} <small>User {esc(user['user_id'])}: {known}.</small>"
        parts.append(f'<h3>{about}</h3><div class="pair history"><div>{"".join(lists)}</div>{items}</div>')
    return [("recommendations", "Retrieval, and recommendations for a few users", "".join(parts))]


def _retrieval(found: Metrics) -> list[str]:
    """How well what users like is found."""
    lead = (
        f"Of {found['users']:,} users with a like in test rows and one in the others: how much of what they like in "
        "test rows is among the first 20, 40 and 100 items that the retrieval alone finds, and, for comparison, among "
        "the items liked by most. In brackets 95 % intervals over users."
    )
    return [paragraph(lead), table("The retrieval alone", ["system", *MEASURES.values()], retrieval_rows(found))]


def _probability(value: float | None) -> str:
    return "not asked" if value is None else auc_text(value, 2)

"""The report's section on retrieval: how well it finds, and what a few users would get."""

from corella.evaluation.results import Example, Interval, Metrics, RetrievalResult
from corella.evaluation.retrieval import MEASURES
from corella.report.markup import esc, paragraph, table
from corella.report.numbers import auc_text


def render_recommendations(metrics: Metrics) -> list[tuple[str, str, str]]:
    """The section, as (key, title, HTML), where the run can retrieve."""
    shown, found = metrics.recommendations, metrics.retrieval
    if not shown and not found:
        return []
    lead = (
        "The retrieval finds a hundred items that the user has not interacted with, by what the user liked; the base "
        "ranker orders them, and the router asks the language model about some. The best ten, as of the end of the log."
    )
    parts = _retrieval(found) if found else []
    parts += [paragraph(lead)] if shown else []
    parts += [_example(user) for user in shown]
    return [("recommendations", "Retrieval, and recommendations for a few users", "".join(parts))]


def _example(user: Example) -> str:
    known = "known to training" if user.trained else "new since training, read by the history alone"
    lists = [
        f"<h4>{title}</h4><ul>{''.join(f'<li>{esc(text)}</li>' for text in texts)}</ul>"
        for title, texts in (("Liked, newest first", user.liked), ("Disliked", user.disliked))
        if texts
    ]
    lines = [
        [
            row.text, str(row.retrieved_at),
            *(_probability(said) for said in (row.probability, row.crm_probability, row.llm_probability)),
        ]
        for row in user.items
    ]  # fmt: skip
    heads = ["item", "retrieved at", "final", "CRM", "language model"]
    items = table(f"Recommended to user {user.user_id}", heads, lines)
    about = f"{esc(user.user)} <small>User {esc(user.user_id)}: {known}.</small>"
    return f'<h3>{about}</h3><div class="pair history"><div>{"".join(lists)}</div>{items}</div>'


def _retrieval(found: RetrievalResult) -> list[str]:
    """How well what users like is found."""
    lead = (
        f"Of {found.users:,} users with a like in test rows and one in the others: how much of what they like in "
        "test rows is among the first 20, 40 and 100 items that the retrieval alone finds, and, for comparison, among "
        "the items liked by most. In brackets 95 % intervals over users."
    )
    return [paragraph(lead), table("The retrieval alone", ["system", *MEASURES.values()], retrieval_rows(found))]


def retrieval_rows(found: RetrievalResult) -> list[list[str]]:
    """The figures of a retrieval as rows of text: the system, then every measure with its interval."""
    rows = []
    for name, row in found.systems.items():
        measures: tuple[Interval, ...] = (row.recall20, row.recall40, row.ndcg100)
        rows.append([name, *(f"{m.mean:.4f} [{m.low:.4f}, {m.high:.4f}]" for m in measures)])
    return rows


def _probability(value: float | None) -> str:
    return "not asked" if value is None else auc_text(value, 2)

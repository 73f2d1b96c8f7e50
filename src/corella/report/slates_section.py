"""The section of the report about slates."""

from corella.evaluation.results import RankingMetrics
from corella.report.markup import paragraph, span, table
from corella.report.numbers import auc_text, percent, signed


def render_slates(metrics: RankingMetrics) -> list[tuple[str, str, str]]:
    """Key, title and content, where there are slates (see `corella.evaluation.slates`)."""
    slates = metrics.slates
    if slates is None:
        return []
    apart = {d.b: d for d in slates.differences}
    rows = []
    for system in slates.systems:
        d = apart.get(system.system)
        difference = ["", "", ""] if d is None else [signed(d.mean), span(d), "yes" if d.sign else "no"]
        rows.append([system.system, auc_text(system.user_auc), auc_text(system.ndcg10), *difference])
    what = (
        f"A slate: up to {slates.longest} test items of one user, all scored at the moment of the user's first test "
        f"sample. Here {slates.samples:,} items of {slates.users:,} users. “final” asks the language model about "
        f"{percent(slates.share_routed)} of them. Differences are from {metrics.main_crm}, resampling users."
    )
    why = (
        "Per-user AUC mixes samples from different times, which penalises models that react to recent feedback. Use "
        "this table to compare ranking within a user."
    )
    heads = ["system", "AUC in a slate", "NDCG@10", "difference", "95 % interval", "significant"]
    body = paragraph(what) + table("Order within a slate", heads, rows, text=(0,)) + paragraph(why)
    return [("slates", "Slates", body)]

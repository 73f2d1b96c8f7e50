"""The section of the report about cost."""

from corella.evaluation.results import RankingMetrics
from corella.report.markup import Html, paragraph, table
from corella.report.numbers import number, percent


def render_cost(metrics: RankingMetrics) -> str:
    """What training took, and what the language model costs when it scores."""
    cost, share = metrics.cost, metrics.final.share_routed
    each, trained, tokens, targets = cost.milliseconds_per_sample, cost.llm_seconds, cost.llm_tokens, cost.llm_targets
    seconds = {**cost.seconds, "reading the test samples": cost.test_seconds}
    longest = max([*seconds.values(), 1e-9])
    stages = [
        [name, f"{value:,.1f}", Html(f'<span class="bar" style="width:{100 * value / longest:.1f}%"></span>')]
        for name, value in seconds.items()
    ]
    facts = [
        ["training: interactions learned from", f"{targets:,}"],
        ["training: tokens read", f"{tokens:,}"],
        ["training: tokens per interaction", number(tokens / max(targets, 1))],
        ["training: tokens per second", f"{tokens / trained:,.0f}" if trained else "n/a"],
        ["scoring: samples per second", f"{1000 / each:,.0f}" if each else "n/a"],
        ["scoring: ms per sample asked", number(each)],
        [f"scoring: ms per sample, {percent(share)} routed", number(each * share)],
    ]
    lead = (
        "What training took, and what the language model costs when it scores, on the machine named below. Scoring "
        "is measured in batches over whole users (throughput); a single request waits longer. The neural "
        f"conventional model trains on {cost.crm_rows_per_second:,.0f} rows a second."
    )
    left, right = table("Language model", ["", ""], facts), table("Seconds by stage", ["", "", ""], stages, bars=(2,))
    return f'{paragraph(lead)}<div class="pair">{left}{right}</div>'

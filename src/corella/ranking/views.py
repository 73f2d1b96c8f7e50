"""Views of a fitted ranking: the whole dataset (the ranking itself), or the small world of one request."""

from dataclasses import replace

from corella.data.scope import Scope
from corella.ranking.model import FittedRanking


def request_view(ranking: FittedRanking, scope: Scope) -> FittedRanking:
    """The ranking for the samples of one request; it predicts, and no more. Only with timeline prompts it asks the
    language model too."""
    return replace(
        ranking, rungs=(ranking.base.narrowed(scope),), served_rung=0, llm=ranking.llm.narrowed(scope),
        features=ranking.features.narrowed(scope),
    )  # fmt: skip

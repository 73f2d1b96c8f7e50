"""From users to ranked items: the retrieval finds candidates, the CRM ranks them, the router asks the language model.

Either half works alone: without a ranking the retrieval's order stands; without a retrieval every item that the user
has not answered is a candidate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from corella.calibration import probability
from corella.columns import ITEM, USER
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.ranking.model import FittedRanking
from corella.retrieval.system import Retrieval


@dataclass(frozen=True)
class Recommendation:
    """One item for one user, and what each half said of it."""

    item_id: str
    text: str
    retrieved_at: int | None
    """Its place among the retrieved candidates, from 1; None where nothing retrieves."""
    probability: float | None
    """The ranking's final probability of a positive answer; None where nothing ranks."""
    crm_probability: float | None
    llm_probability: float | None
    """None where the language model was not asked."""


class Recommender:
    """Retrieval, ranking, or both.

    >>> Recommender(Retrieval.load("run/retrieval"), load_ranking("run/model")).recommend("196")  # doctest: +SKIP
    """

    def __init__(self, retrieval: Retrieval | None = None, ranking: FittedRanking | None = None) -> None:
        self.retrieval, self.ranking = retrieval, ranking

    def recommend(
        self, user: str, k: int = 20, candidates: int = 100, share: float | None = None
    ) -> list[Recommendation]:
        """The best `k` items for a user, best first, none that the user has answered.

        `candidates`: how many retrieved items are ranked; `share`: the router's threshold is the one that sends this
        share of validation samples to the language model, unset: what the ranking serves by default. Raises `UserError`
        for an unknown user, or where neither half is there.
        """
        if self.ranking is None:
            if self.retrieval is None:
                raise UserError("a recommender needs a retrieval model, a ranking model, or both")
            found = self.retrieval.recommend([user], k)[0]
            texts = texts_of(self.retrieval.dataset, found)
            return [Recommendation(found[n], text, n + 1, None, None, None) for n, text in enumerate(texts)]
        found = unanswered(self.ranking.dataset, user)
        if self.retrieval is not None:  # which may know other answers than the ranking does, or fewer
            found = self.retrieval.recommend([user], max(candidates, k), found)[0]
        places: dict[str, int] = {item: n for n, item in enumerate(found, 1)} if self.retrieval else {}
        rows = pl.DataFrame({USER: [user] * len(found), ITEM: found}, schema={USER: pl.String, ITEM: pl.String})
        said = self.ranking.predict(self.ranking.dataset.query(rows), share)
        order = np.argsort(-said.logit, kind="stable")[:k]
        texts = texts_of(self.ranking.dataset, [found[n] for n in order])
        final, crm, llm = (probability(z) for z in (said.logit, said.crm, said.llm))
        return [
            Recommendation(
                found[n], text, places.get(found[n]), float(final[n]), float(crm[n]),
                float(llm[n]) if said.routed[n] else None,
            )
            for n, text in zip(order, texts, strict=True)
        ]  # fmt: skip


def unanswered(dataset: Dataset, user: str) -> list[str]:
    """Ids of all items that a user has not answered. Raises `UserError` for an unknown user."""
    known = dataset.log.filter(pl.col(USER) == user)
    if known.height == 0:
        raise UserError(f"no {USER} '{user}' in the dataset")
    return dataset.items.filter(~pl.col(ITEM).is_in(known[ITEM].implode()))[ITEM].to_list()


def texts_of(dataset: Dataset, items: Sequence[str]) -> list[str]:
    """The texts of items, in order."""
    wanted = pl.DataFrame({ITEM: items}, schema={ITEM: pl.String})
    return wanted.join(dataset.items, on=ITEM, how="left", maintain_order="left")["text"].to_list()

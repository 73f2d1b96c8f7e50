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
from corella.data.rows import codes_of
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
        found = self.candidates([user], k, candidates)[0]
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

    def known(self, users: Sequence[str]) -> list[str]:
        """Those of some users who can be recommended to: who are in the data, and for a ranking have answered."""
        names, found = pl.Series(users, dtype=pl.String), np.ones(len(users), dtype=bool)
        if self.retrieval is not None:
            found &= codes_of(names, self.retrieval.dataset.users[USER]) >= 0
        if self.ranking is not None:
            dataset = self.ranking.dataset
            codes = codes_of(names, dataset.users[USER])
            found &= (codes >= 0) & (np.diff(dataset.events.start)[codes] > 0)
        return names.filter(pl.Series(found)).to_list()

    def candidates(self, users: Sequence[str], k: int = 20, candidates: int = 100) -> list[list[str]]:
        """For each user the ids of the items that `recommend` ranks: those that are retrieved, best first, or without a
        retrieval all that the user has not answered. Without a ranking, the best `k`. Raises `UserError` as it does.
        """
        if self.ranking is None:
            if self.retrieval is None:
                raise UserError("a recommender needs a retrieval model, a ranking model, or both")
            return self.retrieval.recommend(users, k)
        dataset = self.ranking.dataset
        if self.retrieval is None:
            return [unanswered(dataset, user) for user in users]
        without = answered(dataset, users)  # the retrieval may know other answers than the ranking does, or fewer
        return self.retrieval.recommend(users, max(candidates, k), dataset.items[ITEM].to_list(), without)


def answered(dataset: Dataset, users: Sequence[str]) -> list[list[str]]:
    """Ids of the items that each user has answered. Raises `UserError` for an unknown user."""
    codes = codes_of(pl.Series(users, dtype=pl.String), dataset.users[USER])
    events, names = dataset.events, dataset.items[ITEM].to_numpy()
    found = []
    for user, code in zip(users, codes, strict=True):
        start, end = events.start[code : code + 2] if code >= 0 else (0, 0)
        if start == end:
            raise UserError(f"no {USER} '{user}' in the dataset")
        found.append(names[events.item[start:end]].tolist())
    return found


def unanswered(dataset: Dataset, user: str) -> list[str]:
    """Ids of all items that a user has not answered. Raises `UserError` for an unknown user."""
    known = set(answered(dataset, [user])[0])
    return [item for item in dataset.items[ITEM].to_list() if item not in known]


def texts_of(dataset: Dataset, items: Sequence[str]) -> list[str]:
    """The texts of items, in order."""
    wanted = pl.DataFrame({ITEM: items}, schema={ITEM: pl.String})
    return wanted.join(dataset.items, on=ITEM, how="left", maintain_order="left")["text"].to_list()

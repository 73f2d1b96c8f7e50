"""A fitted retrieval with items that came after it was fitted: found by what their texts say, as the linear model
learned it (`Linear.to_new`, `Linear.from_new`).

Such an item has no interactions to be found by, so a tenth of the places is theirs where any of them fits at all; the
ranking then decides between all candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from corella.retrieval.histories import Reader, top_items
from corella.retrieval.system import Retrieval

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

_NEW_SHARE = 0.1


@dataclass(frozen=True)
class Reason:
    """What one item of a history adds to the linear score of another."""

    item_id: str
    part: float
    share: float = 0.0
    """Of all that items of the history add; what others take away is not counted."""


@dataclass
class LiveRetrieval:
    """Ids in, ids out. Items are numbered: those of the fitted model, then the new ones as they came."""

    fitted: Retrieval
    new: dict[str, Floats] = field(default_factory=dict)
    """Id -> the text's vector, of length 1."""

    @property
    def knows(self) -> dict[str, int]:
        """Id -> code, of the fitted items."""
        return self.fitted.item_codes

    def put(self, item_id: str, vector: Floats) -> None:
        """Add an item; `vector` [encoder's width] of its text. One that was fitted stays as it was."""
        centre = self.fitted.centre
        if centre is not None and self.fitted.linear.to_new.shape[1] and item_id not in self.knows:
            self.new[item_id] = centre.unit(vector[None])[0]

    def retrieve(
        self, user_id: str, liked: Sequence[str], without: Sequence[str], k: int, allowed: Bools | None = None,
        allowed_new: Sequence[str] | None = None,
    ) -> list[str]:  # fmt: skip
        """The best items for somebody who liked these, oldest first, none of `without`. `allowed` [fitted items] and
        `allowed_new`: the only ones that may come. Ids that nobody knows are passed over."""
        not_these = set(without)
        unwanted = self._codes([*not_these])
        inside = None if allowed is None else np.flatnonzero(allowed)
        names = self.fitted.item_names
        history = self._codes(liked)
        fresh = [item for item in (self.new if allowed_new is None else allowed_new) if item in self.new]
        fresh = [item for item in fresh if item not in not_these]
        told = self.scores(liked, fresh)
        if not any(item in self.new for item in liked):
            reader = Reader(self.fitted.user_token(user_id), history)
            found = self.fitted.top([reader], [unwanted], k, inside)[0]
        else:
            found = top_items(self._fitted_scores(liked)[None], [unwanted], k, inside)[0]
        best = [names[code] for code in found.tolist()]
        order = np.argsort(-told, kind="stable")[: max(1, round(_NEW_SHARE * k))]
        first = [fresh[n] for n in order.tolist() if told[n] > 0]
        return [*best[: k - len(first)], *first]

    def scores(self, liked: Sequence[str], items: Sequence[str]) -> Floats:
        """Linear scores of new items, float32 [items], comparable with those of fitted ones."""
        if not items:
            return np.zeros(0, np.float32)
        vectors = np.stack([self.new[item] for item in items])
        history, weights = self._fitted(_weights(liked, self.fitted.linear.strengths.recency))
        return np.asarray((weights @ self.fitted.linear.to_new[history]) @ vectors.T, dtype=np.float32)

    def because(self, liked: Sequence[str], items: Sequence[str], most: int | None = None) -> list[list[Reason]]:
        """For each item what liked items add to its linear score, the largest first, `most` of them; nothing for items
        that nobody knows. What new items add to new ones is not known."""
        found = []
        for item in items:
            parts = sorted(self._parts(liked, item).items(), key=lambda one: -one[1])
            total = sum(part for _, part in parts if part > 0)
            found.append([Reason(name, part, part / total if total else 0.0) for name, part in parts[:most]])
        return found

    def similar(
        self, item_id: str, k: int, allowed: Bools | None = None, allowed_new: Sequence[str] | None = None
    ) -> list[Reason]:
        """The items that liking this one says most for: by behaviour and, as far as it was fitted, by text. Nothing for
        an item that nobody knows."""
        if item_id not in self.knows and item_id not in self.new:
            return []
        scores = self._fitted_scores([item_id])
        own = self._codes([item_id])
        best = top_items(scores[None], [own], k, None if allowed is None else np.flatnonzero(allowed))[0]
        fresh = [item for item in (self.new if allowed_new is None else allowed_new) if item in self.new]
        fresh = [item for item in fresh if item != item_id]
        told = self.scores([item_id], fresh) if item_id in self.knows else np.zeros(len(fresh), np.float32)
        names = self.fitted.item_names
        found = [Reason(names[code], float(scores[code])) for code in best.tolist()]
        found += [Reason(item, float(score)) for item, score in zip(fresh, told, strict=True)]
        return [one for one in sorted(found, key=lambda one: -one.part) if one.part > 0][:k]

    def _fitted(self, weights: Mapping[str, float]) -> tuple[Ints, Floats]:
        """Codes of the fitted items among these, and their weights."""
        known = {self.knows[item]: weight for item, weight in weights.items() if item in self.knows}
        return np.array(list(known), dtype=np.int64), np.array(list(known.values()), dtype=np.float32)

    def _codes(self, items: Sequence[str]) -> Ints:
        return np.array([self.knows[item] for item in items if item in self.knows], dtype=np.int64)

    def _fitted_scores(self, liked: Sequence[str]) -> Floats:
        """Linear scores of the fitted items by all liked ones, new ones among them; float32 [fitted items]."""
        linear = self.fitted.linear
        told = _weights(liked, linear.strengths.recency)
        history, weights = self._fitted(told)
        row = csr_matrix((weights, (np.zeros(len(history), np.int64), history)), shape=(1, linear.items))
        known = row @ linear.weights
        scores = np.asarray(known.toarray() if isinstance(known, csr_matrix) else known, dtype=np.float32).ravel()
        for item, weight in told.items():
            if item in self.new and linear.from_new.shape[0]:
                scores = scores + weight * (self.new[item] @ linear.from_new)
        return np.asarray(scores, dtype=np.float32)

    def _parts(self, liked: Sequence[str], item: str) -> dict[str, float]:
        """What each liked item adds to the score of one item."""
        linear = self.fitted.linear
        told = _weights(liked, linear.strengths.recency)
        parts = dict.fromkeys(told, 0.0)
        code = self.knows.get(item)
        history, weights = self._fitted(told)
        names = self.fitted.item_names
        if code is not None:
            column = linear.weights[history, code] if len(history) else np.zeros(0)
            said = np.asarray(column.toarray() if isinstance(column, csr_matrix) else column).ravel()
            parts |= {names[i]: float(part) for i, part in zip(history.tolist(), said * weights, strict=True)}
            for one in set(told) & set(self.new) if linear.from_new.shape[0] else ():
                parts[one] = told[one] * float(self.new[one] @ linear.from_new[:, code])
        elif item in self.new:
            said = (linear.to_new[history] @ self.new[item]) * weights
            parts |= {names[i]: float(part) for i, part in zip(history.tolist(), said, strict=True)}
        return parts


def _weights(liked: Sequence[str], recency: float) -> dict[str, float]:
    """What each item of a history, oldest first, counts; one that comes twice counts as its newest place does."""
    return {item: recency ** (len(liked) - 1 - n) for n, item in enumerate(liked)}

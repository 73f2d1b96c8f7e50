"""A fitted retrieval with items that came after it was fitted: found by what their texts say, as the linear model
learned it (`Linear.to_new`, `Linear.from_new`).

Such an item has no interactions to be found by, so a tenth of the places is theirs where any of them fits at all; the
ranking then decides between all candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

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
        text = self.fitted.text
        if text is not None and self.fitted.linear.to_new.shape[1] and item_id not in self.knows:
            self.new[item_id] = text.unit(vector[None])[0]

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
        history, places = self._history(liked)
        fresh = [item for item in (self.new if allowed_new is None else allowed_new) if item in self.new]
        fresh = [item for item in fresh if item not in not_these]
        told = self.scores(liked, fresh)
        if len(history) or not len(places):
            reader = Reader(self.fitted.user_token(user_id), history)
            found = self.fitted.top([reader], [unwanted], k, inside)[0]
        else:  # somebody who likes new items only
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
        history, places = self._history(liked)
        age = self._ages(len(liked))[places]
        return np.asarray((age @ self.fitted.linear.to_new[history]) @ vectors.T, dtype=np.float32)

    def because(self, liked: Sequence[str], items: Sequence[str]) -> list[list[Reason]]:
        """For each item what each liked item adds to its linear score, the largest first; nothing for items that nobody
        knows. What new items add to new ones is not known."""
        found = []
        for item in items:
            parts = self._parts(liked, item)
            order = np.argsort(-parts, kind="stable")
            found.append([Reason(liked[n], float(parts[n])) for n in order.tolist()])
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

    def _history(self, liked: Sequence[str]) -> tuple[Ints, Ints]:
        """Codes of the fitted items among these, and their places."""
        places = np.array([n for n, item in enumerate(liked) if item in self.knows], dtype=np.int64)
        return self._codes([liked[n] for n in places.tolist()]), places

    def _codes(self, items: Sequence[str]) -> Ints:
        return np.array([self.knows[item] for item in items if item in self.knows], dtype=np.int64)

    def _ages(self, count: int) -> Floats:
        ages: Floats = (self.fitted.linear.strengths.recency ** np.arange(count - 1, -1, -1)).astype(np.float32)
        return ages

    def _fitted_scores(self, liked: Sequence[str]) -> Floats:
        """Linear scores of the fitted items by all liked ones, new ones among them; float32 [fitted items]."""
        linear = self.fitted.linear
        history, places = self._history(liked)
        scores = linear.scores([history])[0] if len(history) == len(liked) else np.zeros(linear.items, np.float32)
        if len(history) < len(liked):
            ages = self._ages(len(liked))
            if len(history):
                scores = scores + sum(
                    age * linear.scores([history[n : n + 1]])[0] for n, age in enumerate(ages[places])
                )
            for age, item in zip(ages, liked, strict=True):
                if item in self.new and linear.from_new.shape[0]:
                    scores = scores + age * (self.new[item] @ linear.from_new)
        return np.asarray(scores, dtype=np.float32)

    def _parts(self, liked: Sequence[str], item: str) -> Floats:
        """What each liked item adds to the score of one item, float32 [liked]."""
        linear = self.fitted.linear
        parts, ages = np.zeros(len(liked), np.float32), self._ages(len(liked))
        history, places = self._history(liked)
        code = self.knows.get(item)
        if code is not None:
            if len(history):
                # `reasons` weighs by the age among the fitted items; new ones may stand between them.
                inner = self._ages(len(history))
                parts[places] = linear.reasons(history, code) / inner * ages[places]
            for n, one in enumerate(liked):
                if one in self.new and linear.from_new.shape[0]:
                    parts[n] = ages[n] * float(self.new[one] @ linear.from_new[:, code])
        elif item in self.new and len(history):
            parts[places] = (linear.to_new[history] @ self.new[item]) * ages[places]
        newest = {one: n for n, one in enumerate(liked)}  # an item that comes twice says what its newest place says
        parts[[n for n, one in enumerate(liked) if newest[one] != n]] = 0
        return parts

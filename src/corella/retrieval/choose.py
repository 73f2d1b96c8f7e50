"""The strengths of the linear model that validation rows prefer: a search along one strength at a time.

It starts from a multiple of how often an item is liked, which serves dense and sparse logs alike, and moves by factors
of three as long as NDCG grows by more than its standard error: smaller steps follow noise. 0 is tried for everything
that may be left out. Nothing is random.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from corella.config import RetrievalConfig
from corella.retrieval.linear import Linear, Strengths, TogetherCounts
from corella.retrieval.measures import ndcg_of_places

Ints = npt.NDArray[np.int64]

RECENCIES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_FACTOR = 3.0
_SCORES = 8_000_000
"""In one block of users: what bounds the memory."""


@dataclass(frozen=True)
class Held:
    """Validation users: what they liked before, and what validation rows hold."""

    histories: Sequence[Ints]
    wanted: Sequence[Ints]

    def ndcg(self, linear: Linear, at: int) -> npt.NDArray[np.float64]:
        """NDCG of every user, float64 [users]; among equal scores a wanted item comes last."""
        found, block = [np.zeros(0)], max(1, _SCORES // linear.items)
        for start in range(0, len(self.histories), block):
            histories, wanted = self.histories[start : start + block], self.wanted[start : start + block]
            scores = linear.scores(histories)
            for row, seen in zip(scores, histories, strict=True):
                row[seen] = -np.inf
            row = np.repeat(np.arange(len(wanted)), [len(items) for items in wanted])
            own = scores[row, np.concatenate(wanted)]
            # Counting what is above is quicker than sorting.
            place = np.array([int((scores[r] >= s).sum()) for r, s in zip(row, own, strict=True)])
            found.append(ndcg_of_places(at, place, row, [len(items) for items in wanted]))
        return np.concatenate(found)


@dataclass(frozen=True)
class Tried:
    """A model of some strengths, and its NDCG for every validation user."""

    model: Linear
    ndcg: npt.NDArray[np.float64]

    @property
    def quality(self) -> float:
        """Their mean; 0 without users."""
        return float(self.ndcg.mean()) if len(self.ndcg) else 0.0

    def better_than(self, other: "Tried") -> bool:
        """Whether the mean gain is above its standard error."""
        gain = self.ndcg - other.ndcg
        return bool(gain.mean() > gain.std() / len(gain) ** 0.5)


def start_strengths(counts: TogetherCounts, texts: bool, config: RetrievalConfig) -> Strengths:
    """Where the search begins; what is configured stays."""
    liked = max(float(counts.together.diagonal().mean()), 1.0)
    given = (config.penalty, config.text if texts else 0.0, config.following, config.recency)
    found = (3 * liked, 30 * liked, 3.0, 0.7)
    return Strengths(*(f if g is None else g for g, f in zip(given, found, strict=True)))


def choose_strengths(
    fit: Callable[[Strengths], Linear],
    start: Strengths,
    held: Held,
    config: RetrievalConfig,
    most: int,
    on_try: Callable[[Tried], None] = lambda tried: None,
) -> Tried:
    """The best of at most `most` fits from `start` on, over everything that `config` leaves open.

    `fit`: the model of some strengths; all recencies are tried on each.
    """

    def attempt(strengths: Strengths) -> Tried:
        model = fit(strengths)
        ages = RECENCIES if config.recency is None else (config.recency,)
        aged = [replace(model, strengths=replace(model.strengths, recency=age)) for age in ages]
        best = max((Tried(m, held.ndcg(m, config.measure_at)) for m in aged), key=lambda tried: tried.quality)
        on_try(best)
        return best

    best, left = attempt(start), most - 1
    if not len(held.histories):
        return best
    for steps in _directions(start, config):
        for step in steps:
            moved = False
            while left > 0:
                tried, left = attempt(step(best.model.strengths)), left - 1
                if not tried.better_than(best):
                    break
                best, moved = tried, True
                if step(tried.model.strengths) == tried.model.strengths:
                    break  # what is 0 stays 0
            if moved:
                break  # the way back was not better
    return best


Step = Callable[[Strengths], Strengths]


def _directions(start: Strengths, config: RetrievalConfig) -> Iterator[tuple[Step, ...]]:
    """For every open strength the steps that may be taken, in the order of what they are worth."""
    if config.text is None and start.text > 0:
        yield _times("text", _FACTOR), _times("text", 1 / _FACTOR), _times("text", 0.0)
    if config.following is None:
        yield _times("following", 0.0), _times("following", _FACTOR), _times("following", 1 / _FACTOR)
    if config.penalty is None:
        yield _times("penalty", _FACTOR), _times("penalty", 1 / _FACTOR)


def _times(name: str, factor: float) -> Step:
    return lambda strengths: replace(strengths, **{name: getattr(strengths, name) * factor})

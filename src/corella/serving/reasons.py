"""Why an item is there, in words: exact parts of the retrieval's score, and what the trees say they looked at."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from corella.retrieval.live import Reason

Doubles = npt.NDArray[np.float64]

_LEAST_SHARE, _LEAST_ADDS = 0.02, 0.05
"""What is less is not worth a word: of a retrieval score, and in log-odds."""


@dataclass(frozen=True)
class Aspect:
    """A group of features, and what they add to the log-odds together."""

    what: str
    adds: float


_WORDS: tuple[tuple[str, str], ...] = (
    (r"text_own_.*", "how near its text is to what the user liked"),
    (r"text_others_.*", "how items with a text like it are liked"),
    (r"text_circle.*", "how people with this taste like it, and items like it"),
    (r"text_component_\d+", "what it is about"),
    (r"neighbours_.*", "what the user said of items that are liked together with it"),
    (r"user_x_(.+)_(?:answers|share|rating)", r"how the user likes its {}"),
    (r"item_(?:answers|share|rating|log_seconds)", "how it is liked by all"),
    (r"user_.*", "how the user answers in general"),
    (r"(.+)_(?:answers|share|rating)", r"how its {} is liked by all"),
)


@lru_cache(maxsize=4096)
def words(feature: str) -> str:
    """What a feature looks at.

    >>> words("user_x_genres_share"), words("year")
    ('how the user likes its genres', 'its year')
    """
    for pattern, said in _WORDS:
        match = re.fullmatch(pattern, feature)
        if match is not None:
            return said.format(*(group.replace("_x_", " and ").replace("_", " ") for group in match.groups()))
    return f"its {feature.replace('_', ' ')}"


def aspects(names: Sequence[str], contributions: Doubles, most: int = 3) -> list[Aspect]:
    """The largest contributions to one item, by size; features that say the same are added up. `contributions`
    [names]."""
    together: dict[str, float] = {}
    for name, part in zip(names, contributions.tolist(), strict=True):
        together[words(name)] = together.get(words(name), 0.0) + part
    best = sorted(together.items(), key=lambda one: -abs(one[1]))[:most]
    return [Aspect(what, adds) for what, adds in best if abs(adds) >= _LEAST_ADDS]


def liked_parts(reasons: Sequence[Reason]) -> list[Reason]:
    """The liked items whose share is worth a word."""
    return [one for one in reasons if one.share >= _LEAST_SHARE]


def sentence(because: Sequence[Reason], looked_at: Sequence[Aspect], text: Callable[[str], str]) -> str:
    """One sentence; `text`: of an item's id."""
    if because:
        return f"Because you liked {' and '.join(text(one.item_id) for one in because)}."
    speaks_for = [one.what for one in looked_at if one.adds > 0]
    return f"What speaks for it: {speaks_for[0]}." if speaks_for else "It is popular now."

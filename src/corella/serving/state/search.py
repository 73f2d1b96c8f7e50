"""Items by what somebody types: all words first, then texts that are written alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEAST = 0.45
"""Share of the query's groups of two and three letters that a text must have to be alike."""
_LETTERS = HashingVectorizer(
    analyzer="char_wb", ngram_range=(2, 3), n_features=1 << 18, binary=True, norm=None, alternate_sign=False,
    dtype=np.float32,
)  # fmt: skip


@dataclass(frozen=True)
class Hits:
    """Codes of items, best first."""

    codes: list[int]
    exact: bool
    """Whether they have every word; otherwise they are only written alike."""


class Search:
    """An index of the texts of a catalogue, made once; texts that came later are read for every query."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._lower = [text.lower() for text in texts]
        self._letters: csr_matrix | None = None

    def find(self, words: str, changed: Mapping[int, str], likes: Doubles, limit: int) -> Hits:
        """The most liked items that have every word; where none has, those written most alike. `changed`: code -> text
        of items that came, or changed, since; `likes` by code: those below 0 do not come."""
        wanted = words.lower().split()
        lower = {code: text.lower() for code, text in changed.items()}
        texts = (pair for pair in enumerate(self._lower) if pair[0] not in lower)
        found = [code for code, text in (*texts, *lower.items()) if all(word in text for word in wanted)]
        codes = np.array(found, dtype=np.int64)
        codes = codes[likes[codes] >= 0]
        if len(codes) or not wanted:
            return Hits(codes[np.argsort(-likes[codes], kind="stable")[:limit]].tolist(), exact=True)
        return Hits(self._alike(" ".join(wanted), lower, likes, limit), exact=False)

    def _alike(self, query: str, lower: Mapping[int, str], likes: Doubles, limit: int) -> list[int]:
        asked = _LETTERS.transform([query])
        if self._letters is None:
            self._letters = _LETTERS.transform(self._lower)
        share = np.zeros(len(likes))
        share[: len(self._lower)] = (self._letters @ asked.T).toarray().ravel() / max(asked.nnz, 1)
        if lower:
            share[list(lower)] = (_LETTERS.transform(lower.values()) @ asked.T).toarray().ravel() / max(asked.nnz, 1)
        good = np.flatnonzero((share >= _LEAST) & (likes >= 0))
        order: list[int] = good[np.lexsort((-likes[good], -share[good]))][:limit].tolist()
        return order

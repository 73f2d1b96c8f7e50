"""Text encoders: a text in, a vector of length 1 out. Each item is read once, and never while serving.

Knows nothing of items. A transformer is in `transformer.py`; TF-IDF with a singular value decomposition is the control
that needs no weights, fitted on the catalogue.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from corella.config.text import TextConfig

Floats = npt.NDArray[np.float32]
OnTexts = Callable[[int], None]
"""Is told how many texts are done."""

_HASHES = 1 << 15


class Encoder(Protocol):
    """Reads texts."""

    @property
    def digest(self) -> str:
        """Names the weights and the settings: what it made of a text stays right as long as this does."""
        ...

    @property
    def fitted(self) -> Mapping[str, Floats]:
        """What was fitted on the catalogue, by name; nothing for weights that were there before."""
        ...

    def encode(self, texts: Sequence[str], on_texts: OnTexts = lambda done: None) -> Floats:
        """float32 [texts, width], each of length 1 (zeros for a text without a word)."""
        ...


@dataclass(frozen=True)
class TfidfEncoder:
    """Words and parts of words, weighted by how rare they are in the catalogue, reduced to a few dimensions."""

    idf: Floats
    """[hashes]: how rare each is; words are hashed, so that no vocabulary has to be kept."""
    components: Floats
    """[width, hashes]."""
    digest: str = field(default="tfidf", compare=False)

    @property
    def fitted(self) -> Mapping[str, Floats]:
        """See `Encoder`."""
        return {"idf": self.idf, "components": self.components}

    def encode(self, texts: Sequence[str], on_texts: OnTexts = lambda done: None) -> Floats:
        """See `Encoder`."""
        reduced = _weighted(_counted(texts), self.idf) @ self.components.T
        on_texts(len(texts))
        return _unit(np.asarray(reduced, dtype=np.float32))


def fit_tfidf(texts: Sequence[str], width: int, seed: int = 0) -> TfidfEncoder:
    """Fit on a catalogue. `width`: of the vectors; fewer where there are fewer texts.

    >>> red, blue, none = fit_tfidf(["red shirt", "red shirts", "blue sea"], 2).encode(["red shirt", "blue sea", ""])
    >>> bool(red @ blue < 0.5), float(none @ none)
    (True, 0.0)
    """
    from sklearn.decomposition import TruncatedSVD

    counted = _counted(texts)
    seen = np.bincount(counted.indices, minlength=_HASHES)
    idf = (np.log((1 + len(texts)) / (1 + seen)) + 1).astype(np.float32)
    weighted = _weighted(counted, idf)
    size = max(min(width, min(weighted.shape) - 1), 1)
    components = TruncatedSVD(size, random_state=seed).fit(weighted).components_
    return TfidfEncoder(idf, np.asarray(components, dtype=np.float32))


def _counted(texts: Sequence[str]) -> Any:
    """Sparse [texts, hashes]: 1 + log of how often each word, and each run of three to five letters, comes."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    half = _HASHES // 2
    options = {"n_features": half, "alternate_sign": False, "norm": None, "dtype": np.float32}
    words = HashingVectorizer(**options).transform(texts)
    parts = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **options).transform(texts)
    counted = hstack([words, parts]).tocsr()
    counted.data = 1 + np.log(counted.data)
    return counted


def _weighted(counted: Any, idf: Floats) -> Any:
    from sklearn.preprocessing import normalize

    return normalize(counted.multiply(idf).tocsr(), copy=False)


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-9)
    return found


def load_encoder(config: TextConfig) -> Encoder:
    """The transformer that the settings name; `tfidf` is fitted instead, see `fit_tfidf`. Raises `UserError` where
    weights are missing."""
    from corella.features.text.transformer import TransformerEncoder  # torch takes seconds, and not all need it
    from corella.weights import weights_of

    return TransformerEncoder(weights_of(config.encoder, "data.text.encoder"), config)

"""A catalogue as vectors: what the encoder made of every item's text, and the encoder for items that come later."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corella.arrays import load_arrays, save_arrays
from corella.config.text import TextConfig
from corella.features.text.cache import encode_cached
from corella.features.text.encoder import Encoder, TfidfEncoder, fit_tfidf, load_encoder
from corella.progress import Reporter

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ItemTexts:
    """Vectors of a catalogue."""

    vectors: Floats
    """[items, width], each of length 1, or zeros where there is no text."""
    encoder: Encoder
    """Made them, and makes those of new items."""

    def save(self, path: Path) -> None:
        """Write vectors, and of an encoder what was fitted on the catalogue, as safetensors."""
        save_arrays(path, {"vectors": self.vectors, **self.encoder.fitted})

    @classmethod
    def load(cls, path: Path, config: TextConfig) -> "ItemTexts":
        """Read what `save` wrote. A transformer's weights are not read before a new text comes."""
        tensors = load_arrays(path)
        vectors = tensors.pop("vectors")
        return cls(vectors, TfidfEncoder(tensors["idf"], tensors["components"]) if tensors else load_encoder(config))


def read_items(texts: Sequence[str], config: TextConfig, reporter: Reporter | None = None) -> ItemTexts | None:
    """Read every item's text once; None where the encoder is `none`. Raises `UserError` where weights are missing."""
    if config.encoder == "none":
        return None
    if config.encoder == "tfidf":
        fitted = fit_tfidf(texts, config.tfidf_size)
        return ItemTexts(fitted.encode(texts), fitted)
    encoder = load_encoder(config)
    return ItemTexts(encode_cached(texts, encoder, reporter), encoder)

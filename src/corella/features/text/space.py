"""Where a catalogue's texts lie: vectors reduced to their principal components, and the nearest texts of every item.

Centred first, for all texts of one catalogue have much in common. Fitted once, and kept in the prepared folder, since
components of another machine may point elsewhere.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corella.arrays import load_arrays, save_arrays
from corella.features.text.nearest import nearest

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """Items in the space, and the items of the catalogue near them; n items, M neighbours."""

    vectors: Floats
    """[n, width], each of length 1, or zeros for an item without a text."""
    near: Ints
    """[n, M]: codes of the items nearest by text, the nearest first, never the item itself."""
    nearness: Floats
    """[n, M]: cosines with them; minus infinity where there are no more, or no text."""

    def take(self, index: Ints) -> "Places":
        """The items at `index`."""
        return Places(self.vectors[index], self.near[index], self.nearness[index])


@dataclass(frozen=True)
class TextSpace:
    """The projection, and the catalogue in it."""

    mean: Floats
    """[encoder's width]"""
    components: Floats
    """[width, encoder's width], the one with the most variance first."""
    places: Places
    """Of the catalogue, row i is code i."""

    @cached_property
    def with_unknown(self) -> Places:
        """The catalogue and one item more, so that code -1 is an item without a text."""
        places = self.places
        nothing = self.new_places(np.zeros((1, len(self.mean)), np.float32))
        pairs = ((getattr(places, name), getattr(nothing, name)) for name in ("vectors", "near", "nearness"))
        return Places(*(np.concatenate(pair) for pair in pairs))

    def new_places(self, texts: Floats) -> Places:
        """Where items lie that the catalogue does not have, from their texts' vectors, float32 [n, encoder's width]."""
        vectors = self._projected(texts)
        found, nearness = nearest(vectors, self.places.vectors, self.places.near.shape[1])
        return Places(vectors, found, nearness)

    def _projected(self, texts: Floats) -> Floats:
        return _unit((texts - self.mean) @ self.components.T, texts)

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        places = self.places
        save_arrays(path, {
            "mean": self.mean, "components": self.components, "vectors": places.vectors, "near": places.near,
            "nearness": places.nearness,
        })  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "TextSpace":
        """Read what `save` wrote."""
        found = load_arrays(path)
        places = Places(found["vectors"], found["near"], found["nearness"])
        return cls(found["mean"], found["components"], places)


def fit_space(texts: Floats, width: int, neighbours: int) -> TextSpace:
    """Fit on a catalogue's vectors, float32 [items, encoder's width]; rows of zeros are items without a text.

    >>> texts = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 0]], np.float32)
    >>> space = fit_space(texts, width=2, neighbours=2)
    >>> space.places.near[0].tolist(), space.places.nearness[3].tolist()
    ([1, 2], [-inf, -inf])
    """
    known = np.abs(texts).sum(1) > 0
    some = texts[known] if known.any() else texts
    mean = some.mean(axis=0, dtype=np.float64)
    centred = some - mean
    _, directions = np.linalg.eigh(centred.T @ centred)
    components = directions[:, ::-1].T[:width].copy()
    # Which way a component points is chance: its largest entry is positive.
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    components = (components * np.where(largest < 0, -1, 1)).astype(np.float32)
    vectors = _unit((texts - mean.astype(np.float32)) @ components.T, texts)
    near, nearness = nearest(vectors, vectors, neighbours, same=True)
    return TextSpace(mean.astype(np.float32), components, Places(vectors, near, nearness))


def _unit(projected: npt.NDArray[np.floating], texts: Floats) -> Floats:
    """Rows of length 1; zeros where there is no text."""
    known = np.abs(texts).sum(1, keepdims=True) > 0
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    return np.asarray(projected / np.maximum(length, 1e-6) * known, dtype=np.float32)

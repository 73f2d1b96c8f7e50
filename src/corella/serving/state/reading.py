"""Texts that the training data do not have, read once: it takes milliseconds, and is done on another thread."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from corella.data.dataset import Dataset
from corella.features.text.space import Places

Floats = npt.NDArray[np.float32]

_KEPT = 20_000


@dataclass(frozen=True, eq=False)
class ReadText:
    """What is known of a text."""

    vector: Floats
    """[encoder's width]"""
    place: Places
    """One row."""


class TextReader:
    """Where texts lie; the ones read last are kept. For several threads at once."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._kept: OrderedDict[str, ReadText] = OrderedDict()
        self._lock, self._encoding = Lock(), Lock()  # of a tokenizer only one thread may ask something at a time

    def read(self, texts: Sequence[str]) -> list[ReadText]:
        """One for each text; none without an encoder."""
        space, items = self._dataset.space, self._dataset.texts
        if space is None or items is None:
            return []
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        vectors, found = np.zeros((0, 0), np.float32), None
        if new:
            with self._encoding:
                vectors = items.encoder.encode(new)
            found = space.new_places(vectors)
        with self._lock:
            for n, text in enumerate(new):
                if found is not None:
                    self._kept[text] = ReadText(vectors[n], found.take(np.array([n])))
            told = [self._kept[text] for text in texts]
            for text in texts:
                self._kept.move_to_end(text)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return told

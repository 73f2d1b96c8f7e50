"""Items by their text."""

import numpy as np
import numpy.typing as npt

from corella.data.dataset import Dataset
from corella.data.schema import ITEM


class Catalogue:
    """The texts of all items."""

    def __init__(self, dataset: Dataset) -> None:
        self._ids: list[str] = [str(i) for i in dataset.items[ITEM].to_list()]
        self._texts: list[str] = dataset.items["text"].to_list()
        self._lower = [text.lower() for text in self._texts]
        self._code = {item: code for code, item in enumerate(self._ids)}

    def text(self, item: str) -> str:
        """The text of an item; empty for one that the catalogue does not have."""
        code = self._code.get(item)
        return "" if code is None else self._texts[code]

    def __contains__(self, item: str) -> bool:
        """Whether there is such an item."""
        return item in self._code

    def search(self, words: str, likes: npt.NDArray[np.int64], limit: int) -> list[tuple[str, str]]:
        """Ids and texts of items that have every word, the most liked first; `likes` by item code."""
        wanted = words.lower().split()
        found = [code for code, text in enumerate(self._lower) if all(word in text for word in wanted)]
        order = np.argsort(-likes[found], kind="stable")[:limit]
        return [(self._ids[found[i]], self._texts[found[i]]) for i in order]

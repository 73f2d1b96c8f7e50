"""Items by their text, and what the training data tell of items and users."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import ITEM, USER
from corella.data.dataset import Dataset
from corella.data.scope import Described
from corella.errors import UserError, suggest


class Catalogue:
    """The texts of all items."""

    def __init__(self, dataset: Dataset) -> None:
        self._ids: list[str] = [str(i) for i in dataset.items[ITEM].to_list()]
        self._texts: list[str] = dataset.items["text"].to_list()
        self._lower = [text.lower() for text in self._texts]
        self._code = {item: code for code, item in enumerate(self._ids)}
        self.user_fields, self.item_fields = _fields(dataset.users), _fields(dataset.items)
        """Columns that a described user or item may tell, and whether each is a list."""

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


def unknown(text: str, fields: Mapping[str, object], known: Mapping[str, bool]) -> Described:
    """Somebody or something described. Raises `UserError` for a field that is not among the `known` ones, or that is a
    list where it has single values, or the other way round."""
    for name, value in fields.items():
        if name not in known:
            hint = suggest(name, known) if known else "the training data have none"
            raise UserError(f"fields: no '{name}'; {hint}")
        if known[name] != isinstance(value, list):
            wanted = "a list of values" if known[name] else "a single value"
            raise UserError(f"fields: '{name}' is {wanted}, not {value!r}")
    return Described(text, fields)


def _fields(table: pl.DataFrame) -> dict[str, bool]:
    schema = table.schema
    return {name: isinstance(dtype, pl.List) for name, dtype in schema.items() if name not in (USER, ITEM, "text")}

"""The items as of now: the training data's, and what was put, changed or deleted since."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import DESCRIPTION, ITEM
from corella.data.dataset import Dataset
from corella.data.scope import Described
from corella.errors import UserError, suggest
from corella.serving.state.reading import ReadText
from corella.serving.store.records import FieldValue, Item

Key = tuple[str, ...]
Bools = npt.NDArray[np.bool_]

UNKNOWN = "\0unknown"
"""A value that no row of a table has."""


class Catalogue:
    """Items by their code: the row in the training data, and numbers behind those for items that were put. Not for
    several threads at once."""

    def __init__(self, dataset: Dataset) -> None:
        self._table = dataset.items
        self.ids: list[str] = dataset.items[ITEM].cast(pl.String).to_list()
        """By code."""
        self.codes: dict[str, int] = {name: code for code, name in enumerate(self.ids)}
        self.texts: list[str] = dataset.items["text"].to_list()
        self.fields: dict[str, bool] = {
            name: isinstance(dtype, pl.List)
            for name, dtype in dataset.items.schema.items()
            if name not in (ITEM, "text", DESCRIPTION)
        }
        """Columns that an item may tell, and whether each is a list."""
        self.trained = len(self.ids)
        """How many the training data have."""
        self._put: dict[int, Item] = {}
        self._as_trained: set[int] = set()
        """Of these, those that read as the training data do: a version that learned of them has them."""
        self.read: dict[int, ReadText] = {}
        """What is known of the texts of items that were put."""
        self._open = np.ones(self.trained, dtype=bool)
        self._deleted: set[int] = set()
        columns = {name for group in dataset.config.counts.groups for name in group if name in dataset.items.columns}
        self._values = {name: table_values(dataset.items, name) for name in columns}
        self._rows: dict[int, dict[str, Key]] = {}
        self.changes = 0
        """How often it was changed: what was made of it is as old as that number."""

    def __contains__(self, item_id: str) -> bool:
        """Whether there is such an item now."""
        return self.code(item_id) is not None

    def __len__(self) -> int:
        """How many codes there are, those of deleted items among them."""
        return len(self.ids)

    def code(self, item_id: str) -> int | None:
        """The code of an item; None where there is none, or no more."""
        code = self.codes.get(item_id)
        return None if code in self._deleted else code

    def text(self, item_id: str) -> str:
        """The text of an item; empty for one that the catalogue does not have."""
        code = self.code(item_id)
        return "" if code is None else self.texts[code]

    def item(self, code: int) -> Item:
        """All that is known of an item."""
        put = self._put.get(code)
        if put is not None:
            return put
        row = self._table.row(code, named=True)
        fields = {name: _field(row[name]) for name in self.fields if row[name] is not None}
        return Item(self.ids[code], self.texts[code], fields)

    def held(self, code: int) -> Item | None:
        """What was put of an item; None where it is as the training data have it."""
        return self._put.get(code)

    def described(self, code: int) -> Described | None:
        """How an item that was put since the training reads; None where it is as the training data have it."""
        put = self._put.get(code)
        return None if put is None or code in self._as_trained else Described(put.text, put.fields)

    def reads_as_trained(self, code: int) -> bool:
        """Whether the training data have the item, and it reads as they have it."""
        return code < self.trained and self.described(code) is None

    @property
    def open(self) -> Bools:
        """By code: whether it may be recommended."""
        return self._open[: len(self.ids)]

    def items(self) -> Iterator[Item]:
        """All of them, in the order of their codes."""
        return (self.item(code) for code in range(len(self.ids)) if code not in self._deleted)

    def changed(self) -> list[int]:
        """Codes of the items that were put and are there."""
        return [code for code in self._put if code not in self._deleted]

    def check(self, item: Item) -> None:
        """Raise `UserError` for fields that the training data do not have."""
        check_fields(item.fields, self.fields)

    def put(self, item: Item, read: ReadText | None) -> int:
        """Add an item, or change it. `read`: what is known of its text."""
        code = self.codes.get(item.item_id)
        if code is None:
            code = len(self.ids)
            self.codes[item.item_id] = code
            self.ids.append(item.item_id)
            self.texts.append(item.text)
            if code >= len(self._open):
                self._open = np.concatenate([self._open, np.zeros(max(code, 64), dtype=bool)])
        self.texts[code] = item.text
        self._put[code] = item
        self._as_trained.discard(code)
        self.read.pop(code, None)
        if code < self.trained and self._reads_as_trained(code, item):
            self._as_trained.add(code)
        elif read is not None:
            self.read[code] = read
        self._deleted.discard(code)
        self._open[code] = item.available
        self._rows.pop(code, None)
        self.changes += 1
        return code

    def _reads_as_trained(self, code: int, item: Item) -> bool:
        row = self._table.row(code, named=True)
        known = {name: _field(row[name]) for name in self.fields if row[name] is not None}
        return row["text"] == item.text and all(known.get(name) == value for name, value in item.fields.items())

    def delete(self, item_id: str) -> bool:
        """Take an item out; what users said of it stays with them. Whether there was one."""
        code = self.code(item_id)
        if code is None:
            return False
        self._deleted.add(code)
        self._open[code] = False
        self.changes += 1
        return True

    def trained_keys(self, code: int) -> dict[str, Key]:
        """What `keys` was in the training data."""
        return {**{name: rows[code] for name, rows in self._values.items()}, ITEM: (self.ids[code],)}

    def keys(self, code: int) -> dict[str, Key]:
        """For every column that is counted, the item's values; and its id."""
        found = self._rows.get(code)
        if found is None:
            described = self.described(code)
            told = self.trained_keys(code) if described is None else self.keys_of(described)
            found = self._rows[code] = {**told, ITEM: (self.ids[code],)}
        return found

    def keys_of(self, described: Described | None) -> dict[str, Key]:
        """The same of an item that a request describes; None: of an unknown one."""
        told = {name: described_value(described, name, self.fields[name]) for name in self._values}
        return {**told, ITEM: described_value(described, ITEM, False)}


def check_fields(fields: Mapping[str, object], known: Mapping[str, bool]) -> None:
    """Raise `UserError` for a field that is not `known`, or that is a list where single values are known, or the other
    way round."""
    for name, value in fields.items():
        if name not in known:
            hint = suggest(name, known) if known else "the training data have none"
            raise UserError(f"fields: no '{name}'; {hint}")
        if known[name] != isinstance(value, list):
            wanted = "a list of values" if known[name] else "a single value"
            raise UserError(f"fields: '{name}' is {wanted}, not {value!r}")


def table_values(table: pl.DataFrame, name: str) -> list[Key]:
    """For every row the values of a column as keys: several for a list, one otherwise, empty where there is none."""
    if isinstance(table.schema[name], pl.List):
        return [tuple(dict.fromkeys(row or ())) for row in table[name].cast(pl.List(pl.String)).to_list()]
    return [(value,) for value in table[name].cast(pl.String).fill_null("").to_list()]


def described_value(described: Described | None, name: str, several: bool) -> Key:
    """What a description says of a column; `several`: it is a list column."""
    value = None if described is None else described.fields.get(name)
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(str(v) for v in value)) if several else (UNKNOWN,)
    return (UNKNOWN if value is None else str(value),)


def _field(value: object) -> FieldValue:
    if isinstance(value, list):
        return [str(v) for v in value]
    return value if isinstance(value, int | float | str) else str(value)

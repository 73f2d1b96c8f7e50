"""Which items have what in their fields: typed conditions instead of a language."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.data.dataset import Dataset
from corella.errors import UserError, suggest
from corella.serving.store.records import FieldValue, Item

Bools = npt.NDArray[np.bool_]

_KEPT = 256
"""Conditions whose answer for the training data's items is kept."""


@dataclass(frozen=True)
class Condition:
    """What an item's field must hold; all that is given. A list field holds several values."""

    field: str
    any_of: tuple[str, ...] = ()
    all_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: FieldValue | None) -> bool:
        """Whether a value is right; None where the item does not tell.

        >>> Condition("genres", any_of=("Drama",), none_of=("War",)).holds(["Drama", "Crime"])
        True
        >>> Condition("year", at_least=1990).holds(None)
        False
        """
        values = {str(v) for v in value} if isinstance(value, list) else set() if value is None else {str(value)}
        if self.any_of and not values & set(self.any_of):
            return False
        if not values >= set(self.all_of) or values & set(self.none_of):
            return False
        if self.at_least is None and self.at_most is None:
            return True
        number = _number(value)
        return number is not None and _inside(number, self.at_least, self.at_most)


class Filters:
    """Conditions over a catalogue. For several threads at once."""

    def __init__(self, dataset: Dataset, fields: Sequence[str]) -> None:
        self._items, self._fields = dataset.items, list(fields)
        self._kept: OrderedDict[Condition, Bools] = OrderedDict()
        self._lock = Lock()

    def check_fields(self, names: Sequence[str], where: str = "filters") -> None:
        """Raise `UserError` for a field that there is not."""
        for name in names:
            if name not in self._fields:
                hint = suggest(name, self._fields) if self._fields else "the training data have none"
                raise UserError(f"{where}: no field '{name}'; {hint}")

    def check(self, conditions: Sequence[Condition]) -> None:
        """Raise `UserError` for a field that there is not, for one that holds no numbers where they are compared, or
        where nothing is asked."""
        self.check_fields([one.field for one in conditions])
        for one in conditions:
            bounds = (one.at_least, one.at_most) != (None, None)
            if not (one.any_of or one.all_of or one.none_of or bounds):
                raise UserError(f"filters: '{one.field}': say any_of, all_of, none_of, at_least or at_most")
            if bounds and not self._numbers(one.field).is_not_null().any():
                raise UserError(f"filters: '{one.field}' holds no numbers to compare")

    def values(self, field: str, most: int = 40) -> list[str]:
        """The commonest values of a field, in the order of the alphabet; none where nearly every item has its own."""
        column = self._items[field]
        several = isinstance(column.dtype, pl.List)
        flat = column.drop_nulls().explode() if several else column
        counts = flat.drop_nulls().cast(pl.String).value_counts(sort=True)
        if not several and 2 * counts.height > len(column):
            return []
        return sorted(counts[field].head(most).to_list())

    def mask(self, conditions: Sequence[Condition], count: int, put: Sequence[tuple[int, Item]]) -> Bools:
        """By item code, of `count`: whether all conditions hold. `put`: codes and items that the training data do not
        have, or have otherwise."""
        found = np.ones(count, dtype=bool)
        for one in conditions:
            found[: self._items.height] &= self._trained(one)
        for code, item in put:
            found[code] = all(one.holds(item.fields.get(one.field)) for one in conditions)
        return found

    def _trained(self, one: Condition) -> Bools:
        with self._lock:
            if one in self._kept:
                self._kept.move_to_end(one)
                return self._kept[one]
        found = self._computed(one)
        with self._lock:
            self._kept[one] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def _computed(self, one: Condition) -> Bools:
        column = self._items[one.field]
        several = isinstance(column.dtype, pl.List)
        texts = column.cast(pl.List(pl.String) if several else pl.String)

        def any_of(values: Sequence[str]) -> Bools:
            if several:
                inside = pl.col("v").list.eval(pl.element().is_in(list(values))).list.any()
            else:
                inside = pl.col("v").is_in(list(values))
            return texts.to_frame("v").select(inside.fill_null(value=False)).to_series().to_numpy()

        found = np.ones(len(column), dtype=bool)
        if one.any_of:
            found &= any_of(one.any_of)
        for value in one.all_of:
            found &= any_of([value])
        if one.none_of:
            found &= ~any_of(one.none_of)
        for bound, low in ((one.at_least, True), (one.at_most, False)):
            if bound is not None:
                numbers = self._numbers(one.field)
                found &= (numbers >= bound if low else numbers <= bound).fill_null(value=False).to_numpy()
        return found

    def _numbers(self, field: str) -> pl.Series:
        column = self._items[field]
        if isinstance(column.dtype, pl.List):
            return pl.Series([None] * len(column), dtype=pl.Float64)
        return column.cast(pl.String).cast(pl.Float64, strict=False)


def _number(value: FieldValue | None) -> float | None:
    try:
        return None if value is None or isinstance(value, list) else float(value)
    except ValueError:
        return None


def _inside(number: float, low: float | None, high: float | None) -> bool:
    return (low is None or number >= low) and (high is None or number <= high)

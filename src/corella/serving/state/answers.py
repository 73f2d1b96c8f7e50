"""Answers of one user since the training, in a few bytes each: a service holds millions of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.features.count_state import Counted

Ints = npt.NDArray[np.int64]
Key = tuple[str, ...]
_NEVER = -(2**63)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that counts."""

    item: int
    """Its code."""
    label: int
    shown: tuple[int, int]
    """The item's answers and likes before it."""
    time: int
    """Seconds since 1970."""
    before: int | None
    """When the item had been answered last; None where that is not known, or where it had not been."""
    counted: Counted
    share: float
    """How much it counts for others than the user."""
    keys: tuple[Mapping[str, Key], Mapping[str, Key]]
    """What was known of the user and of the item then: under these it was counted."""
    event_id: str
    """Empty for one of the log."""


AS_TRAINED: tuple[Mapping[str, Key], Mapping[str, Key]] = ({}, {})
"""Keys of an answer that was counted under what the training data say of user and item."""


class Form:
    """How the numbers of an answer lie in bytes; `values`: how many are counted of each, see `Counted.values`."""

    def __init__(self, values: int) -> None:
        self.values = values
        self.struct = Struct(f"<ibiiqq{values}d{values}ddd")
        self.dtype = np.dtype([
            ("item", "<i4"), ("label", "i1"), ("answers", "<i4"), ("likes", "<i4"), ("time", "<i8"), ("before", "<i8"),
            ("values", "<f8", (values,)), ("above", "<f8", (values,)), ("residual", "<f8"), ("share", "<f8"),
        ])  # fmt: skip


class Answers:
    """Oldest first; only added to."""

    __slots__ = ("_form", "_keys", "_rows", "ids")

    def __init__(self, form: Form) -> None:
        self._form = form
        self._rows = bytearray()
        self.ids: list[str] = []
        """Of the events."""
        self._keys: dict[int, tuple[Mapping[str, Key], Mapping[str, Key]]] | None = None
        """Of those that are not `AS_TRAINED`."""

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Answer]:
        return (self._answer(n) for n in range(len(self)))

    def append(self, answer: Answer) -> None:
        """Add one behind the others."""
        if answer.keys is not AS_TRAINED:
            self._keys = self._keys or {}
            self._keys[len(self)] = answer.keys
        counted, before = answer.counted, _NEVER if answer.before is None else answer.before
        self._rows += self._form.struct.pack(
            answer.item, answer.label, *answer.shown, answer.time, before, *counted.values, *counted.above,
            counted.residual, answer.share,
        )  # fmt: skip
        self.ids.append(answer.event_id)

    @property
    def rows(self) -> npt.NDArray[Any]:
        """A copy of the numbers, one record each, see `Form.dtype`."""
        return np.frombuffer(bytes(self._rows), self._form.dtype)

    def _answer(self, place: int) -> Answer:
        found = self._form.struct.unpack_from(self._rows, place * self._form.struct.size)
        item, label, answers, likes, time, before = found[:6]
        values, above, left = found[6 : 6 + self._form.values], found[6 + self._form.values : -2], found[-2]
        keys = AS_TRAINED if self._keys is None else self._keys.get(place, AS_TRAINED)
        counted = Counted(values, above, left)
        return Answer(
            item, label, (answers, likes), time, None if before == _NEVER else before, counted, found[-1], keys,
            self.ids[place],
        )  # fmt: skip

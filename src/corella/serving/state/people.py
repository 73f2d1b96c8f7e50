"""What users said: the log's answers, and those that came since, were changed or taken back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.data.dataset import Dataset
from corella.features.count_state import Counted
from corella.features.counts import Log, above_expected, residuals

Ints = npt.NDArray[np.int64]
Key = tuple[str, ...]

_FEW = 32


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


@dataclass(frozen=True)
class Known:
    """A user's answers, the oldest first."""

    item: list[int]
    label: list[int]
    shown: Ints
    """[answers, 2]"""


class People:
    """Histories by user id. A user's answers of the log are copied when the first of them changes."""

    def __init__(self, dataset: Dataset, arrays: Log, users: Mapping[str, int]) -> None:
        self._dataset, self._arrays, self._users = dataset, arrays, users
        self._before = np.bincount(dataset.user, weights=arrays.known, minlength=dataset.users.height).astype(np.int64)
        """For each user the number of interactions that histories may hold: the first ones."""
        counts = dataset.config.counts
        self._above = np.stack([above_expected(arrays, value, counts) for value in arrays.values.T], axis=1)
        self._left = residuals(arrays, counts).residual
        self._newer: dict[str, list[Answer]] = {}
        self._whole: dict[str, list[Answer]] = {}
        """In place of log and `_newer`: all answers of whom some were changed."""
        self._items: dict[str, set[int]] = {}
        """Of those with many newer answers, the items of these."""

    def known(self, user_id: str, last: int | None = None) -> Known:
        """What a user said, the `last` answers of it; nothing of somebody unknown."""
        newer = self._whole.get(user_id)
        rows = np.zeros(0, np.int64)
        if newer is None:
            newer, rows = self._newer.get(user_id, []), self._rows(user_id)
        if last is not None and len(newer) + len(rows) > last:
            rows = rows[max(len(rows) + len(newer) - last, 0) :]
            newer = newer[-last:]
        shown = np.array([answer.shown for answer in newer], dtype=np.int64).reshape(-1, 2)
        items, labels = [answer.item for answer in newer], [answer.label for answer in newer]
        if len(rows):
            log = self._dataset
            items, labels = [*log.item[rows].tolist(), *items], [*log.label[rows].tolist(), *labels]
            shown = np.concatenate([log.popularity[rows], shown])
        return Known(items, labels, shown)

    def recent(self, user_id: str, count: int) -> list[tuple[int, int, str]]:
        """The newest answers first: item code, label, and the event's id (empty for one of the log)."""
        newer = self._whole.get(user_id, self._newer.get(user_id, []))
        found = [(answer.item, answer.label, answer.event_id) for answer in newer[: -count - 1 : -1]]
        if user_id not in self._whole:
            rows = self._rows(user_id)[::-1][: count - len(found)]
            log = self._dataset
            found += [
                (item, label, "") for item, label in zip(log.item[rows].tolist(), log.label[rows].tolist(), strict=True)
            ]
        return found

    def has(self, user_id: str, item: int) -> bool:
        """Whether the user said something of an item."""
        if user_id in self._whole:
            return any(answer.item == item for answer in self._whole[user_id])
        newer = self._newer.get(user_id, [])
        if len(newer) < _FEW:
            inside = any(answer.item == item for answer in newer)
        else:
            inside = item in self._items.setdefault(user_id, {answer.item for answer in newer})
        return inside or bool((self._dataset.item[self._rows(user_id)] == item).any())

    def count(self, user_id: str) -> int:
        """How many answers of a user count."""
        if user_id in self._whole:
            return len(self._whole[user_id])
        return len(self._newer.get(user_id, ())) + len(self._rows(user_id))

    def add(self, user_id: str, answer: Answer) -> None:
        """Add an answer behind the others."""
        (self._whole[user_id] if user_id in self._whole else self._newer.setdefault(user_id, [])).append(answer)
        if user_id in self._items:
            self._items[user_id].add(answer.item)

    def places(self, user_id: str, item: int) -> list[int]:
        """Where a user's answers to an item stand, the last first."""
        return [n for n, answer in enumerate(self._all(user_id)) if answer.item == item][::-1]

    def place_of(self, user_id: str, event_id: str) -> int | None:
        """Where the answer of an event stands; None where it does not count."""
        newer = self._whole.get(user_id, self._newer.get(user_id, []))
        place = next((n for n, answer in enumerate(newer) if answer.event_id == event_id), None)
        if place is None or user_id in self._whole:
            return place
        return place + len(self._rows(user_id))

    def place_in_log(self, user_id: str, item: int, time: int) -> int | None:
        """Where an answer of the log to an item at a time stands; None where there is none."""
        answers = enumerate(self._all(user_id) if user_id in self._users or user_id in self._whole else [])
        return next((n for n, a in answers if (a.item, a.time, a.event_id) == (item, time, "")), None)

    def remove(self, user_id: str, place: int) -> Answer:
        """Take an answer out."""
        return self._all(user_id).pop(place)

    def answers(self, user_id: str, last: int | None = None) -> list[Answer]:
        """A user's last answers, or all of them."""
        return self._all(user_id)[-(last or 0) :]

    def forget(self, user_id: str) -> None:
        """Let go of a user, of whom the log's answers do not come back."""
        self._newer.pop(user_id, None)
        self._whole.pop(user_id, None)
        self._items.pop(user_id, None)

    def __iter__(self) -> Iterator[str]:
        """Ids of those who said something since the training."""
        return iter({**self._newer, **self._whole})

    def _rows(self, user_id: str) -> Ints:
        """The user's rows of the log."""
        code = self._users.get(user_id, -1)
        if code < 0:
            return np.zeros(0, np.int64)
        start = int(self._dataset.events.start[code])
        return self._dataset.events.row[start : start + int(self._before[code])]

    def _all(self, user_id: str) -> list[Answer]:
        """The user's answers to change."""
        if user_id not in self._whole:
            answers = [self._of_log(row) for row in self._rows(user_id).tolist()]
            self._whole[user_id] = answers + self._newer.pop(user_id, [])
            self._items.pop(user_id, None)
        return self._whole[user_id]

    def _of_log(self, row: int) -> Answer:
        counted = Counted(
            tuple(self._arrays.values[row].tolist()), tuple(self._above[row].tolist()), float(self._left[row])
        )
        answers, likes = self._dataset.popularity[row].tolist()
        return Answer(
            int(self._dataset.item[row]), int(self._dataset.label[row]), (answers, likes), int(self._arrays.time[row]),
            None, counted, float(self._arrays.shared[row]), NOT_SAID, "",
        )  # fmt: skip


NOT_SAID: tuple[Mapping[str, Key], Mapping[str, Key]] = ({}, {})
"""Of an answer of the log: it was counted under what the training data say."""

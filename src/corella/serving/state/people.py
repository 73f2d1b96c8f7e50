"""What users said: the log's answers, and those that came since, were changed or taken back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.data.dataset import Dataset
from corella.features.count_state import Counted
from corella.features.counts import residuals
from corella.features.everyone import above_expected
from corella.features.log import Log
from corella.serving.state.answers import AS_TRAINED, Answer, Answers, Form

Ints = npt.NDArray[np.int64]

_FEW = 32


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
        self._dataset, self._users = dataset, users
        self._before = np.bincount(dataset.user, weights=arrays.known, minlength=dataset.users.height).astype(np.int64)
        """For each user the number of interactions that histories may hold: the first ones."""
        counts = dataset.config.counts
        # Numbers on their grids are exact as float32, and millions of rows stay as long as the service lives.
        self._values = arrays.values.astype(np.float32)
        self._above = above_expected(arrays, counts).astype(np.float32)
        self._left = residuals(arrays, counts).residual.astype(np.float32)
        self._time, self._shared = arrays.time.copy(), arrays.shared.astype(bool)
        self._form = Form(arrays.values.shape[1])
        self._newer: dict[str, Answers] = {}
        self._whole: dict[str, list[Answer]] = {}
        """In place of log and `_newer`: all answers of whom some were changed."""
        self._items: dict[str, set[int]] = {}
        """Of those with many newer answers, the items of these."""

    def known(self, user_id: str, last: int | None = None) -> Known:
        """What a user said, the `last` answers of it; nothing of somebody unknown."""
        log, rows = self._dataset, self._rows(user_id)
        item, label, shown = log.item[rows], log.label[rows], log.popularity[rows]
        if user_id in self._whole:
            newer = self._whole[user_id]
            item, label = np.array([a.item for a in newer], np.int64), np.array([a.label for a in newer], np.int64)
            shown = np.array([answer.shown for answer in newer], dtype=np.int64).reshape(-1, 2)
        elif user_id in self._newer:
            added = self._newer[user_id].rows
            item, label = np.r_[item, added["item"]], np.r_[label, added["label"]]
            shown = np.concatenate([shown, np.stack([added["answers"], added["likes"]], axis=1)])
        start = 0 if last is None else max(len(item) - last, 0)
        return Known(item[start:].tolist(), label[start:].tolist(), shown[start:].astype(np.int64))

    def recent(self, user_id: str, count: int) -> list[tuple[int, int, str]]:
        """The newest answers first: item code, label, and the event's id (empty for one of the log)."""
        if user_id in self._whole:
            return [(answer.item, answer.label, answer.event_id) for answer in self._whole[user_id][: -count - 1 : -1]]
        found: list[tuple[int, int, str]] = []
        if user_id in self._newer:
            newer = self._newer[user_id]
            rows = newer.rows[: -count - 1 : -1]
            found = list(zip(rows["item"].tolist(), rows["label"].tolist(), newer.ids[: -count - 1 : -1], strict=True))
        log, older = self._dataset, self._rows(user_id)[::-1][: count - len(found)]
        return found + [
            (i, label, "") for i, label in zip(log.item[older].tolist(), log.label[older].tolist(), strict=True)
        ]

    def has(self, user_id: str, item: int) -> bool:
        """Whether the user said something of an item."""
        if user_id in self._whole:
            return any(answer.item == item for answer in self._whole[user_id])
        inside, newer = False, self._newer.get(user_id)
        if newer is not None and len(newer) < _FEW:
            inside = bool((newer.rows["item"] == item).any())
        elif newer is not None:
            inside = item in self._items.setdefault(user_id, set(newer.rows["item"].tolist()))
        return inside or bool((self._dataset.item[self._rows(user_id)] == item).any())

    def count(self, user_id: str) -> int:
        """How many answers of a user count."""
        if user_id in self._whole:
            return len(self._whole[user_id])
        return len(self._newer.get(user_id, ())) + len(self._rows(user_id))

    def add(self, user_id: str, answer: Answer) -> None:
        """Add an answer behind the others."""
        if user_id in self._whole:
            self._whole[user_id].append(answer)
        else:
            self._newer.setdefault(user_id, Answers(self._form)).append(answer)
        if user_id in self._items:
            self._items[user_id].add(answer.item)

    def places(self, user_id: str, item: int) -> list[int]:
        """Where a user's answers to an item stand, the last first."""
        return [n for n, answer in enumerate(self._all(user_id)) if answer.item == item][::-1]

    def place_of(self, user_id: str, event_id: str) -> int | None:
        """Where the answer of an event stands; None where it does not count."""
        if user_id in self._whole:
            return next((n for n, answer in enumerate(self._whole[user_id]) if answer.event_id == event_id), None)
        ids = self._newer[user_id].ids if user_id in self._newer else []
        return len(self._rows(user_id)) + ids.index(event_id) if event_id in ids else None

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
            self._whole[user_id] = [*answers, *self._newer.pop(user_id, Answers(self._form))]
            self._items.pop(user_id, None)
        return self._whole[user_id]

    def _of_log(self, row: int) -> Answer:
        counted = Counted(tuple(self._values[row].tolist()), tuple(self._above[row].tolist()), float(self._left[row]))
        answers, likes = self._dataset.popularity[row].tolist()
        return Answer(
            int(self._dataset.item[row]), int(self._dataset.label[row]), (answers, likes), int(self._time[row]),
            None, counted, float(self._shared[row]), AS_TRAINED, "",
        )  # fmt: skip

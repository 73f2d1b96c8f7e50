"""What is known now: the prepared log and the answers that came since, one at a time.

Count features and popularity are kept by `CountState`, which starts from the log's totals; histories are the log's
events and a list of newer ones. A request gets its `Scope` and `Samples` from here.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import ITEM, TIME, USER
from corella.data.dataset import Dataset
from corella.data.rows import log_arrays
from corella.data.samples import Events, Samples
from corella.data.scope import Described, Scope
from corella.errors import UserError
from corella.features.text.space import Places
from corella.features.text.state import TextState, text_state
from corella.serving.totals import count_state

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Key = tuple[str, ...]

_UNKNOWN = "\0unknown"
"""A value that no row of a table has."""


@dataclass(frozen=True)
class Event:
    """One answer."""

    user_id: str
    item_id: str
    label: int
    timestamp: int
    """Seconds since 1970."""
    rating: float | None = None
    """On the scale of the training data, where the user gave one."""


@dataclass(frozen=True)
class HistoryEntry:
    """An answer of somebody who is described in a request."""

    item_id: str
    label: int
    rating: float | None = None


@dataclass
class _Newer:
    """What came since the log was prepared, of one user."""

    item: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    popularity: list[tuple[int, int]] = field(default_factory=list)


class Live:
    """Users, items, histories and counts as of now. Not for several threads at once."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset = dataset.seen
        self.users = _codes(dataset.users[USER])
        self.items = _codes(dataset.items[ITEM])
        self._names: list[str] = list(self.items)
        self._groups = dataset.config.counts.groups
        self._user_values = {name: _values(dataset.users, name) for name in self._columns(dataset.users)}
        self._item_values = {name: _values(dataset.items, name) for name in self._columns(dataset.items)}
        self._lists = {name for name in self._item_values if isinstance(dataset.items.schema[name], pl.List)}
        self._newer: dict[str, _Newer] = defaultdict(_Newer)
        arrays = log_arrays(dataset.log, dataset.config)
        self._answers = np.bincount(dataset.item, weights=arrays.shared, minlength=dataset.items.height).astype(
            np.int64
        )
        liked = arrays.shared * dataset.label
        self._likes = np.bincount(dataset.item, weights=liked, minlength=dataset.items.height).astype(np.int64)
        self._known = np.bincount(dataset.user, weights=arrays.known, minlength=dataset.users.height).astype(np.int64)
        """For each user the number of interactions that histories may hold: the first ones."""
        self.counts = count_state(dataset, arrays, self._groups, self._user_values, self._item_values)
        self.text: TextState | None = None
        if dataset.space is not None:
            self.text = text_state(dataset.space, dataset.config.counts, dataset.config.text, arrays, self.users)

    def _columns(self, table: pl.DataFrame) -> set[str]:
        return {name for group in self._groups for name in group if name in table.columns}

    # Reading.

    def scope(
        self,
        user_id: str | None,
        items: Sequence[str | Described],
        profile: Described | None = None,
        history: Sequence[HistoryEntry] = (),
        now: int | None = None,
    ) -> tuple[Scope, Samples]:
        """The world of a request, and the samples of its items in their order.

        `user_id` None is somebody described by `profile` and `history`, oldest first. Items are ids or descriptions; an
        id that the catalogue does not have is an unknown item. Raises `UserError` for such an id in the history.
        """
        if user_id is None:
            seen = [self._item(answer.item_id) for answer in history]
            labels = [answer.label for answer in history]
            popularity = np.array([self._popularity(i) for i in seen], dtype=np.int64).reshape(-1, 2)
        else:
            seen, labels, popularity = self._history(user_id)
        asked = [self.items.get(i, -1 - n) if isinstance(i, str) else -1 - n for n, i in enumerate(items)]
        numbers: dict[int, int] = {}
        for code in (*seen, *asked):
            numbers.setdefault(code, len(numbers))
        new_items = {numbers[-1 - n]: i for n, i in enumerate(items) if not isinstance(i, str)}
        codes = np.array([max(code, -1) for code in numbers], dtype=np.int64)
        events = Events(
            np.array([0, len(seen)]), np.array([numbers[i] for i in seen], dtype=np.int64),
            np.array(labels, dtype=np.int64), np.arange(len(seen)),
        )  # fmt: skip
        known = -1 if user_id is None else self.users.get(user_id, -1)
        places = self._places(codes, new_items)
        vectors = None if places is None else places.vectors
        scope = Scope(known, codes, events, popularity, profile if known < 0 else None, new_items, vectors)
        mine = np.array([numbers[c] for c in asked], dtype=np.int64)
        features = self._features(user_id, known, asked, items, profile, history, now, places and places.take(mine))
        shown = np.array([self._popularity(code) for code in asked], dtype=np.int64).reshape(-1, 2)
        return scope, scope.samples(mine, features[0], shown, features[1])

    def answered(self, user_id: str) -> list[tuple[str, int]]:
        """The user's answers, oldest first: item id and label."""
        items, labels, _ = self._history(user_id)
        return [(self._names[i], label) for i, label in zip(items, labels, strict=True)]

    def user_text(self, user_id: str) -> str:
        """How the language model reads a user of the dataset; empty for others."""
        code = self.users.get(user_id, -1)
        return str(self.dataset.users["text"][code]) if code >= 0 else ""

    @property
    def last_time(self) -> int:
        """When the log ended, in seconds since 1970; 0 where it has no times."""
        return int(self.dataset.log[TIME].max()) if TIME in self.dataset.log.columns else 0  # type: ignore[arg-type]

    def likes(self) -> Ints:
        """How many users like each item, by its code in the dataset."""
        return self._likes

    def most_liked(self, count: int, without: set[str]) -> list[str]:
        """Ids of the items liked by most, none of `without`."""
        first = min(count + len(without), len(self._likes))  # no need to sort a whole catalogue for each request
        some = np.argpartition(-self._likes, first - 1)[:first] if first else np.zeros(0, np.int64)
        order = some[np.lexsort((some, -self._likes[some]))]
        found = (self._names[i] for i in order.tolist())
        return list(islice((name for name in found if name not in without), count))

    def _history(self, user_id: str) -> tuple[list[int], list[int], Ints]:
        code, newer = self.users.get(user_id, -1), self._newer.get(user_id, _Newer())
        popularity = np.array(newer.popularity, dtype=np.int64).reshape(-1, 2)
        if code < 0:
            return newer.item, newer.label, popularity
        events = self.dataset.events
        mine = slice(int(events.start[code]), int(events.start[code] + self._known[code]))
        before = self.dataset.popularity[events.row[mine]]
        return (
            events.item[mine].tolist() + newer.item, events.label[mine].tolist() + newer.label,
            np.concatenate([before, popularity]),
        )  # fmt: skip

    def _item(self, name: str) -> int:
        code = self.items.get(name)
        if code is None:
            raise UserError(f"no {ITEM} '{name}' in the catalogue")
        return code

    def _popularity(self, code: int) -> tuple[int, int]:
        return (int(self._answers[code]), int(self._likes[code])) if code >= 0 else (0, 0)

    def _places(self, codes: Ints, new_items: Mapping[int, Described]) -> Places | None:
        """Where the texts of a request's items lie; those of new ones are read now. None without an encoder."""
        space, texts = self.dataset.space, self.dataset.texts
        if space is None or texts is None:
            return None
        places = space.with_unknown.take(codes)
        if new_items:
            found = space.new_places(texts.encoder.encode([item.text for item in new_items.values()]))
            mine = list(new_items)
            places.vectors[mine], places.near[mine], places.nearness[mine] = found.vectors, found.near, found.nearness
        return places

    def _features(
        self, user_id: str | None, user: int, asked: Sequence[int], items: Sequence[str | Described],
        profile: Described | None, history: Sequence[HistoryEntry], now: int | None, places: Places | None,
    ) -> tuple[Floats, Floats]:  # fmt: skip
        """Count features and text features of a request's samples; its items lie at `places`."""
        state, text, key = self.counts, self.text, user_id or _UNKNOWN
        moment = int(time.time()) if now is None else now
        if TIME not in self.dataset.log.columns:
            moment = 0
        user_values = {n: v[user] if user >= 0 else _given(profile, n, False) for n, v in self._user_values.items()}
        if user_id is None:  # somebody for this request only: what it tells of them is counted and forgotten
            user_values[USER] = (key,)
            state, text = state.with_visitor(), text and text.with_visitor()
            for answer in history:
                code, said = self._item(answer.item_id), self._values(answer)
                left = state.update(key, code, moment, said, self._keys(user_values, self._row(code)))
                if text is not None:
                    text.update(key, code, said[0], left)
        else:
            user_values[USER] = (user_id,)
        keys = []
        for code, item in zip(asked, items, strict=True):
            values = (
                self._row(code)
                if code >= 0
                else {n: _given(item, n, n in self._lists) for n in (ITEM, *self._item_values)}
            )
            keys.append(self._keys(user_values, values))
        counts = state.features(key, [code if code >= 0 else None for code in asked], moment, keys)
        if text is None or places is None:
            return counts, np.zeros((len(asked), 0), np.float32)
        return counts, text.features(key, np.maximum(np.array(asked, dtype=np.int64), -1), places)

    def _values(self, answer: Event | HistoryEntry) -> tuple[float, ...]:
        """What is counted of an answer."""
        scale = self.dataset.rating_scale
        return (answer.label,) if scale is None else (answer.label, scale(answer.rating, answer.label))

    def _row(self, code: int) -> dict[str, Key]:
        return {ITEM: (self._names[code],), **{name: values[code] for name, values in self._item_values.items()}}

    def _keys(self, user: Mapping[str, Key], item: Mapping[str, Key]) -> list[list[Key]]:
        """For each group the keys of a pair; a list column has several values."""
        found = []
        for group in self._groups:
            parts = [
                user[USER] if name == "user" else item[ITEM] if name == "item" else item.get(name) or user.get(name, ())
                for name in group
            ]
            found.append(list(product(*parts)))
        return found

    # Writing.

    def counts_once_more(self, user_id: str, item_id: str) -> bool:
        """Whether an answer of this user to this item would count."""
        return self.dataset.config.duplicates == "keep" or self._item(item_id) not in self._history(user_id)[0]

    def add(self, event: Event) -> None:
        """Take in one answer. Raises `UserError` for an unknown item; users may be new. Of several answers to an item
        the first counts, unless the training data keep them all."""
        if not self.counts_once_more(event.user_id, event.item_id):
            return
        code = self._item(event.item_id)
        user = self.users.get(event.user_id, -1)
        user_values = {n: v[user] if user >= 0 else (_UNKNOWN,) for n, v in self._user_values.items()}
        user_values[USER] = (event.user_id,)
        newer = self._newer[event.user_id]
        newer.item.append(code)
        newer.label.append(event.label)
        newer.popularity.append(self._popularity(code))
        moment = event.timestamp if TIME in self.dataset.log.columns else 0
        keys = self._keys(user_values, self._row(code))
        times = ((self.counts.user_time, event.user_id), (self.counts.item_time, code))
        before = [known.get(key, moment) for known, key in times]
        values = self._values(event)
        left = self.counts.update(event.user_id, code, moment, values, keys)
        if self.text is not None:
            self.text.update(event.user_id, code, values[0], left)
        for (known, key), earlier in zip(times, before, strict=True):
            if key in known:  # answers may come late, but a last answer is the last
                known[key] = max(known[key], earlier)
        if not self.counts.frozen:
            self._answers[code] += 1
            self._likes[code] += event.label


def _codes(ids: pl.Series) -> dict[str, int]:
    return {name: code for code, name in enumerate(ids.cast(pl.String).to_list())}


def _values(table: pl.DataFrame, name: str) -> list[Key]:
    """For every row the values of a column as keys: several for a list, one otherwise, empty where there is none."""
    if isinstance(table.schema[name], pl.List):
        return [tuple(dict.fromkeys(row or ())) for row in table[name].cast(pl.List(pl.String)).to_list()]
    return [(value,) for value in table[name].cast(pl.String).fill_null("").to_list()]


def _given(described: Any, name: str, several: bool) -> Key:
    """What a unknown's description says of a column; `several`: it is a list column."""
    value = described.fields.get(name) if isinstance(described, Described) else None
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(str(v) for v in value)) if several else (_UNKNOWN,)
    return (_UNKNOWN if value is None else str(value),)

"""What is known now: the prepared log and the records that came since, one at a time.

Count features and popularity are kept by `CountState`, which starts from the log's totals. A request gets its `Scope`
and `Samples` from here.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Literal

import numpy as np
import numpy.typing as npt

from corella.columns import ITEM, TIME, USER
from corella.data.dataset import Dataset
from corella.data.rows import log_arrays
from corella.data.samples import Events, Samples
from corella.data.scope import Described, Scope
from corella.errors import UserError
from corella.features.text.space import Places
from corella.features.text.state import text_state
from corella.serving.state.catalogue import UNKNOWN, Catalogue, Key, check_fields, described_value, table_values
from corella.serving.state.people import People
from corella.serving.state.reading import TextReader
from corella.serving.state.totals import count_state
from corella.serving.store.records import Person

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_LONGEST = 2000
"""Of a history: what is older than so many answers speaks by the counts alone."""

Repeats = Literal["last", "first"]


@dataclass(frozen=True)
class HistoryEntry:
    """An answer of somebody who is described in a request."""

    item_id: str
    label: int
    rating: float | None = None


class Live:
    """Users, items, histories and counts as of now. Not for several threads at once."""

    def __init__(self, dataset: Dataset, repeats: Repeats = "last") -> None:
        """`repeats`: which of several answers of a user to an item counts; all of them where the training data keep
        them all."""
        self.dataset = dataset = dataset.seen
        self.repeats = "all" if dataset.config.duplicates == "keep" else repeats
        self.users: dict[str, int] = {
            name: code for code, name in enumerate(dataset.users[USER].cast(dtype=str).to_list())
        }
        self.catalogue = Catalogue(dataset)
        self.reader = TextReader(dataset)
        self._groups = dataset.config.counts.groups
        columns = {name for group in self._groups for name in group if name in dataset.users.columns}
        self._user_values = {name: table_values(dataset.users, name) for name in columns}
        self.user_fields = {name: False for name in dataset.users.columns if name not in (USER, "text")}
        """Columns that a described user may tell; none of them is a list."""
        self.persons: dict[str, Person] = {}
        """What was put of users."""
        arrays = log_arrays(dataset.log, dataset.config)
        self.people = People(dataset, arrays, self.users)
        items = dataset.items.height
        self._answers = np.bincount(dataset.item, weights=arrays.shared, minlength=items)
        self._likes = np.bincount(dataset.item, weights=arrays.shared * dataset.label, minlength=items)
        item_values = {name: table_values(dataset.items, name) for name in dataset.items.columns if self._counts(name)}
        self.counts = count_state(dataset, arrays, self._groups, self._user_values, item_values)
        self.text = (
            None
            if dataset.space is None
            else text_state(dataset.space, dataset.config.counts, dataset.config.text, arrays, dict(self.users))
        )

    def _counts(self, name: str) -> bool:
        return any(name in group for group in self._groups)

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
            seen = [self.code(answer.item_id) for answer in history]
            labels = [answer.label for answer in history]
            popularity = np.array([self.popularity(i) for i in seen], dtype=np.int64).reshape(-1, 2)
        else:
            said = self.people.known(user_id, _LONGEST)
            seen, labels, popularity = said.item, said.label, said.shown
            profile = self.described(user_id)
        asked = [self._code(i, -1 - n) if isinstance(i, str) else -1 - n for n, i in enumerate(items)]
        numbers: dict[int, int] = {}
        for code in (*seen, *asked):
            numbers.setdefault(code, len(numbers))
        new_items = {numbers[-1 - n]: i for n, i in enumerate(items) if not isinstance(i, str)}
        given = dict(new_items)
        for code, number in numbers.items():
            described = None if code < 0 else self.catalogue.described(code)
            if described is not None:
                new_items[number] = described
        trained = self.catalogue.trained
        codes = np.array([code if 0 <= code < trained else -1 for code in numbers], dtype=np.int64)
        events = Events(
            np.array([0, len(seen)]), np.array([numbers[i] for i in seen], dtype=np.int64),
            np.array(labels, dtype=np.int64), np.arange(len(seen)),
        )  # fmt: skip
        known = -1 if user_id is None else self.users.get(user_id, -1)
        places = self._places(numbers, codes, given)
        vectors = None if places is None else places.vectors
        scope = Scope(known, codes, events, popularity, profile, new_items, vectors)
        mine = np.array([numbers[c] for c in asked], dtype=np.int64)
        features = self._features(user_id, asked, items, profile, history, now, places and places.take(mine))
        shown = np.array([self.popularity(code) for code in asked], dtype=np.int64).reshape(-1, 2)
        return scope, scope.samples(mine, features[0], shown, features[1])

    def answered(self, user_id: str) -> list[tuple[str, int]]:
        """The user's answers, oldest first: item id and label."""
        said = self.people.known(user_id)
        return [(self.catalogue.ids[i], label) for i, label in zip(said.item, said.label, strict=True)]

    def described(self, user_id: str) -> Described | None:
        """What was put of a user; None of one who is as the training data have them, or unknown."""
        person = self.persons.get(user_id)
        return None if person is None else Described(person.text, person.fields)

    def person(self, user_id: str) -> Person | None:
        """What is said of a user; None of somebody of whom nothing is."""
        code = self.users.get(user_id)
        if user_id in self.persons or code is None:
            return self.persons.get(user_id)
        row = self.dataset.users.row(code, named=True)
        fields = {name: str(row[name]) for name in self.user_fields if row[name] is not None}
        return Person(user_id, str(row["text"]), fields)

    def check_person(self, person: Person) -> None:
        """Raise `UserError` for fields that the training data do not have."""
        check_fields(person.fields, self.user_fields)

    def trained(self, user_id: str) -> bool:
        """Whether the training data have this user, also one who is erased here."""
        return bool((self.dataset.users[USER].cast(dtype=str) == user_id).any())

    @property
    def last_time(self) -> int:
        """When the log ended, in seconds since 1970; 0 where it has no times."""
        return int(self.dataset.log[TIME].max()) if TIME in self.dataset.log.columns else 0  # type: ignore[arg-type]

    def likes(self) -> Doubles:
        """How many users like each item, by its code."""
        found = np.zeros(len(self.catalogue))
        found[: len(self._likes)] = self._likes[: len(found)]
        return found

    def most_liked(self, count: int, without: set[str], allowed: npt.NDArray[np.bool_] | None = None) -> list[str]:
        """Ids of the items liked by most, none of `without`; `allowed`: by code, the only ones that may come."""
        return self.best(self.likes(), count, without, allowed)

    def best(
        self, scores: Doubles, count: int, without: set[str], allowed: npt.NDArray[np.bool_] | None = None
    ) -> list[str]:
        """Ids of the items with the highest scores; of equal ones the first."""
        inside = np.flatnonzero(self.catalogue.open if allowed is None else self.catalogue.open & allowed)
        first = min(count + len(without), len(inside))  # no need to sort a whole catalogue for each request
        if not first:
            return []
        some = inside[np.argpartition(-scores[inside], first - 1)[:first]]
        order = some[np.lexsort((some, -scores[some]))]
        found = (self.catalogue.ids[i] for i in order.tolist())
        return list(islice((name for name in found if name not in without), count))

    def _code(self, name: str, otherwise: int) -> int:
        code = self.catalogue.code(name)
        return otherwise if code is None else code

    def code(self, name: str) -> int:
        """The code of an item. Raises `UserError` where the catalogue does not have it."""
        code = self.catalogue.code(name)
        if code is None:
            raise UserError(f"no {ITEM} '{name}' in the catalogue")
        return code

    def popularity(self, code: int) -> tuple[int, int]:
        """How many answered an item, and how many liked it."""
        return (int(self._answers[code]), int(self._likes[code])) if 0 <= code < len(self._answers) else (0, 0)

    def _places(self, numbers: Mapping[int, int], codes: Ints, given: Mapping[int, Described]) -> Places | None:
        """Where the texts of a request's items lie; `given`: the ones that it describes. None without an encoder."""
        space = self.dataset.space
        if space is None:
            return None
        places = space.with_unknown.take(codes)
        read = dict(zip(given, self.reader.read([item.text for item in given.values()]), strict=True))
        read |= {number: self.catalogue.read[code] for code, number in numbers.items() if code in self.catalogue.read}
        for number, text in read.items():
            one = text.place
            places.vectors[number], places.near[number], places.nearness[number] = one.vectors, one.near, one.nearness
        return places

    def _features(
        self, user_id: str | None, asked: Sequence[int], items: Sequence[str | Described],
        profile: Described | None, history: Sequence[HistoryEntry], now: int | None, places: Places | None,
    ) -> tuple[Floats, Floats]:  # fmt: skip
        """Count features and text features of a request's samples; its items lie at `places`."""
        state, text, key = self.counts, self.text, user_id or UNKNOWN
        moment = self.moment(int(time.time()) if now is None else now)
        who = self.user_keys(key, profile)
        if user_id is None:  # somebody for this request only: what it tells of them is counted and forgotten
            state, text = state.with_visitor(), text and text.with_visitor()
            for answer in history:
                code, said = self.code(answer.item_id), self.values(answer.label, answer.rating)
                counted = state.update(key, code, moment, said, self.keys(who, self.catalogue.keys(code)))
                if text is not None:
                    text.update(key, code, said[0], counted.residual)
        keys = []
        for code, item in zip(asked, items, strict=True):
            described = item if isinstance(item, Described) else None
            keys.append(self.keys(who, self.catalogue.keys(code) if code >= 0 else self.catalogue.keys_of(described)))
        counts = state.features(key, [code if code >= 0 else None for code in asked], moment, keys)
        if text is None or places is None:
            return counts, np.zeros((len(asked), 0), np.float32)
        return counts, text.features(key, np.maximum(np.array(asked, dtype=np.int64), -1), places)

    def values(self, label: int, rating: float | None) -> tuple[float, ...]:
        """What is counted of an answer."""
        scale = self.dataset.rating_scale
        return (label,) if scale is None else (label, scale(rating, label))

    def moment(self, time: int) -> int:
        """A time as counts read it: 0 where the training data have none."""
        return time if TIME in self.dataset.log.columns else 0

    def user_keys(self, user_id: str, profile: Described | None) -> dict[str, Key]:
        """For every column that is counted, the user's value; and the id."""
        code = self.users.get(user_id, -1)
        told = {
            name: rows[code] if code >= 0 and profile is None else described_value(profile, name, False)
            for name, rows in self._user_values.items()
        }
        return {**told, USER: (user_id,)}

    def heard(self, code: int, label: int, share: float) -> None:
        """An item was answered, `share` times for others; below 0: an answer was taken back."""
        if code >= len(self._answers):
            more = np.zeros(2 * (code + 1) - len(self._answers))
            self._answers, self._likes = (np.concatenate([a, more]) for a in (self._answers, self._likes))
        self._answers[code] += share
        self._likes[code] += share * label

    def keys(self, user: Mapping[str, Key], item: Mapping[str, Key]) -> list[list[Key]]:
        """For each group the keys of a pair; a list column has several values."""
        found = []
        for group in self._groups:
            parts = [
                user[USER] if name == "user" else item[ITEM] if name == "item" else item.get(name) or user.get(name, ())
                for name in group
            ]
            found.append(list(product(*parts)))
        return found

"""The text features of a moment: what the log said, and interactions since, one at a time. A property test holds them
equal to those of `batch.py`."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig
from corella.config.text import TextConfig
from corella.features.grids import VECTOR, on_grid
from corella.features.log import Log
from corella.features.recent import Recent
from corella.features.text.batch import BLOCK, Said, seen_residuals
from corella.features.text.everybody import Everybody
from corella.features.text.kernels import COMPONENTS, circle_kernels, cosines, other_kernels, own_kernels
from corella.features.text.space import Places, TextSpace

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_PROFILES = 10_000
_ALL = 2**40
Said1 = tuple[int, float, float]
"""An item, the label, its residual."""


@dataclass(frozen=True, eq=False)
class TextState:
    """Users are told by their ids, items by their codes in the catalogue."""

    space: TextSpace
    last: int
    """How many of a user's last interactions speak."""
    smoothing: float
    clicks: bool
    """Whether every interaction is a click, of which no average is taken."""
    frozen: bool
    """When true, interactions still count for the user but for nothing else."""
    count: Doubles
    """By item: interactions that all may count; so `likes` and `circle`, see `Everybody`."""
    likes: Doubles
    circle: Doubles
    item: Ints
    """Of the log, user by user; so `label` and `residual`."""
    label: Doubles
    residual: Doubles
    users: Mapping[str, int]
    start: Ints
    """[users + 1]: where each user's part of the log begins."""
    vectors: Floats
    """By item: where its text lies. These arrays have room for items that come, see `with_room`."""
    newer: Recent = field(default_factory=lambda: Recent(3, _ALL))
    """What came since the log, by user: items, labels, residuals."""
    whole: dict[str, list[Said1]] = field(default_factory=dict)
    """In place of log and `newer`: all that a user said of whom something was taken out."""
    profiles: OrderedDict[str, Doubles] = field(default_factory=OrderedDict)
    """Of users who said something lately, what `_profile` is of all that they said."""

    def with_visitor(self) -> "TextState":
        """The same state with room for one more user, who leaves no trace in it."""
        return replace(self, newer=Recent(3, _ALL), whole={}, profiles=OrderedDict(), frozen=True)

    def with_room(self, items: int) -> "TextState":
        """The same state with room for so many items, and for as many again where it has to grow."""
        if items <= len(self.count):
            return self
        arrays = (getattr(self, name) for name in ("count", "likes", "circle", "vectors"))
        count, likes, circle, vectors = (
            np.concatenate([a, np.zeros((2 * items - len(a), *a.shape[1:]), a.dtype)]) for a in arrays
        )
        return replace(self, count=count, likes=likes, circle=circle, vectors=vectors)

    def _said(self, user: str) -> tuple[Ints, Doubles, Doubles]:
        """All that a user said, the oldest first: items, labels, residuals."""
        newer, code = self.newer.last(user), self.users.get(user)
        if user in self.whole:
            newer, code = np.array(self.whole[user]).reshape(-1, 3), None
        older = slice(0, 0) if code is None else slice(int(self.start[code]), int(self.start[code + 1]))
        items, labels, left = newer.T
        return (
            np.concatenate([self.item[older], items]).astype(np.int64),
            np.concatenate([self.label[older], labels]),
            np.concatenate([self.residual[older], left]),
        )

    def _profile(self, items: Ints, residual: Doubles) -> Doubles:
        return np.asarray(on_grid(residual[:, None] * self.vectors[items].astype(np.float64), VECTOR).sum(axis=0))

    def _one(self, item: int, residual: float) -> Doubles:
        return on_grid(residual * self.vectors[item].astype(np.float64), VECTOR)

    def _last_ones(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The last ones, zeros before them where they are fewer."""
        found: npt.NDArray[Any] = np.r_[np.zeros(self.last, values.dtype), values][-self.last :]
        return found

    def features(self, user: str, items: Ints, places: Places) -> Floats:
        """Features of samples of one user and items, which lie at `places`; -1 is an item that the catalogue does not
        have. float32 [items, len(text_names)]; changes nothing."""
        n, vectors = len(items), self.vectors
        everything = self._said(user)
        said, label, residual = (self._last_ones(values) for values in everything)
        present = np.arange(self.last) >= self.last - len(everything[0])
        average = np.full(n, 0.0 if self.clicks else (self.likes.sum() + 1.0) / (self.count.sum() + 2.0))
        own = own_kernels(
            cosines(places.vectors, vectors[said][None]), np.tile(label, (n, 1)), np.tile(residual, (n, 1)),
            np.tile(present, (n, 1)), average,
        )  # fmt: skip
        near, known = places.nearness.astype(np.float64), (items >= 0).astype(np.float64)
        number = self.count[places.near]
        others = other_kernels(near, number, self.likes[places.near], average, self.smoothing)
        profile = np.tile(self._profile(everything[0], everything[2]), (n, 1))
        circles = circle_kernels(
            profile, self.circle[items] * known[:, None], self.count[items] * known, self.circle[places.near],
            number, near, self.smoothing,
        )  # fmt: skip
        return np.concatenate([own, others, circles, places.vectors[:, :COMPONENTS]], axis=1).astype(np.float32)

    def update(self, user: str, item: int, label: float, residual: float, share: float = 1.0) -> None:
        """Count one interaction; `residual`: what is left of it, as `CountState.update` returns; `share`: how much it
        counts for others."""
        if share and not self.frozen:
            profile = self.profiles.pop(user, None)
            if profile is None:
                said, _, left = self._said(user)
                profile = self._profile(said, left)
            self._count(item, label, residual, profile, share)
            self.profiles[user] = profile + self._one(item, residual)
            if len(self.profiles) > _PROFILES:
                self.profiles.popitem(last=False)
        elif user in self.profiles:
            self.profiles[user] = self.profiles[user] + self._one(item, residual)
        if user in self.whole:
            self.whole[user].append((item, label, residual))
        else:
            self.newer.add(user, (item, label, residual))

    def remove(self, user: str, place: int, share: float = 1.0) -> None:
        """Take out the user's interaction at a place, of all that are known, the oldest first; `share`: with which it
        was counted."""
        if user not in self.whole:
            self.whole[user] = list(zip(*(column.tolist() for column in self._said(user)), strict=True))
            self.newer.pop(user)
        self.profiles.pop(user, None)
        item, label, residual = self.whole[user].pop(place)
        if share:
            before = self.whole[user][:place]
            said, left = (np.array([row[n] for row in before]) for n in (0, 2))
            self._count(item, label, residual, self._profile(said.astype(np.int64), left), -share)

    def _count(self, item: int, label: float, residual: float, profile: Doubles, share: float) -> None:
        self.circle[item] += on_grid(share * residual * profile, VECTOR)
        self.count[item] += share
        self.likes[item] += share * label


def text_state(
    space: TextSpace, counts: CountsConfig, text: TextConfig, log: Log, users: Mapping[str, int]
) -> TextState:
    """The state at the end of a log; `users`: the codes of those that it holds."""
    left, told = seen_residuals(log, counts)
    said = Said(log, text.history)
    everybody = Everybody(int(log.user.max(initial=-1)) + 1, space.with_unknown.vectors, told is not left)
    everybody.follow(log, left, told)
    for start in range(0, len(log.user), BLOCK):
        everybody.read(start, min(start + BLOCK, len(log.user)))
    heard = everybody.items.sums[:-1]
    rows = said.rows[:-1]
    return TextState(
        space, text.history, counts.smoothing, counts.clicks, bool((log.shared == 0).any()),
        heard[:, 0].copy(), heard[:, 1].copy(), heard[:, 2:].copy(),
        log.item[rows], log.values[rows, 0], left[rows], users,
        np.searchsorted(log.user[rows], np.arange(len(users) + 1)), space.places.vectors.copy(),
    )  # fmt: skip

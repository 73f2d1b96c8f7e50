"""The text features of a moment: what the log said, and interactions since, one at a time. A property test holds them
equal to those of `batch.py`."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.config import CountsConfig
from corella.config.text import TextConfig
from corella.features.counts import Log, residual
from corella.features.text.batch import Said, Seen
from corella.features.text.kernels import COMPONENTS, circle_kernels, cosines, other_kernels, own_kernels
from corella.features.text.space import Places, TextSpace

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
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
    """By item: interactions that all may count; so `likes` and `circle`, see `Seen`."""
    likes: Doubles
    circle: Doubles
    item: Ints
    """Of the log, user by user; so `label` and `residual`."""
    label: Doubles
    residual: Doubles
    users: Mapping[str, int]
    start: Ints
    """[users + 1]: where each user's part of the log begins."""
    newer: dict[str, list[Said1]] = field(default_factory=lambda: defaultdict(list))
    """What came since."""

    def with_visitor(self) -> "TextState":
        """The same state with room for one more user, who leaves no trace in it."""
        return replace(self, newer=defaultdict(list), frozen=True)

    def _said(self, user: str) -> tuple[Ints, Doubles, Doubles]:
        """All that a user said, the oldest first: items, labels, residuals."""
        newer, code = self.newer.get(user, []), self.users.get(user)
        older = slice(0, 0) if code is None else slice(int(self.start[code]), int(self.start[code + 1]))
        items, labels, left = (np.array(column) for column in zip(*newer, strict=True)) if newer else ([], [], [])
        return (
            np.concatenate([self.item[older], items]).astype(np.int64),
            np.concatenate([self.label[older], labels]),
            np.concatenate([self.residual[older], left]),
        )

    def _profile(self, items: Ints, residual: Doubles) -> Doubles:
        return np.asarray(residual @ self.space.places.vectors[items].astype(np.float64))

    def _last_ones(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The last ones, zeros before them where they are fewer."""
        found: npt.NDArray[Any] = np.r_[np.zeros(self.last, values.dtype), values][-self.last :]
        return found

    def features(self, user: str, items: Ints, places: Places) -> Floats:
        """Features of samples of one user and items, which lie at `places`; -1 is an item that the catalogue does not
        have. float32 [items, len(text_names)]; changes nothing."""
        n, vectors = len(items), self.space.places.vectors
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

    def update(self, user: str, item: int, label: float, residual: float) -> None:
        """Count one interaction; `residual`: what is left of it, as `CountState.update` returns."""
        if not self.frozen:
            said, _, left = self._said(user)
            self.circle[item] += residual * self._profile(said, left)
            self.count[item] += 1
            self.likes[item] += label
        self.newer[user].append((item, label, residual))


def text_state(
    space: TextSpace, counts: CountsConfig, text: TextConfig, log: Log, users: Mapping[str, int]
) -> TextState:
    """The state at the end of a log; `users`: the codes of those that it holds."""
    left, told = (residual(log, known, counts) for known in (log.known, log.shared))
    said, items = Said(log, text.history), len(space.places.vectors)
    seen = Seen(log, left, told, said, space.with_unknown.vectors)
    end, begin = seen.before(np.arange(items), np.full(items, len(log.user)))
    rows = said.rows[:-1]
    return TextState(
        space, text.history, counts.smoothing, counts.clicks, bool((log.shared == 0).any()),
        (end - begin).astype(np.float64), seen.likes[end] - seen.likes[begin], seen.circle[end] - seen.circle[begin],
        log.item[rows], log.values[rows, 0], left[rows], users,
        np.searchsorted(log.user[rows], np.arange(len(users) + 1)),
    )  # fmt: skip

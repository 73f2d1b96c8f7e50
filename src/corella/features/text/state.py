"""The text features of a moment: what the log said, and interactions since, one at a time. A property test holds them
equal to those of `batch.py`."""

import copy
from collections import defaultdict
from collections.abc import Mapping
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


class TextState:
    """Users are told by their ids, items by their codes in the catalogue."""

    def __init__(
        self, space: TextSpace, counts: CountsConfig, text: TextConfig, log: Log, users: Mapping[str, int]
    ) -> None:
        """From a log on; `users`: the codes of those that it holds."""
        self.space, self._last, self._smoothing = space, text.history, counts.smoothing
        self._clicks = counts.clicks
        self.frozen = bool((log.shared == 0).any())
        """When true, interactions still count for the user but for nothing else."""
        left, told = (residual(log, known, counts) for known in (log.known, log.shared))
        said, items = Said(log, text.history), len(space.places.vectors)
        seen = Seen(log, left, told, said, space.with_unknown.vectors)
        end, begin = seen.before(np.arange(items), np.full(items, len(log.user)))
        self._count = (end - begin).astype(np.float64)
        self._likes, self._circle = seen.likes[end] - seen.likes[begin], seen.circle[end] - seen.circle[begin]
        rows = said.rows[:-1]
        self._item, self._label, self._residual = log.item[rows], log.values[rows, 0], left[rows]
        self._users = users
        self._start = np.searchsorted(log.user[rows], np.arange(len(users) + 1))
        self._newer: dict[str, list[Said1]] = defaultdict(list)

    def with_visitor(self) -> "TextState":
        """The same state with room for one more user, who leaves no trace in it."""
        other = copy.copy(self)
        other._newer, other.frozen = defaultdict(list), True
        return other

    def _said(self, user: str) -> tuple[Ints, Doubles, Doubles]:
        """All that a user said, the oldest first: items, labels, residuals."""
        newer, code = self._newer.get(user, []), self._users.get(user)
        older = slice(0, 0) if code is None else slice(int(self._start[code]), int(self._start[code + 1]))
        items, labels, left = (np.array(column) for column in zip(*newer, strict=True)) if newer else ([], [], [])
        return (
            np.concatenate([self._item[older], items]).astype(np.int64),
            np.concatenate([self._label[older], labels]),
            np.concatenate([self._residual[older], left]),
        )

    def _profile(self, items: Ints, residual: Doubles) -> Doubles:
        return np.asarray(residual @ self.space.places.vectors[items].astype(np.float64))

    def _last_ones(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The last ones, zeros before them where they are fewer."""
        found: npt.NDArray[Any] = np.r_[np.zeros(self._last, values.dtype), values][-self._last :]
        return found

    def features(self, user: str, items: Ints, places: Places) -> Floats:
        """Features of samples of one user and items, which lie at `places`; -1 is an item that the catalogue does not
        have. float32 [items, len(text_names)]; changes nothing."""
        n, vectors = len(items), self.space.places.vectors
        everything = self._said(user)
        said, label, residual = (self._last_ones(values) for values in everything)
        present = np.arange(self._last) >= self._last - len(everything[0])
        average = np.full(n, 0.0 if self._clicks else (self._likes.sum() + 1.0) / (self._count.sum() + 2.0))
        own = own_kernels(
            cosines(places.vectors, vectors[said][None]), np.tile(label, (n, 1)), np.tile(residual, (n, 1)),
            np.tile(present, (n, 1)), average,
        )  # fmt: skip
        near, known = places.nearness.astype(np.float64), (items >= 0).astype(np.float64)
        number = self._count[places.near]
        others = other_kernels(near, number, self._likes[places.near], average, self._smoothing)
        profile = np.tile(self._profile(everything[0], everything[2]), (n, 1))
        circles = circle_kernels(
            profile, self._circle[items] * known[:, None], self._count[items] * known, self._circle[places.near],
            number, near, self._smoothing,
        )  # fmt: skip
        return np.concatenate([own, others, circles, places.vectors[:, :COMPONENTS]], axis=1).astype(np.float32)

    def update(self, user: str, item: int, label: float, residual: float) -> None:
        """Count one interaction; `residual`: what is left of it, as `CountState.update` returns."""
        if not self.frozen:
            said, _, left = self._said(user)
            self._circle[item] += residual * self._profile(said, left)
            self._count[item] += 1
            self._likes[item] += label
        self._newer[user].append((item, label, residual))

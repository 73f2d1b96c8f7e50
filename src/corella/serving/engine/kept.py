"""The prefixes that a language model's process probably keeps."""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Kept:
    """By user, the one read longest ago first; as many as the process says that it keeps."""

    def __init__(self) -> None:
        self._prefixes: OrderedDict[str, Ints] = OrderedDict()
        self.most = 0
        """What the process said."""

    def unread(self, user: str, prefix: Ints) -> int:
        """How many tokens of a user's prefix are not kept.

        >>> kept = Kept()
        >>> kept.most = 1
        >>> kept.add("u", np.array([1, 2]))
        >>> kept.unread("u", np.array([1, 2, 3])), kept.unread("u", np.array([1, 3])), kept.unread("v", np.array([1]))
        (1, 2, 1)
        """
        kept = self._prefixes.get(user)
        if kept is None or len(kept) > len(prefix) or not np.array_equal(kept, prefix[: len(kept)]):
            return len(prefix)
        return len(prefix) - len(kept)

    def add(self, user: str, prefix: Ints) -> None:
        """A user's prefix was read."""
        self._prefixes[user] = prefix
        self._prefixes.move_to_end(user)
        while len(self._prefixes) > self.most:
            self._prefixes.popitem(last=False)

    def drop(self, user: str) -> None:
        """Nothing is kept of a user."""
        self._prefixes.pop(user, None)

    def clear(self) -> None:
        """Nothing is kept."""
        self._prefixes.clear()

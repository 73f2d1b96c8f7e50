"""A history read before anybody asks about it."""

import time

import numpy as np
import numpy.typing as npt

from corella.llm.prefix import SharedPrompt
from corella.serving.engine.asking import Engine

Ints = npt.NDArray[np.int64]

_SLICE, _SECONDS = 128, 10.0


async def read_in_slices(engine: Engine, user: str, prefix: Ints) -> None:
    """Read what is not kept of a user's prefix, in slices, between which requests get their turn."""
    none = np.zeros(0, dtype=np.int64)
    known = len(prefix) - engine.unread(user, prefix)
    for end in [*range(known + _SLICE, len(prefix), _SLICE), len(prefix)]:
        (answer,) = await engine.ask(user, [SharedPrompt(prefix[:end], [], none)], time.monotonic() + _SECONDS)
        if answer.logits is None:
            return

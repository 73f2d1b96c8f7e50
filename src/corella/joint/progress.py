"""Where the training of stages 2 and 3 stands, and what it did."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass
class JointProgress:
    """Where the training stands, for progress bars and logs."""

    step: int
    steps: int
    stage: int
    targets: int
    tokens: int
    losses: dict[str, float]


@dataclass
class JointResult:
    """What the training did."""

    targets: int = 0
    tokens: int = 0
    seconds: float = 0.0
    first_logits: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """For each training sample the language model's logit when it read it as a target for the first time, before
    it learned from it; nan where it was never read. An honest out-of-sample logit that costs nothing."""
    first_step: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """The step at which that was, -1 where never."""

"""What the system says of samples, and what its training did and cost."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from corella.calibration import probability


@dataclass
class Predictions:
    """What the system says of n samples."""

    logit: npt.NDArray[np.float64]
    """Final calibrated logits."""
    crm: npt.NDArray[np.float64]
    """Calibrated CRM logits."""
    llm: npt.NDArray[np.float64]
    """Calibrated logits of the language model, nan where it was not asked."""
    priority: npt.NDArray[np.float64]
    routed: npt.NDArray[np.bool_]

    @property
    def probability(self) -> npt.NDArray[np.float64]:
        """Final probabilities."""
        return probability(self.logit)


@dataclass
class Facts:
    """What training did and cost; kept with the model."""

    crm_valid_auc: dict[str, float] = field(default_factory=dict)
    crm_rows_per_second: float = 0.0
    llm_targets: int = 0
    llm_tokens: int = 0
    llm_seconds: float = 0.0
    milliseconds_per_sample: float = 0.0
    """What the language model takes for a sample on its own, measured on validation rows."""
    samples_per_request: float = 1.0
    seconds: dict[str, float] = field(default_factory=dict)

    def restore(self, kept: Mapping[str, object]) -> None:
        """Take the values that a checkpoint holds; of mappings, what is not there already."""
        for name, value in kept.items():
            setattr(self, name, {**value, **getattr(self, name)} if isinstance(value, dict) else value)


class Timer:
    """Adds the seconds of a `with` block to a mapping."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._seconds[self._name] = self._seconds.get(self._name, 0.0) + time.perf_counter() - self._began

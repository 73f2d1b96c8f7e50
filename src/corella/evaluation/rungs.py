"""What text is worth, at which price: three rungs, each measured against the one that it stands on.

Rung 0 knows ids, histories and counts. Rung 1 also knows what a text encoder read, once an item. Rung 2 asks a language
model per request, about the samples that the router picks within its budget; it stands on the rung below it that is
served. Everything here is a pure function of logits and costs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from corella.intervals import LEAST_CLUSTERS, Difference, auc_interval, paired_bootstrap
from corella.ranking.decision import RungChoice

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

FEW = 5
"""With fewer earlier interactions it is a cold-start item, or user."""
LEAST_OF_A_CLASS = 10
"""With fewer rows of one class an AUC says nothing."""
ALL, COLD_ITEMS, COLD_USERS, WARM = "all", "cold-start items", "cold-start users", "warm"


@dataclass(frozen=True)
class Rows:
    """What is known of n samples without any model."""

    label: Ints
    user: Ints
    """[n]: samples of one user are resampled together."""
    seen: Ints
    """[n]: interactions that the item had before."""
    length: Ints
    """[n]: interactions that the user had before."""

    def groups(self) -> dict[str, npt.NDArray[np.bool_]]:
        """All samples; those with cold-start items; those of cold-start users; the rest."""
        item, user = self.seen < FEW, self.length < FEW
        return {ALL: np.ones(len(self.label), bool), COLD_ITEMS: item, COLD_USERS: user, WARM: ~item & ~user}


@dataclass(frozen=True)
class Measured:
    """A rung on a group of samples. None: the group is too small, or has too few of one class, to tell."""

    samples: int
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    gain: Difference | None
    """AUC less that of the rung below; None for rung 0 as well."""


@dataclass(frozen=True)
class Price:
    """What a rung costs on top of the one below."""

    milliseconds: float
    """A sample, on average, while serving."""
    memory: int
    """Bytes while serving: of the items' vectors, or of the language model's weights; 0 for rung 0."""
    training_seconds: float
    share: float | None = None
    """Of samples that the language model is asked about; None where it is not."""
    milliseconds_asked: float | None = None
    """A sample that the language model is asked about."""


@dataclass(frozen=True)
class Rung:
    """One rung: how good, and at which price."""

    rung: int
    below: int | None
    """The rung that it stands on; None for rung 0."""
    groups: dict[str, Measured]
    """See `Rows.groups`."""
    price: Price


@dataclass(frozen=True)
class Prices:
    """The rungs that there are, in order, and which of them is served."""

    part: str
    """The rows that they were measured on: `validation` or `test`."""
    rungs: tuple[Rung, ...]
    served: int
    setting: RungChoice
    """`routing.rung`; `auto`: validation rows decided."""

    def rung(self, number: int) -> Rung | None:
        """The rung of this number, if it is there."""
        return next((rung for rung in self.rungs if rung.rung == number), None)


def measure(rows: Rows, logits: Floats, below: Floats | None, resamples: int, seed: int) -> dict[str, Measured]:
    """A rung's AUC in each group, and its gain over the rung below, users resampled.

    `logits`, `below`: of this rung and of the one below on the same rows, [n]; None for the lowest.
    """
    return {
        name: _measure(rows, np.flatnonzero(inside), logits, below, resamples, seed)
        for name, inside in rows.groups().items()
    }


def _measure(rows: Rows, index: Ints, logits: Floats, below: Floats | None, resamples: int, seed: int) -> Measured:
    label, user, z = rows.label[index], rows.user[index], logits[index]
    if min(np.sum(label == 1), np.sum(label == 0)) < LEAST_OF_A_CLASS:
        return Measured(len(index), None, None, None, None)
    gain = None
    if below is not None and len(np.unique(user)) >= LEAST_CLUSTERS:
        gain = paired_bootstrap(label, below[index], z, resamples, seed, user)
    return Measured(len(index), float(roc_auc_score(label, z)), *auc_interval(label, z), gain)

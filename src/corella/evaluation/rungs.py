"""What text is worth, at which price: three rungs, each measured against the one that it stands on.

Rung 0 knows ids, histories and counts. Rung 1 also knows what a text encoder read, once an item. Rung 2 asks a language
model per request, about the samples that the router picks within its budget; it stands on the rung below it that is
served. Everything here is a pure function of logits and costs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from corella.intervals import LEAST_CLUSTERS, Difference, auc_interval, paired_bootstrap
from corella.ranking.decision import RungChoice
from corella.report.numbers import duration, percent, signed

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

FEW = 5
"""With fewer earlier interactions it is a cold-start item, or user."""
LEAST_OF_A_CLASS = 10
"""With fewer rows of one class an AUC says nothing."""
ALL, COLD_ITEMS, COLD_USERS, WARM = "all", "cold-start items", "cold-start users", "warm"
SERVED = ("no language model", "text once an item", "a language model asked per request")
"""What each rung is, in words."""


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

    def to_json(self) -> dict[str, Any]:
        """As data that JSON can hold."""
        return {**asdict(self), "rungs": [asdict(rung) for rung in self.rungs]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Prices":
        """The rungs that `to_json` described."""
        rungs = tuple(
            Rung(r["rung"], r["below"], {n: _measured(m) for n, m in r["groups"].items()}, Price(**r["price"]))
            for r in data["rungs"]
        )
        return cls(data["part"], rungs, data["served"], data["setting"])


def _measured(data: Mapping[str, Any]) -> Measured:
    gain = data["gain"]
    return Measured(**{**data, "gain": Difference(**gain) if gain else None})


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


def recommendation(prices: Prices) -> str:
    """What text is worth at which price, and what is served: the sentences that a training ends with and a report
    begins with."""
    return f"{worths(prices)} {served(prices)}"


def worths(prices: Prices) -> str:
    """The first of them."""
    text, asking = prices.rung(1), prices.rung(2)
    said = [
        _text(text) if text else "no text encoder has read the items",
        _asking(asking) if asking else "with a budget of 0 no language model is asked per request",
    ]
    return f"On your data ({prices.part} rows), {'; '.join(said)}."


def served(prices: Prices) -> str:
    """The second."""
    what, asking = SERVED[prices.served], prices.rung(2)
    if prices.served == 2 and asking is not None:
        what += ", on top of text once an item" if asking.below == 1 else ", without text once an item"
    auto = "the cheapest that is not significantly worse on validation rows"
    return f"Served: {what} ({auto if prices.setting == 'auto' else f'as routing.rung={prices.setting} wants'})."


def override(prices: Prices, share: float) -> str:
    """How to have it otherwise. `share`: what the budget would buy; where it
    is 0, a share to try is named."""
    if prices.served == 2:
        asking = prices.rung(2)
        below = asking.below if asking else 0
        return (
            "To ask no language model: `corella score --share 0`, `corella serve --set share=0`, "
            f"or train with routing.rung={below}."
        )
    share = share or 0.2
    return (
        f"To ask a language model all the same: `corella score --share {share:.3g}`, "
        f"`corella serve --set share={share:.3g}`, or train with routing.rung=2."
    )


def _text(rung: Rung) -> str:
    gain, what = rung.groups[ALL].gain, "text read once an item"
    if gain is None:
        return f"there are too few users or samples to tell what {what} is worth"
    cold = rung.groups[COLD_ITEMS].gain
    aside = f" ({signed(cold.mean)}{_unsure(cold)} on items with under {FEW} interactions)" if cold else ""
    return f"{what} is worth {worth(gain)}{aside} for {duration(rung.price.milliseconds)} more a sample"


def _asking(rung: Rung) -> str:
    gain, share = rung.groups[ALL].gain, rung.price.share or 0.0
    what = f"asking a language model per request, about {percent(share)} of the samples,"
    if gain is None:
        return f"there are too few users or samples to tell what {what} would add"
    return f"{what} adds {worth(gain)} for {duration(rung.price.milliseconds_asked or 0.0)} each time"


def worth(gain: Difference) -> str:
    """A gain with its interval, and whether it can be told from zero.

    >>> worth(Difference(0.011, 0.007, 0.016, 0.01)), worth(Difference(0.0005, -0.001, 0.002, 0.6))
    ('+.0110 AUC [+.0070, +.0160]', '+.0005 AUC [−.0010, +.0020] (n.s.)')
    """
    return f"{signed(gain.mean)} AUC [{signed(gain.low)}, {signed(gain.high)}]{' (n.s.)' if _unsure(gain) else ''}"


def _unsure(gain: Difference) -> str:
    """Not significant: the interval holds 0."""
    return "" if gain.low > 0 or gain.high < 0 else ", n.s.,"

"""Which rung is served: the cheapest that is not significantly worse than a dearer one, decided on validation rows.

Rung 0 asks no language model; rung 1 reads texts once an item; rung 2 asks a language model per request, on top of one
of the others.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from corella.data.samples import Samples
from corella.intervals import Difference, paired_bootstrap
from corella.routing.router import Router

Floats = npt.NDArray[np.float32]
RungChoice = Literal["auto", 0, 1, 2]

_RESAMPLES = 400


@dataclass(frozen=True)
class Decision:
    """What is served, and the gains in validation AUC that it rests on."""

    rung: int
    setting: RungChoice
    """`routing.rung`; where it is not `auto`, the gains decided nothing."""
    text: Difference | None
    """Rung 1 over rung 0; None without a text encoder."""
    asking: Difference | None
    """The router at its budget over the rung that it stands on; None where the budget buys nothing."""

    @property
    def base(self) -> int:
        """The rung, 0 or 1, that scores, and on which a language model is asked."""
        return standing(self.setting, self.text)


def decide(setting: RungChoice, text: Difference | None, asking: Difference | None) -> int:
    """The rung to serve: up only where the dearer one's interval lies above 0, unless the setting names one.

    >>> gain, nothing = Difference(0.01, 0.004, 0.016, 0.01), Difference(0.0005, -0.001, 0.002, 0.6)
    >>> decide("auto", gain, nothing), decide("auto", None, gain), decide("auto", nothing, None), decide(2, gain, None)
    (1, 2, 0, 2)
    """
    if setting != "auto":
        return setting
    if _gains(asking):
        return 2
    return int(_gains(text))


def standing(setting: RungChoice, text: Difference | None) -> int:
    """The rung below the language model, 0 or 1, on which it is trained and asked."""
    return decide("auto" if setting == 2 else setting, text, None)


def _gains(difference: Difference | None) -> bool:
    return difference is not None and difference.low > 0


def asked(router: Router, z_crm: Floats, z_llm: Floats, valid: Samples, share: float) -> npt.NDArray[np.float64]:
    """Final logits of the validation rows that the router was fitted on, float64 [n], where it may ask about a share of
    them. `z_crm`, `z_llm`: raw logits, float32 [n]. Each row's priority comes from a model that did not see its user;
    threshold, calibration, blend and the conventional models have seen the row: a guide, not a test."""
    priority = router.validation_priority
    if router.config.budget_unit == "requests":
        priority = priority[np.unique(valid.user, return_inverse=True)[1]]
    routed = priority >= router.threshold(share)
    final = router.crm(z_crm)
    final[routed] = router.combine(final[routed], router.llm(z_llm[routed]))
    return final


def asking_gain(router: Router, z_crm: Floats, z_llm: Floats, valid: Samples, share: float, seed: int) -> Difference:
    """AUC of `asked` less that of the conventional models alone, users resampled."""
    final = asked(router, z_crm, z_llm, valid, share)
    return paired_bootstrap(valid.label, router.crm(z_crm), final, _RESAMPLES, seed, valid.user)

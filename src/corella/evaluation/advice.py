"""Before anything is spent: what validation rows say of the budget."""

import numpy as np

from corella.collaboration.system import CoReLLa
from corella.evaluation.intervals import Difference, paired_bootstrap
from corella.evaluation.markup import signed

_RESAMPLES = 500


def validation_gain(model: CoReLLa, share: float) -> Difference:
    """AUC of the final predictions less that of the CRM on the validation rows that the router was fitted on, users
    resampled. Each row's priority comes from a model that did not see its user; threshold, calibration, blend and the
    conventional half have seen the row, so this is a guide, not a test."""
    valid = model.dataset.samples(model.valid_rows)
    crm = model.router.crm(model.conventional(valid)[0])
    priority = model.router.validation_priority
    if model.config.routing.budget_unit == "requests":
        priority = priority[np.unique(valid.user, return_inverse=True)[1]]
    routed = priority >= model.router.threshold(share)
    final = model.combine(crm, np.where(routed, model.valid_llm, np.float32("nan")), priority, routed)
    return paired_bootstrap(valid.label, crm, final.logit, _RESAMPLES, model.config.seed, valid.user)


def advice(gain: Difference, share: float) -> str:
    """One sentence for whoever has to pay.

    >>> advice(Difference(0.0103, 0.0056, 0.0153, 0.01), 0.2)
    '20 % routed changes the AUC on validation rows by +.0103 [+.0056, +.0153].'
    """
    said = f"{100 * share:.3g} % routed changes the AUC on validation rows by {signed(gain.mean)}"
    said += f" [{signed(gain.low)}, {signed(gain.high)}]"
    if gain.low > 0:
        return f"{said}."
    if gain.high < 0:
        return f"{said}: the language model does harm there; score and serve with share 0."
    return f"{said}: that cannot be told from nothing; the conventional model alone (share 0) may do as well."

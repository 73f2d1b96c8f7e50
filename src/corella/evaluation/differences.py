"""Paired differences between systems, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from corella.config import Config
from corella.data.samples import Samples
from corella.evaluation.metrics import user_aucs
from corella.evaluation.results import AucDifference, UserAucDifference
from corella.evaluation.systems import System
from corella.intervals import LEAST_CLUSTERS, bootstrap_mean, paired_bootstrap

Floats = npt.NDArray[np.floating]
Pairs = Sequence[tuple[System, System]]


def auc_differences(
    config: Config, test: Samples, systems: Mapping[System, Floats], pairs: Pairs
) -> list[AucDifference]:
    """Of the AUC over all samples: rows resampled, and whole users where there are enough."""
    found: list[AucDifference] = []
    for a, b in pairs:

        def of(cluster: npt.NDArray[np.int64] | None, a: System = a, b: System = b) -> dict[str, float]:
            evaluation = config.evaluation
            return asdict(
                paired_bootstrap(test.label, systems[a], systems[b], evaluation.bootstrap, config.seed, cluster)
            )

        found.append(AucDifference(a=a.name, b=b.name, resampled="rows", **of(None)))
        if len(np.unique(test.user)) >= LEAST_CLUSTERS:
            found.append(AucDifference(a=a.name, b=b.name, resampled="users", **of(test.user)))
    return found


def user_auc_differences(
    config: Config, test: Samples, systems: Mapping[System, Floats], pairs: Pairs
) -> list[UserAucDifference]:
    """Of the mean AUC within users, users resampled: the AUC of all samples also gains from telling users apart.
    Samples of one user are of different moments here; for one moment see `corella.evaluation.slates`. Empty where too
    few users have both labels."""
    each = {
        system: np.mean([user_aucs(test.label, draw, test.user) for draw in np.atleast_2d(z)], axis=0)
        for system, z in systems.items()
    }
    found = []
    for a, b in pairs:
        if len(each[a]) >= LEAST_CLUSTERS:
            difference = bootstrap_mean(each[b] - each[a], config.evaluation.bootstrap, config.seed)
            found.append(UserAucDifference(a=a.name, b=b.name, users=len(each[a]), **asdict(difference)))
    return found

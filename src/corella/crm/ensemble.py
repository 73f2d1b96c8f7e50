"""The ensemble: a neural recommender model, and boosted trees beside it; one logit of both. [ours]

Trees on count features are what an engineer would pick instead of the whole system, and they err elsewhere than the
neural model does. Both are blended before the router looks, so that the language model has to add to both.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corella.calibration import Blend, fit_blend
from corella.crm.encoder import CRMEncoder
from corella.crm.trees import Trees
from corella.data.samples import Samples

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ensemble:
    """Trees, and the weights of the blend."""

    trees: Trees
    blend: Blend

    def __call__(self, z_neural: Floats, encoder: CRMEncoder, samples: Samples) -> Floats:
        """The conventional logits of samples from the neural model's, float32 [n]."""
        return self.blend(z_neural, self.trees.logits(encoder, samples)).astype(np.float32)


def fit_ensemble(trees: Trees, z_neural: Floats, encoder: CRMEncoder, valid: Samples) -> Ensemble:
    """Fit the weights on validation rows, whose logits of the neural model are `z_neural`, float32 [n]."""
    return Ensemble(trees, fit_blend(z_neural, trees.logits(encoder, valid), valid.label))

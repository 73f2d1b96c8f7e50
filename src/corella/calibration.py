"""Make logits mean probabilities, and blend two of them; everything is fitted on validation rows."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

_CLIP = 1e-4


@dataclass(frozen=True)
class Calibrator:
    """Maps a model's logits to calibrated logits, never changing their order. Plain data that JSON can hold.

    Temperature: `scale * z + bias` (a temperature of 1/scale, and a shift). Isotonic: a step-wise linear map of knots.
    """

    scale: float = 1.0
    bias: float = 0.0
    knots: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __call__(self, z: Floats) -> npt.NDArray[np.float64]:
        """Calibrated logits, float64, same shape."""
        if self.knots:
            # A small slope keeps the order of logits that share a step.
            steps = np.interp(z, self.knots, self.values)
            return steps + 1e-3 * (np.asarray(z, np.float64) - self.knots[0])
        return self.scale * np.asarray(z, dtype=np.float64) + self.bias


def fit_calibrator(z: Floats, label: Ints, method: str) -> Calibrator:
    """Fit on validation logits. `method`: temperature, isotonic, or none (logits as they are)."""
    if method == "none":
        return Calibrator()
    if method == "isotonic":
        # A step can say no more than its rows show: never surer than one more row of the other answer would allow.
        edge = 1 / (len(label) + 2)
        fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(z, label)
        knots, values = fitted.X_thresholds_, logit(np.clip(fitted.y_thresholds_, edge, 1 - edge))
        return Calibrator(knots=knots.astype(float).tolist(), values=values.astype(float).tolist())
    model = LogisticRegression(C=1e6).fit(np.asarray(z, np.float64)[:, None], label)
    scale = float(model.coef_[0, 0])
    if scale <= 0:  # a model worse than chance: keep its order, say nothing with it
        rate = float(np.clip(np.mean(label), _CLIP, 1 - _CLIP))
        return Calibrator(scale=1e-6, bias=float(logit(rate)))
    return Calibrator(scale=scale, bias=float(model.intercept_[0]))


@dataclass(frozen=True)
class Blend:
    """`weight_a * a + weight_b * b + bias` on the logits of two models; weights are not negative."""

    weight_a: float
    weight_b: float
    bias: float

    def __call__(self, a: Floats, b: Floats) -> npt.NDArray[np.float64]:
        """Blended logits, float64."""
        return self.weight_a * np.asarray(a, np.float64) + self.weight_b * np.asarray(b, np.float64) + self.bias


def fit_blend(a: Floats, b: Floats, label: Ints) -> Blend:
    """Logistic regression on both logits of validation rows; a model with a negative weight is left out."""
    inputs = np.stack([a, b], axis=1).astype(np.float64)
    kept = [0, 1]
    while True:
        model = LogisticRegression(C=1.0).fit(inputs[:, kept], label)
        if len(kept) == 1 or model.coef_[0].min() >= 0:
            break
        kept.remove(kept[int(np.argmin(model.coef_[0]))])
    weights = np.zeros(2)
    weights[kept] = np.maximum(model.coef_[0], 0)
    return Blend(float(weights[0]), float(weights[1]), float(model.intercept_[0]))


def probability(z: Floats) -> npt.NDArray[np.float64]:
    """Probability of a logit."""
    found: npt.NDArray[np.float64] = expit(np.asarray(z, dtype=np.float64))
    return found

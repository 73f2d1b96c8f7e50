"""Calibrators keep the order and mend probabilities; the blend drops a model that harms."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score

from corella.calibration import Blend, Calibrator, fit_blend, fit_calibrator, probability

Arrays = tuple[np.ndarray, np.ndarray]


def _overconfident(seed: int = 0, n: int = 4000) -> Arrays:
    """Logits three times too large and shifted; the labels follow the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0.5, 1, n)
    return (3 * true + 1).astype(np.float32), (rng.random(n) < expit(true)).astype(np.int64)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_log_loss_falls_and_order_stays(method: str) -> None:
    z, label = _overconfident()
    held, held_label = _overconfident(1)
    fitted = fit_calibrator(z, label, method)
    after, before = (log_loss(held_label, expit(x.astype(float))) for x in (fitted(held), held))
    assert after < before - 0.2
    assert roc_auc_score(held_label, fitted(held)) == pytest.approx(roc_auc_score(held_label, held), abs=1e-9)
    assert (np.diff(fitted(np.sort(np.unique(held)))) > 0).all()


def test_temperature_finds_the_scale() -> None:
    z, label = _overconfident(n=40_000)
    fitted = fit_calibrator(z, label, "temperature")
    assert fitted.scale == pytest.approx(1 / 3, rel=0.05)
    assert fitted.bias == pytest.approx(-1 / 3, abs=0.05)


def test_isotonic_is_sklearns() -> None:
    z, label = _overconfident()
    fitted = fit_calibrator(z, label, "isotonic")
    edge = 1 / (len(label) + 2)
    reference = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(z, label)
    knots = reference.X_thresholds_
    slope = 1e-3 * (knots - knots[0])
    np.testing.assert_allclose(expit(fitted(knots) - slope), reference.predict(knots), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["temperature", "isotonic"]), st.integers(10, 200))
def test_order_is_never_changed(seed: int, method: str, n: int) -> None:
    """Also for a model that is worse than chance."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 3, n)
    label = np.r_[0, 1, rng.random(n - 2) < expit(-z[2:])].astype(int)
    fitted = fit_calibrator(z, label, method)
    x = np.unique(np.round(rng.normal(0, 6, 50), 3))
    assert (np.diff(fitted(x)) > 0).all()
    assert np.isfinite(fitted(x)).all()


def test_worse_than_chance_says_the_rate() -> None:
    z, label = _overconfident()
    fitted = fit_calibrator(-z, label, "temperature")
    np.testing.assert_allclose(expit(fitted(-z)), label.mean(), atol=1e-4)


def test_plain_data() -> None:
    z, label = _overconfident()
    for method in ("temperature", "isotonic"):
        fitted = fit_calibrator(z, label, method)
        assert Calibrator(**json.loads(json.dumps(asdict(fitted)))) == fitted
    np.testing.assert_array_equal(Calibrator()(np.array([1.0, -2.0])), [1.0, -2.0])


def _two_models(n: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, (2, n))
    return a, b, (rng.random(n) < expit(0.8 * a + 0.4 * b + 0.3)).astype(int)


def test_blend_finds_the_weights() -> None:
    a, b, label = _two_models()
    blend = fit_blend(a, b, label)
    assert (blend.weight_a, blend.weight_b, blend.bias) == pytest.approx((0.8, 0.4, 0.3), abs=0.06)
    np.testing.assert_allclose(blend(a, b), blend.weight_a * a + blend.weight_b * b + blend.bias)
    loss = log_loss(label, expit(blend(a, b)))
    assert loss < min(log_loss(label, expit(fit_calibrator(z, label, "temperature")(z))) for z in (a, b))


def test_blend_drops_a_harmful_model() -> None:
    a, b, label = _two_models()
    harmful = fit_blend(a, -b, label)
    assert harmful.weight_b == 0
    assert harmful.weight_a > 0.5
    assert fit_blend(-a, b, label).weight_a == 0
    neither = fit_blend(-a, -b, label)
    assert (neither.weight_a, neither.weight_b) == (0, 0)
    useless = fit_blend(a, np.random.default_rng(0).normal(size=len(a)), label)
    assert 0 <= useless.weight_b < 0.05


def test_blend_of_nothing_but_itself() -> None:
    assert Blend(1.0, 0.0, 0.0)(np.array([2.0]), np.array([9.0])).tolist() == [2.0]


def test_probability() -> None:
    np.testing.assert_allclose(probability(np.array([0.0, np.log(3), -1000], np.float32)), [0.5, 0.75, 0.0], atol=1e-6)

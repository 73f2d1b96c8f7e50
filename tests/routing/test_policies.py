"""Policies by hand, exact shares, and a learned router that finds where the language model helps."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from corella.config import RoutingConfig
from corella.files import read_value, write_value
from corella.routing.budgets import budget_share, request_means, route_top, threshold
from corella.routing.policies import RouterInputs, entropy, expected_gain, priority
from corella.routing.router import Router, RouterState, fit_router

Array = npt.NDArray[Any]


def test_entropy_is_the_papers() -> None:
    p = np.array([0.5, 0.9, 0.1])
    expected = -p * np.log(p) - (1 - p) * np.log(1 - p)
    np.testing.assert_allclose(entropy(p), expected)
    assert entropy(np.array([0.5]))[0] == pytest.approx(np.log(2))
    assert np.isfinite(entropy(np.array([0.0, 1.0]))).all()


def test_expected_gain_by_hand() -> None:
    """Population at logits -1, 0, 1, 2. The sample at -1 goes to 1.5: it passes -1, 0 and 1, with probability s of
    being positive (it gains the negatives it passes) and 1 - s of being negative (it loses the positives).
    """
    reference = np.array([2.0, -1.0, 0.0, 1.0])
    p = {z: 1 / (1 + np.exp(-z)) for z in (-1.0, 0.0, 1.0, 2.0, 1.5, -0.5)}
    pairs = sum(p[z] for z in (-1.0, 0.0, 1.0, 2.0)) * sum(1 - p[z] for z in (-1.0, 0.0, 1.0, 2.0))
    up = p[1.5] * sum(1 - p[z] for z in (-1.0, 0.0, 1.0)) - (1 - p[1.5]) * sum(p[z] for z in (-1.0, 0.0, 1.0))
    down = -p[-0.5] * sum(1 - p[z] for z in (0.0, 1.0)) + (1 - p[-0.5]) * sum(p[z] for z in (0.0, 1.0))
    gain = expected_gain(np.array([1.5, 0.0, -0.5, 1.2]), np.array([-1.0, 0.0, 2.0, 1.1]), reference)
    np.testing.assert_allclose(gain, [1e6 * up / pairs, 0, 1e6 * down / pairs, 0], rtol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60))
def test_expected_gain_is_never_negative(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    crm = np.round(rng.normal(0, 2, n), 1)
    assert (expected_gain(rng.normal(0, 2, n), crm, crm) >= -1e-6).all()


def test_expected_gain_is_the_gain_in_auc() -> None:
    """With labels drawn from the blended logits, the AUC rises on average by what was expected of the moved sample."""
    rng = np.random.default_rng(0)
    crm = rng.normal(0, 1.5, 400)
    blended = crm.copy()
    blended[7] = crm[7] + 2.5
    expected = expected_gain(blended, crm, crm)[7] / 1e6
    label = (rng.random((20_000, 400)) < expit(blended)).astype(float)
    positive = label.sum(1)
    sums = [label @ (np.argsort(np.argsort(z)) + 1.0) for z in (crm, blended)]
    gain = (sums[1] - sums[0]) / (positive * (400 - positive))
    assert expected > 1e-5
    assert gain.mean() == pytest.approx(expected, rel=0.1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 80), st.floats(0, 1))
def test_route_top_is_exact(seed: int, n: int, share: float) -> None:
    score = np.random.default_rng(seed).integers(0, 4, n).astype(float)  # many ties
    routed = route_top(score, share)
    assert routed.sum() == round(share * n)
    if 0 < routed.sum() < n:
        assert score[routed].min() >= score[~routed].max()


def test_route_top_ties_go_to_the_earlier() -> None:
    assert route_top(np.array([1.0, 2.0, 1.0, 1.0]), 0.5).tolist() == [True, True, False, False]


def test_requests_are_ranked_by_their_mean() -> None:
    request = np.array([3, 3, 8, 8, 8, 5])
    score = np.array([9.0, 1.0, 4.0, 4.0, 5.0, 4.5])
    mean, code = request_means(score, request)
    np.testing.assert_allclose(mean, [5.0, 4.5, 13 / 3])
    assert code.tolist() == [0, 0, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("unit", "budget", "share"),
    [("samples", 0.3, 0.3), ("samples", 1.0, 1.0), ("requests", 0.4, 0.4), ("milliseconds", 10.0, 0.1),
     ("milliseconds", 1000.0, 1.0), ("milliseconds", 0.0, 0.0)],
)  # fmt: skip
def test_budget_share(unit: str, budget: float, share: float) -> None:
    config = RoutingConfig.model_validate({"budget": budget, "budget_unit": unit})
    assert budget_share(config, milliseconds_per_sample=2.0, samples_per_request=50.0) == pytest.approx(share)
    if unit == "milliseconds":
        assert budget_share(config, 0.0, 50.0) == 1.0


def test_a_policy_that_there_is_not_is_an_error() -> None:
    inputs = RouterInputs(np.zeros(2), np.zeros((2, 1), np.float32), np.zeros(2), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="no routing policy 'hope'"):
        priority("hope", inputs, None, 1)
    with pytest.raises(ValueError, match="needs a learned router"):
        priority("learned", inputs, None, 1)


def test_threshold() -> None:
    score = np.array([0.4, 0.1, 0.3, 0.2])
    assert [int((score >= threshold(np.sort(score), s)).sum()) for s in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0, 1, 2, 3, 4]
    assert (np.array([-1e300]) >= threshold(np.sort(score), 1.0)).all()  # everything is routed, whatever comes
    assert not (np.array([1e300]) >= threshold(np.sort(score), 0.0)).any()


def _problem(seed: int, n: int = 6000) -> tuple[Array, Array, Array, Array]:
    """CRM logits, LLM logits, labels, features. Only where feature 0 is set does the language model know more."""
    rng = np.random.default_rng(seed)
    known, hidden = rng.normal(0, 1, (2, n))
    helped = rng.random(n) < 0.25
    label = (rng.random(n) < expit(1.2 * known + 2.5 * hidden * helped)).astype(int)
    crm, llm = known, np.where(helped, 1.2 * known + 2.5 * hidden, 1.2 * known + rng.normal(0, 0.05, n))
    features = np.stack([helped, rng.random(n)], axis=1).astype(np.float32)
    return crm, llm, label, features


_SEEN = np.random.default_rng(5).integers(0, 30, 6000)
"""Earlier interactions with the items of rows that some policy may ask for."""


def _fit(policy: str, **routing: Any) -> Router:
    crm, llm, label, features = _problem(0)
    config = RoutingConfig.model_validate({"policy": policy, **routing})
    return fit_router(crm, llm, label, features, None, _SEEN[: len(label)], np.arange(len(label)), config, seed=1)


def _auc_at_20(router: Router) -> tuple[float, float, float]:
    """AUC of the CRM, with 20 % routed, and of the blend everywhere, on new rows."""
    crm, llm, label, features = _problem(1)
    inputs = router.inputs(crm, features, None, _SEEN[: len(crm)])
    blended = router.combine(inputs.crm, router.llm(llm))
    routed = router.priority(inputs) >= router.threshold(0.2)
    assert routed.mean() == pytest.approx(0.2, abs=0.03)  # the threshold of validation holds for new rows
    mixed = np.where(routed, blended, inputs.crm)
    return tuple(float(roc_auc_score(label, z)) for z in (inputs.crm, mixed, blended))  # type: ignore[return-value]


def test_learned_beats_random_where_it_can_see() -> None:
    base, learned, full = _auc_at_20(_fit("learned"))
    assert full > base + 0.04
    assert (learned - base) / (full - base) > 0.7
    _, by_entropy, _ = _auc_at_20(_fit("entropy"))
    _, by_chance, _ = _auc_at_20(_fit("random"))
    assert learned > max(by_entropy, by_chance) + 0.01
    assert (by_chance - base) / (full - base) < 0.4


def test_random_follows_the_seed() -> None:
    inputs = RouterInputs(np.zeros(50), np.zeros((50, 1), np.float32), np.full(50, np.nan), np.arange(50))
    one, again, other = (priority("random", inputs, None, seed) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist()
    assert one.tolist() != other.tolist()


def test_entropy_policy_reads_calibrated_logits() -> None:
    router = _fit("entropy")
    crm, _, _, features = _problem(1)
    inputs = router.inputs(crm, features, None, _SEEN[: len(crm)])
    np.testing.assert_allclose(router.priority(inputs), entropy(expit(router.crm(crm))))


def test_cold_items_go_first() -> None:
    """Fewest interactions first, and of equally many the one whose logit is nearest to 0."""
    seen, crm = np.array([7, 0, 3, 3, 0, 100]), np.array([0.0, 2.0, 1.0, -0.5, 1.0, 0.0])
    inputs = RouterInputs(crm, np.zeros((6, 1), np.float32), np.full(6, np.nan), seen)
    assert np.argsort(-priority("cold", inputs, None, 1)).tolist() == [4, 1, 3, 2, 0, 5]
    router = _fit("cold")
    crm, _, _, features = _problem(0)
    asked = router.priority(router.inputs(crm, features, None, _SEEN)) >= router.threshold(0.1)
    assert asked.mean() == pytest.approx(0.1, abs=1e-3)
    assert _SEEN[asked].max() <= _SEEN[~asked].min()


def test_combine() -> None:
    crm, llm = np.array([1.0, 2.0]), np.array([-1.0, 3.0])
    blend = _fit("entropy")
    np.testing.assert_allclose(blend.combine(crm, llm), blend.blend(crm, llm))
    np.testing.assert_array_equal(blend.combine(crm, llm, "replace"), llm)
    np.testing.assert_array_equal(_fit("entropy", combine="replace").combine(crm, llm), llm)


def test_state_comes_back_from_json(tmp_path: Path) -> None:
    router = _fit("learned", calibration="isotonic")
    write_value(tmp_path / "router.json", router.state())
    again = Router.from_state(read_value(tmp_path / "router.json", RouterState), router.config, router.seed)
    crm, llm, _, features = _problem(2, 500)
    for one, other in ((router, again),):
        inputs, same = (each.inputs(crm, features, llm, _SEEN[: len(crm)]) for each in (one, other))
        np.testing.assert_array_equal(one.priority(inputs), other.priority(same))
        np.testing.assert_array_equal(one.combine(inputs.crm, one.llm(llm)), other.combine(same.crm, other.llm(llm)))
        assert one.threshold(0.3) == other.threshold(0.3)


def test_thresholds_of_whole_requests() -> None:
    """Where the budget counts requests, validation priorities are those of requests."""
    crm, llm, label, features = _problem(0, 3000)
    request = np.random.default_rng(0).integers(0, 200, 3000)
    config = RoutingConfig.model_validate({"policy": "entropy", "budget_unit": "requests"})
    router = fit_router(crm, llm, label, features, None, _SEEN[: len(crm)], request, config, 1)
    samples = entropy(expit(router.crm(crm)))
    np.testing.assert_allclose(router.validation_priority, request_means(samples, request)[0])
    assert (request_means(samples, request)[0] >= router.threshold(0.25)).mean() == pytest.approx(0.25)


def test_fitting_takes_validation_arrays_only() -> None:
    """One set of rows goes in, and its labels decide: there is no place where a test row could enter."""
    names = list(inspect.signature(fit_router).parameters)
    assert names == ["z_crm", "z_llm", "label", "features", "guess", "seen", "user", "config", "seed"]
    crm, llm, label, features = _problem(0, 2000)
    config = RoutingConfig(policy="learned")
    one = fit_router(crm, llm, label, features, None, _SEEN[:2000], np.arange(len(label)), config, 1)
    same = fit_router(crm, llm, label, features, None, _SEEN[:2000], np.arange(len(label)), config, 1)
    other = fit_router(crm, llm, 1 - label, features, None, _SEEN[:2000], np.arange(len(label)), config, 1)
    assert one.state() == same.state()
    assert one.state() != other.state()

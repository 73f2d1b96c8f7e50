"""Which samples go to the language model: policies that rank samples by what asking is worth, and budgets that cut
the ranking.

A policy sees only what is known before the language model runs. `entropy` is the paper's; `random` is the control;
`learned` predicts the gain in AUC. Moving a sample from its CRM logit c to the blended logit b changes the number
of pairs in the right order by

    gain(b, c) = s(b) (N(b) - N(c)) - (1 - s(b)) (P(b) - P(c))

with s the sigmoid (b is calibrated, so it stands for the unknown answer), N and P the number of negatives and
positives that the CRM scores below a logit [ours]. On validation rows b is known and the gain is the target; a
boosted model learns it.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from corella.config import RoutingConfig

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

_FOLDS = 5


def entropy(probability: Floats) -> npt.NDArray[np.float64]:
    """Binary entropy in nats: the paper's difficulty `-p log p - (1-p) log(1-p)`."""
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)
    return -p * np.log(p) - (1 - p) * np.log1p(-p)


def expected_gain(blended: Floats, crm: Floats, reference: Floats) -> npt.NDArray[np.float64]:
    """Expected AUC gain of giving each sample its blended logit instead of its CRM logit, in units of one pair in a
    million; `reference`: calibrated CRM logits of the population, each counted as positive with its own
    probability."""
    ranked = np.sort(reference)
    chance = expit(ranked)
    positives, negatives = np.r_[0, np.cumsum(chance)], np.r_[0, np.cumsum(1 - chance)]
    b, c = np.searchsorted(ranked, blended), np.searchsorted(ranked, crm)
    s = expit(blended)
    gain = s * (negatives[b] - negatives[c]) - (1 - s) * (positives[b] - positives[c])
    return 1e6 * gain / (positives[-1] * negatives[-1])


@dataclass(frozen=True)
class RouterInputs:
    """What is known of samples before the language model runs."""

    crm: npt.NDArray[np.float64]
    """[n] calibrated CRM logits."""
    features: npt.NDArray[np.float32]
    """[n, f]: counting features, history length, hidden layers, text, the distilled head (whatever there is)."""
    guess: npt.NDArray[np.float64]
    """[n]: what the sample's logit would be if it were routed, by the distilled head's guess; nan where there is
    none.
    """


@dataclass
class LearnedRouter:
    """Boosted trees that predict `expected_gain`, the mean of one model a fold; `texts` are in LightGBM's own text
    format, so nothing is pickled."""

    texts: list[str]
    _boosters: list[object] = field(default_factory=list, repr=False, compare=False)

    def __call__(self, inputs: RouterInputs) -> npt.NDArray[np.float64]:
        """Predicted gain of each sample, float64 [n]."""
        import lightgbm

        if not self._boosters:
            self._boosters = [lightgbm.Booster(model_str=text) for text in self.texts]
        design = _design(inputs)
        each = [booster.predict(design, num_threads=1) for booster in self._boosters]  # type: ignore[attr-defined]
        return np.asarray(np.mean(each, axis=0), dtype=np.float64)


def fit_learned_router(
    inputs: RouterInputs, blended: Floats, seed: int
) -> tuple[LearnedRouter, npt.NDArray[np.float64]]:
    """Fit on validation rows, whose blended logits are known. Returns the router and its out-of-fold predictions, from
    which thresholds are taken: each row is predicted by the model that did not see it."""
    import lightgbm

    design, target = _design(inputs), np.sqrt(np.maximum(expected_gain(blended, inputs.crm, inputs.crm), 0))
    # One thread: on so few rows several spend their time waiting for each other.
    settings = {
        "objective": "l2", "learning_rate": 0.03, "num_leaves": 15, "min_data_in_leaf": 60, "lambda_l2": 10.0,
        "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1, "verbose": -1, "seed": seed,
        "deterministic": True, "force_col_wise": True, "num_threads": 1,
    }  # fmt: skip
    fold = np.random.default_rng(seed).integers(0, _FOLDS, len(target))
    texts, held_out = [], np.empty(len(target))
    for k in range(_FOLDS):
        train = lightgbm.Dataset(design[fold != k], target[fold != k])
        check = lightgbm.Dataset(design[fold == k], target[fold == k], reference=train)
        booster = lightgbm.train(
            settings, train, 600, valid_sets=[check], callbacks=[lightgbm.early_stopping(40, verbose=False)]
        )
        held_out[fold == k] = booster.predict(design[fold == k])
        texts.append(booster.model_to_string(num_iteration=booster.best_iteration))
    return LearnedRouter(texts), held_out


def _design(inputs: RouterInputs) -> npt.NDArray[np.float32]:
    difference = inputs.guess - inputs.crm
    columns = [inputs.crm, np.abs(inputs.crm), entropy(expit(inputs.crm)), inputs.guess, difference, np.abs(difference)]
    return np.concatenate([np.stack(columns, axis=1), inputs.features], axis=1).astype(np.float32)


def priority(policy: str, inputs: RouterInputs, learned: LearnedRouter | None, seed: int) -> npt.NDArray[np.float64]:
    """How much each sample should be routed under a policy; higher goes first."""
    if policy == "entropy":
        return entropy(expit(inputs.crm)).astype(np.float64)
    if policy == "learned" and learned is not None:
        return learned(inputs)
    return np.random.default_rng(seed).random(len(inputs.crm))


def route_top(score: Floats, share: float) -> npt.NDArray[np.bool_]:
    """Route exactly the `share` of samples with the highest priority (ties: the earlier sample)."""
    count = round(share * len(score))
    routed = np.zeros(len(score), dtype=bool)
    routed[np.argsort(-score, kind="stable")[:count]] = True
    return routed


def route_requests(score: Floats, request: Ints, share: float) -> npt.NDArray[np.bool_]:
    """Route whole requests, those of the highest mean priority first, up to `share` of the requests."""
    mean, code = request_means(score, request)
    chosen: npt.NDArray[np.bool_] = route_top(mean, share)[code]
    return chosen


def request_means(score: Floats, request: Ints) -> tuple[npt.NDArray[np.float64], Ints]:
    """The mean priority of each request, and for each sample the place of its request among them.

    >>> request_means(np.array([1.0, 3.0, 5.0]), np.array([7, 7, 9]))[0].tolist()
    [2.0, 5.0]
    """
    _, code, size = np.unique(request, return_inverse=True, return_counts=True)
    return np.bincount(code, weights=score) / size, code


def budget_share(config: RoutingConfig, milliseconds_per_sample: float, samples_per_request: float) -> float:
    """The share of samples (or of requests) that the configured budget buys, at most 1.

    >>> budget_share(RoutingConfig(budget=10, budget_unit="milliseconds"), 2.0, 50.0)
    0.1
    """
    if config.budget_unit != "milliseconds":
        return min(config.budget, 1.0)
    whole_request = milliseconds_per_sample * samples_per_request
    return min(config.budget / whole_request, 1.0) if whole_request > 0 else 1.0


def threshold(score: Floats, share: float) -> float:
    """The priority from which a sample is routed, so that `share` of the given (validation) samples are.

    >>> threshold(np.array([0.1, 0.2, 0.3, 0.4]), 0.5)
    0.3
    """
    count = round(share * len(score))
    if count == 0:
        return float("inf")
    if count >= len(score):  # everything, also what lies below all of validation
        return float("-inf")
    return float(np.sort(score)[::-1][count - 1])

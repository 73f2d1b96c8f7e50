"""Policies: which samples go to the language model first, ranked by what asking is worth.

A policy sees only what is known before the language model runs. `entropy` is the paper's; `random` is the control;
`cold` asks where interactions say least; `learned` predicts the gain in AUC. Moving a sample from its CRM logit c to
the blended logit b changes the number of pairs in the right order by

    gain(b, c) = s(b) (N(b) - N(c)) - (1 - s(b)) (P(b) - P(c))

with s the sigmoid (b is calibrated, so it stands for the unknown answer), N and P the number of negatives and
positives that the CRM scores below a logit [ours]. On validation rows b is known and the gain is the target; a
boosted model learns it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from corella.crm.trees import Trees

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
    found: npt.NDArray[np.float64] = 1e6 * gain / (positives[-1] * negatives[-1])
    return found


@dataclass(frozen=True)
class RouterInputs:
    """What is known of samples before the language model runs."""

    crm: npt.NDArray[np.float64]
    """[n] calibrated CRM logits."""
    features: npt.NDArray[np.float32]
    """[n, f]: count features, history length, hidden layers, text, the distilled head (whatever there is)."""
    guess: npt.NDArray[np.float64]
    """[n]: what the sample's logit would be if it were routed, by the distilled head's guess; nan where there is
    none.
    """
    seen: Ints
    """[n]: how many interactions the sample's item had before."""


@dataclass
class LearnedRouter:
    """Boosted trees that predict `expected_gain`, the mean of one model a fold."""

    folds: list[Trees]

    def __call__(self, inputs: RouterInputs) -> npt.NDArray[np.float64]:
        """Predicted gain of each sample, float64 [n]."""
        design = _design(inputs)
        return np.asarray(np.mean([trees(design) for trees in self.folds], axis=0), dtype=np.float64)


def fit_learned_router(
    inputs: RouterInputs, combined: Floats, user: Ints, seed: int
) -> tuple[LearnedRouter, npt.NDArray[np.float64]]:
    """Fit on validation rows, whose logits after routing are known. Returns the router and its out-of-fold predictions,
    from which thresholds are taken: each user's rows are predicted by the model that did not see that user."""
    import lightgbm

    design, target = _design(inputs), _target(combined, inputs.crm)
    # One thread: on so few rows several spend their time waiting for each other.
    settings = {
        "objective": "l2", "learning_rate": 0.03, "num_leaves": 15, "lambda_l2": 10.0, "feature_fraction": 0.5,
        "min_data_in_leaf": max(2, min(60, len(target) // 20)), "bagging_fraction": 0.7, "bagging_freq": 1,
        "verbose": -1, "seed": seed, "deterministic": True, "force_col_wise": True, "num_threads": 1,
    }  # fmt: skip
    users, code = np.unique(user, return_inverse=True)
    groups = np.random.default_rng(seed).permutation(len(users)) % _FOLDS
    fold = groups[code] if len(users) >= _FOLDS else np.arange(len(target)) % _FOLDS
    trees, held_out = [], np.empty(len(target))
    for k in range(_FOLDS):
        train = lightgbm.Dataset(design[fold != k], target[fold != k])
        check = lightgbm.Dataset(design[fold == k], target[fold == k], reference=train)
        booster = lightgbm.train(
            settings, train, 600, valid_sets=[check], callbacks=[lightgbm.early_stopping(40, verbose=False)]
        )
        held_out[fold == k] = booster.predict(design[fold == k])
        trees.append(Trees(booster.model_to_string(num_iteration=booster.best_iteration)))
    return LearnedRouter(trees), held_out


def _target(combined: Floats, crm: Floats) -> npt.NDArray[np.float64]:
    """The root of the expected gain, the harm of a few samples cut to 0: gains are as skewed as squares, and a mean
    squared error on them would see nothing but the largest."""
    return np.sqrt(np.maximum(expected_gain(combined, crm, crm), 0))


def _design(inputs: RouterInputs) -> npt.NDArray[np.float32]:
    difference = inputs.guess - inputs.crm
    columns = [inputs.crm, np.abs(inputs.crm), entropy(expit(inputs.crm)), inputs.guess, difference, np.abs(difference)]
    return np.concatenate([np.stack(columns, axis=1), inputs.features], axis=1).astype(np.float32)


def priority(policy: str, inputs: RouterInputs, learned: LearnedRouter | None, seed: int) -> npt.NDArray[np.float64]:
    """How much each sample should be routed under a policy; higher goes first. Raises `ValueError` for a policy that
    there is not, and for `learned` without a learned router."""
    if policy == "entropy":
        return entropy(expit(inputs.crm)).astype(np.float64)
    if policy == "cold":
        # The entropy, always below 1, only decides between items that were seen equally often.
        return entropy(expit(inputs.crm)) - np.asarray(inputs.seen, np.float64)
    if policy == "learned":
        if learned is None:
            raise ValueError("the policy 'learned' needs a learned router")
        # The entropy, far below any gain, only decides between samples that the trees cannot tell apart.
        return learned(inputs) + 1e-6 * entropy(expit(inputs.crm))
    if policy == "random":
        return _noise(inputs.crm, seed)
    raise ValueError(f"no routing policy '{policy}'")


def _noise(crm: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each sample that looks random but depends only on its logit and the seed, so that it
    is the same whatever batch the sample comes in (the finaliser of SplitMix64)."""
    mixed = crm.view(np.uint64) ^ np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    found: npt.NDArray[np.float64] = (mixed ^ (mixed >> np.uint64(31))) / np.float64(2**64)
    return found

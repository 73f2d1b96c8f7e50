"""The fitted router: calibrators, blend, learned policy and thresholds, all from validation rows; and what it does
to samples.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from corella.calibration import Blend, Calibrator, fit_blend, fit_calibrator, probability
from corella.config import RoutingConfig
from corella.crm.trees import Trees
from corella.routing.budgets import request_means, threshold
from corella.routing.policies import (
    LearnedRouter,
    RouterInputs,
    entropy,
    fit_learned_router,
    priority,
)

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class RouterState:
    """A fitted router as data."""

    crm: Calibrator
    llm: Calibrator
    blend: Blend
    learned: list[str]
    """The folds of the learned policy, in LightGBM's text format; empty where it was not learned."""
    validation_priority: list[float]


@dataclass(frozen=True, eq=False)
class Router:
    """Decides who goes to the language model and what comes of both logits."""

    config: RoutingConfig
    seed: int
    crm: Calibrator
    llm: Calibrator
    blend: Blend
    learned: LearnedRouter | None
    validation_priority: npt.NDArray[np.float64]
    """Priorities of the validation rows (of whole requests, where the budget counts requests) under the configured
    policy, from which a threshold for any share is read.
    """

    def inputs(
        self, z_crm: Floats, features: npt.NDArray[np.float32], guess: Floats | None, seen: Ints
    ) -> RouterInputs:
        """Calibrate what the policies read. `z_crm`: raw CRM logits; `guess`: raw guesses of the LLM's logits; `seen`:
        earlier interactions with each item."""
        calibrated = self.crm(z_crm)
        known = np.full(len(calibrated), np.nan) if guess is None else self.combine(calibrated, self.llm(guess))
        return RouterInputs(calibrated, features, known, seen)

    def priority(self, inputs: RouterInputs) -> npt.NDArray[np.float64]:
        """Priority under the configured policy, higher goes first."""
        return priority(self.config.policy, inputs, self.learned, self.seed)

    @cached_property
    def _ascending(self) -> npt.NDArray[np.float64]:
        return np.sort(self.validation_priority)

    def threshold(self, share: float) -> float:
        """The priority from which on a sample is routed, so that `share` of validation rows would be."""
        return threshold(self._ascending, share)

    def combine(self, z_crm: Floats, z_llm: Floats, how: str | None = None) -> npt.NDArray[np.float64]:
        """What a routed sample gets, from both calibrated logits: `blend` or `replace`."""
        if (how or self.config.combine) == "replace":
            return np.asarray(z_llm, dtype=np.float64)
        return self.blend(z_crm, z_llm)

    def state(self) -> RouterState:
        """What was fitted, as it is kept on disk."""
        learned = [trees.text for trees in self.learned.folds] if self.learned else []
        return RouterState(self.crm, self.llm, self.blend, learned, self.validation_priority.tolist())

    @classmethod
    def from_state(cls, state: RouterState, config: RoutingConfig, seed: int) -> "Router":
        """The router that `state()` described."""
        learned = LearnedRouter([Trees(text) for text in state.learned]) if state.learned else None
        return cls(config, seed, state.crm, state.llm, state.blend, learned, np.array(state.validation_priority))


def fit_router(
    z_crm: Floats,
    z_llm: Floats,
    label: Ints,
    features: npt.NDArray[np.float32],
    guess: Floats | None,
    seen: Ints,
    user: Ints,
    config: RoutingConfig,
    seed: int,
) -> Router:
    """Fit everything on validation rows: raw logits of both models, labels, router features, guesses of the LLM's
    logits, earlier interactions with the item, users (whose rows stay in one fold, and are one request).
    """
    crm = fit_calibrator(z_crm, label, config.calibration)
    llm = fit_calibrator(z_llm, label, config.calibration)
    blend = fit_blend(crm(z_crm), llm(z_llm), label)
    unasked = Router(config, seed, crm, llm, blend, None, np.zeros(0))
    inputs = unasked.inputs(z_crm, features, guess, seen)
    learned, held_out = fit_learned_router(inputs, unasked.combine(inputs.crm, llm(z_llm)), user, seed)
    held_out += 1e-6 * entropy(probability(inputs.crm))
    found = held_out if config.policy == "learned" else unasked.priority(inputs)
    if config.budget_unit == "requests":
        found = request_means(found, user)[0]
    return replace(unasked, learned=learned, validation_priority=found)

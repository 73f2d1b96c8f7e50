"""The fitted ranking: it decides who is asked about, predicts, and never changes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from corella.config import Config
from corella.crm.encoder import CRMEncoder
from corella.crm.ensemble import Ensemble
from corella.crm.rungs import Rung
from corella.crm.training import crm_outputs
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.errors import UserError
from corella.progress import Reporter
from corella.ranking.decision import Decision
from corella.ranking.language import RequestLLM
from corella.ranking.results import Facts, Predictions
from corella.routing.budgets import budget_share, request_means
from corella.routing.features import RouterFeatures
from corella.routing.router import Router

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ReadValidation:
    """Validation rows that the language model read, int64 [n], and its logits of them, float32 [n]."""

    rows: npt.NDArray[np.int64]
    logits: Floats


@dataclass(frozen=True, eq=False)
class FittedRanking:
    """The product of arXiv 2403.16378, with timeline prompts, a learned router and blending on top. Made by
    `corella.ranking.fit.fit_ranking`, or read by `corella.ranking.io.load_ranking`."""

    config: Config
    dataset: Dataset
    rungs: tuple[Rung, ...]
    """The conventional models without and, where there is a text encoder, with text."""
    served_rung: int
    """Which of them scores; joint training goes on with its neural model."""
    decision: Decision
    """What is served by default: one of them alone, or the language model asked on top."""
    llm: RequestLLM
    features: RouterFeatures
    router: Router
    validation: ReadValidation
    facts: Facts

    @property
    def base(self) -> Rung:
        """The rung that is served."""
        return self.rungs[self.served_rung]

    @property
    def encoder(self) -> CRMEncoder:
        """What the served rung reads."""
        return self.base.encoder

    @property
    def neural(self) -> nn.Module:
        """The neural model of the served rung."""
        return self.base.neural

    @property
    def ensemble(self) -> Ensemble | None:
        """What makes it and boosted trees one; without it the neural model is all of the rung."""
        return self.base.ensemble

    @property
    def share(self) -> float:
        """The share of samples (or requests) that is asked about by default: none, unless asking per request is served
        (see `Decision`)."""
        return self.affordable if self.decision.rung == 2 else 0.0

    @property
    def affordable(self) -> float:
        """The share of samples (or requests) that the configured budget buys."""
        return budget_share(self.config.routing, self.facts.milliseconds_per_sample, self.facts.samples_per_request)

    def base_logits(self, samples: Samples, rung: int) -> Floats:
        """Raw logits of the conventional models without text (0) or with it (1), float32 [n]. Raises `UserError` where
        there is no such rung."""
        if not 0 <= rung < len(self.rungs):
            raise UserError(f"no rung {rung}: this model has {len(self.rungs)}, the first is 0")
        return self.rungs[rung].outputs(samples)[0]

    def conventional(self, samples: Samples) -> tuple[Floats, Floats]:
        """Raw logits of the served rung, float32 [n], and its neural model's last hidden layer, float32 [n, width]."""
        return self.base.outputs(samples)

    def predict(self, samples: Samples, share: float | None = None, reporter: Reporter | None = None) -> Predictions:
        """Score samples; those whose priority reaches the threshold go to the language model, the others never do.

        `share`: of validation samples that the threshold would route; unset: what is served by default (`share`).
        """
        crm, priority, routed = self.decide(samples, share)
        z_llm = np.full(len(samples), np.nan, dtype=np.float32)
        if routed.any():
            z_llm[routed] = self.llm_logits(samples.take(np.flatnonzero(routed)), reporter)
        return self.combine(crm, z_llm, priority, routed)

    def predict_from(self, z_crm: Floats, z_llm: Floats, samples: Samples, share: float | None = None) -> Predictions:
        """The same from raw logits that are there already: `z_crm` of the served rung, and the language model's
        (evaluation)."""
        crm, priority, routed = self.decide(samples, share, z_crm)
        return self.combine(crm, np.where(routed, z_llm, np.nan), priority, routed)

    def predict_proba(self, samples: Samples) -> npt.NDArray[np.float64]:
        """Probability of a positive interaction, float64 [n]."""
        return self.predict(samples).probability

    def llm_logits(self, samples: Samples, reporter: Reporter | None = None, title: str = "language model") -> Floats:
        """Raw logits of the language model, float32 [n]; where it learned what the ensemble leaves open, the ensemble's
        logits as it corrects them."""
        return self.llm.logits(samples, self.base, reporter, title)

    def corrected(self, samples: Samples, said: Floats) -> Floats:
        """What the language model's own logits (float32 [n], nan where it was not asked) mean of samples: the same,
        unless it was trained for a residual."""
        return self.llm.corrected(samples, said, self.base)

    def decide(
        self, samples: Samples, share: float | None = None, z_crm: Floats | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Before the language model runs: calibrated CRM logits, the router's priorities (zeros where nothing may be
        routed), and who is routed. `z_crm`: raw logits of the served rung that are there already."""
        limit = self.router.threshold(self.share if share is None else share)
        if limit == float("inf"):  # nothing may be routed: nobody needs to ask the router, which takes its time
            raw = self.conventional(samples)[0] if z_crm is None else z_crm
            return self.router.crm(raw), np.zeros(len(samples)), np.zeros(len(samples), dtype=bool)
        crm, priority = self.priorities(samples, z_crm)
        return crm, priority, self.compared(priority, samples.user) >= limit

    def priorities(
        self, samples: Samples, z_crm: Floats | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Calibrated CRM logits and the router's priorities, float64 [n] each. `z_crm`: as `decide` takes it."""
        raw, hidden = self.conventional(samples) if z_crm is None else (z_crm, None)
        if hidden is None:
            hidden = crm_outputs(self.neural, self.encoder, samples)[1]
        inputs = self.router.inputs(raw, *self.features(self.encoder, samples, hidden), samples.popularity[:, 0])
        return inputs.crm, self.router.priority(inputs)

    def compared(self, priority: npt.NDArray[np.float64], user: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """What a threshold is compared with, float64 [n]: each sample's priority, or where the budget counts requests
        the mean of those of its user (-1: somebody unknown, each a request)."""
        if self.config.routing.budget_unit != "requests":
            return priority
        request = np.where(user >= 0, user, -1 - np.arange(len(user)))
        mean, code = request_means(priority, request)
        return np.asarray(mean[code], dtype=np.float64)

    def combine(
        self,
        crm: npt.NDArray[np.float64],
        z_llm: Floats,
        priority: npt.NDArray[np.float64],
        routed: npt.NDArray[np.bool_],
    ) -> Predictions:
        """Predictions from calibrated CRM logits and the raw logits of the language model for `routed` samples."""
        llm, final = self.router.llm(z_llm), crm.copy()
        final[routed] = self.router.combine(crm[routed], llm[routed])
        return Predictions(final, crm, llm, priority, routed)

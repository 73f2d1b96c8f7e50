"""The language model as it is asked per request."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from corella.config import Config, LLMConfig
from corella.crm.rungs import Rung
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.data.scope import Scope
from corella.joint.residual import Correction
from corella.joint.soft_tokens import SoftTokens
from corella.llm.backbone import Backbone, load_backbone, make_trainable
from corella.llm.pointwise import PointwisePrompts
from corella.llm.scoring import Prompts, score_samples
from corella.llm.timeline import timeline_prompts
from corella.progress import Reporter

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RequestLLM:
    """A language model, its prompts, and how its logits are read."""

    config: LLMConfig
    backbone: Backbone
    prompts: Prompts
    soft_tokens: SoftTokens | None = None
    correction: Correction | None = None
    """How its logit corrects the ensemble's; None where it learned labels."""

    def logits(
        self, samples: Samples, base: Rung, reporter: Reporter | None = None, title: str = "language model"
    ) -> Floats:
        """Raw logits of samples, float32 [n]; where it learned what the ensemble leaves open, the logits of `base` as
        it corrects them."""
        config, reporter = self.config, reporter or Reporter(quiet=True)
        with reporter.task(f"{title}: samples", len(samples)) as task:
            said = score_samples(
                self.backbone, self.prompts, samples, 2 * config.batch_tokens, config.eval_context_share,
                lambda done, tokens: task.update(done, f"{tokens:,} tokens"), config.eval_window_tokens,
                self.soft_tokens,
            )  # fmt: skip
        return self.corrected(samples, said, base)

    def corrected(self, samples: Samples, said: Floats, base: Rung) -> Floats:
        """What its own logits (float32 [n], nan where it was not asked) mean of samples: the same, unless it was
        trained for a residual of `base`."""
        asked = np.flatnonzero(~np.isnan(said))
        if self.correction is None or not len(asked):
            return said
        logits = said.copy()
        logits[asked] = self.correction(base.outputs(samples.take(asked))[0], said[asked])
        return logits

    def narrowed(self, scope: Scope) -> "RequestLLM":
        """The same for the small world of a request; the same one where the prompt style cannot share prefixes."""
        sharing = self.prompts.sharing
        return self if sharing is None else replace(self, prompts=sharing.narrowed(scope))


def load_llm(config: Config, dataset: Dataset, backbone: Backbone | None = None) -> RequestLLM:
    """The configured language model with fresh adapters, or `backbone`, and prompts of a dataset."""
    backbone = backbone or make_trainable(load_backbone(config.llm), config.llm, config.seed)
    make = timeline_prompts if config.llm.prompt == "timeline" else PointwisePrompts
    return RequestLLM(config.llm, backbone, make(dataset, backbone, config.llm))

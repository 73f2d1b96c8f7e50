"""What the language model's part of CLLM4Rec says beside the pooled one: validation rows choose. [ours]"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corella.retrieval.cllm4rec.model import CLLM
from corella.retrieval.histories import top_items
from corella.retrieval.measures import ndcg_at

Ints = npt.NDArray[np.int64]

LLM_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LOGITS = 4_000_000
"""In one block of users: what bounds the memory."""


@dataclass(frozen=True)
class Weight:
    """A weight that was tried."""

    llm: float
    ndcg100: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Of each user on validation rows."""

    @property
    def quality(self) -> float:
        """Mean NDCG@100."""
        return float(self.ndcg100.mean())


@torch.inference_mode()
def try_weights(
    model: CLLM,
    parts: tuple[Tensor, Tensor],
    histories: Sequence[Ints],
    wanted: Sequence[Ints],
    llm_weights: Sequence[float],
) -> list[Weight]:
    """Everything that was tried, the best by NDCG@100 first.

    `parts`: the language model's and the pooled part of the states of the validation users, whose training items are
    `histories` and validation items `wanted`.
    """
    told, pooled = parts
    block = max(1, _LOGITS // len(model.bias))
    tried = []
    for llm in llm_weights:
        found: list[np.ndarray] = []
        for start in range(0, len(histories), block):
            part = slice(start, start + block)
            scores = model.item_logits(llm * told[part] + pooled[part]).cpu().numpy()
            found.append(ndcg_at(100, top_items(scores, histories[part], 100), wanted[part]))
        tried.append(Weight(llm, np.concatenate(found)))
    return sorted(tried, key=lambda weight: -weight.quality)


def worthwhile(tried: Sequence[Weight]) -> Weight:
    """The best of what was tried, but without the language model where its gain is no more than noise (95 %, over
    users): reading it is what costs. `tried`: the best first."""
    best, cheap = tried[0], next((w for w in tried if w.llm == 0), None)
    if cheap is None or best.llm == 0 or len(best.ndcg100) < 2:
        return best
    gain = best.ndcg100 - cheap.ndcg100
    return best if gain.mean() > 1.96 * gain.std(ddof=1) / len(gain) ** 0.5 else cheap

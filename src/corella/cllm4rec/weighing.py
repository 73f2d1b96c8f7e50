"""What each part of retrieval says beside the others: weights that validation rows choose. [ours]"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corella.cllm4rec.ease import Ease, fit_ease
from corella.cllm4rec.metrics import ndcg_at
from corella.cllm4rec.model import CLLM
from corella.cllm4rec.recommend import top_items

Ints = npt.NDArray[np.int64]

LLM_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
EASE_WEIGHTS = (2.5, 5.0, 10.0, 20.0, 40.0)
EASE_PENALTIES = (50.0, 100.0, 200.0, 400.0, 800.0)
_LOGITS = 4_000_000
"""In one block of users: what bounds the memory."""


@dataclass(frozen=True)
class Weights:
    """What was tried; an EASE weight of 0 is without it."""

    llm: float
    ease: float = 0.0
    penalty: float = 0.0
    ndcg100: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Of each user on validation rows."""

    @property
    def quality(self) -> float:
        """Mean NDCG@100."""
        return float(self.ndcg100.mean())


@torch.inference_mode()
def choose_weights(
    model: CLLM,
    parts: tuple[Tensor, Tensor],
    histories: Sequence[Ints],
    wanted: Sequence[Ints],
    liked: Sequence[Ints],
    llm_weights: Sequence[float],
    ease: bool,
) -> list[Weights]:
    """Everything that was tried, the best by NDCG@100 first.

    `parts`: the language model's and the pooled part of the states of the validation users, whose training items are
    `histories` and validation items `wanted`; `liked`: all users' training items, which EASE learns from.
    """
    told, pooled = parts
    items = len(model.bias)
    block = max(1, _LOGITS // items)
    quality: dict[tuple[float, float, float], list[np.ndarray]] = defaultdict(list)
    for penalty in (0.0, *(EASE_PENALTIES if ease else ())):
        beside = Ease(fit_ease(liked, items, penalty), 1.0) if penalty else None
        for start in range(0, len(histories), block):
            part = slice(start, start + block)
            more = None if beside is None else beside.logits(histories[part])
            for llm in llm_weights:
                head = model.item_logits(llm * told[part] + pooled[part]).cpu().numpy()
                for weight in (0.0,) if more is None else EASE_WEIGHTS:
                    lists = top_items(head if more is None else head + weight * more, histories[part], 100)
                    quality[llm, weight, penalty].append(ndcg_at(100, lists, wanted[part]))
    tried = [Weights(*chosen, ndcg100=np.concatenate(each)) for chosen, each in quality.items()]
    return sorted(tried, key=lambda weights: -weights.quality)


def worthwhile(tried: Sequence[Weights]) -> Weights:
    """The best of what was tried, but without the language model where its gain is no more than noise (95 %, over
    users): reading it is what costs. `tried`: the best first."""
    best, cheap = tried[0], next((w for w in tried if w.llm == 0), None)
    if cheap is None or best.llm == 0 or len(best.ndcg100) < 2:
        return best
    gain = best.ndcg100 - cheap.ndcg100
    return best if gain.mean() > 1.96 * gain.std(ddof=1) / len(gain) ** 0.5 else cheap

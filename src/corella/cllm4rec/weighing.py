"""What each part of retrieval says beside the others: weights that validation rows choose. [ours]"""

from collections.abc import Sequence
from dataclasses import dataclass

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
EASE_WEIGHTS = (5.0, 10.0, 20.0)
EASE_PENALTIES = (50.0, 100.0, 200.0, 400.0, 800.0)


@dataclass(frozen=True)
class Weights:
    """What was chosen; an EASE weight of 0 is without it."""

    llm: float
    ease: float = 0.0
    penalty: float = 0.0
    ndcg100: float = float("nan")
    """On validation rows."""


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
    heads = {weight: model.item_logits(weight * told + pooled).cpu().numpy() for weight in llm_weights}
    tried = []
    items = len(model.bias)
    for penalty in (0.0, *(EASE_PENALTIES if ease else ())):
        weights = fit_ease(liked, items, penalty) if penalty else np.zeros((items, items), np.float32)
        beside = Ease(weights, 1.0).logits(histories)
        for ease_weight in EASE_WEIGHTS if penalty else (0.0,):
            for llm_weight, head in heads.items():
                lists = top_items(head + ease_weight * beside, histories, 100)
                quality = float(ndcg_at(100, lists, wanted).mean())
                tried.append(Weights(llm_weight, ease_weight, penalty, quality))
    return sorted(tried, key=lambda weights: -weights.ndcg100)

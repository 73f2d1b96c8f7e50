"""The state of a user in one forward pass over the whole history; it scores all items, and no item is ever made up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corella.config import RetrievalConfig
from corella.llm.scoring import group_by_tokens
from corella.retrieval.cllm4rec.documents import Documents
from corella.retrieval.cllm4rec.model import CLLM
from corella.retrieval.histories import Reader

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Planned:
    place: int
    tokens: int


def reader_states(model: CLLM, documents: Documents, readers: Sequence[Reader], config: RetrievalConfig) -> Tensor:
    """The item state after each reader's history, float32 [readers, width], asked as fine-tuning asked. Where the
    language model has no weight it is not read.

    The newest `config.longest_history` items are read, in batches of twice the training's tokens.
    """
    told, pooled = state_parts(model, documents, readers, config, float(model.weight) > 0)
    return model.weight * told + pooled


@torch.inference_mode()
def state_parts(
    model: CLLM, documents: Documents, readers: Sequence[Reader], config: RetrievalConfig, read: bool = True
) -> tuple[Tensor, Tensor]:
    """Both parts of the item states, [readers, width] each: the language model's (zeros, where it is not to be `read`)
    and the pooled one."""
    model.backbone.model.eval()
    told, pooled = (torch.zeros(len(readers), model.item_size, device=model.device) for _ in range(2))
    write = documents.collaborative if config.masked_share is None else documents.question
    written = [write(r.user, r.history[-config.longest_history :]) for r in readers]
    order = sorted((_Planned(n, d.tokens) for n, d in enumerate(written)), key=lambda p: p.tokens)
    for group in group_by_tokens(order, 2 * config.batch_tokens):
        chosen = [written[p.place] for p in group]
        pages, places = model.written(chosen), [p.place for p in group]
        at = (torch.arange(len(chosen), device=model.device), pages.last)
        if read:
            told[places] = model.told_state(pages)[at]
        pooled[places] = model.pooled_state(pages)[at]
    return told, pooled

"""Top items for users in one forward pass: the whole history, one state, all items scored. No item is ever made up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corella.cllm4rec.documents import Documents
from corella.cllm4rec.model import CLLM
from corella.config import RetrievalConfig
from corella.errors import UserError
from corella.llm.scoring import group_by_tokens

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reader:
    """Whom to recommend to: a user token (-1 for none) and liked items, oldest first."""

    user: int
    history: Ints


@dataclass(frozen=True)
class _Planned:
    place: int
    tokens: int


@torch.inference_mode()
def reader_states(model: CLLM, documents: Documents, readers: Sequence[Reader], config: RetrievalConfig) -> Tensor:
    """The item state after each reader's history, float32 [readers, width], asked as fine-tuning asked.

    The newest `config.longest_history` items are read, in batches of twice the training's tokens.
    """
    model.backbone.model.eval()
    states = torch.empty(len(readers), model.collaborative.item.embedding_dim, device=model.device)
    write = documents.collaborative if config.masked_share is None else documents.question
    written = [write(r.user, r.history[-config.longest_history :]) for r in readers]
    order = sorted((_Planned(n, d.tokens) for n, d in enumerate(written)), key=lambda p: p.tokens)
    for group in group_by_tokens(order, 2 * config.batch_tokens):
        chosen = [written[p.place] for p in group]
        state = model.item_states(chosen)
        last = state[torch.arange(len(chosen)), torch.tensor([d.tokens - 1 for d in chosen])]
        states[[p.place for p in group]] = last
    return states


def top_items(scores: Floats, exclude: Sequence[Ints], k: int, candidates: Ints | None = None) -> list[Ints]:
    """For each row of `scores` the codes of its best `k` items, best first (fewer where fewer may be recommended).

    `exclude`: items that must not come, one array a row; `candidates`: the only items that may.
    """
    if k < 1:
        raise UserError(f"k is {k}; ask for at least one item")
    scores = scores.copy()
    if candidates is not None:
        others = np.ones(scores.shape[1], dtype=bool)
        others[candidates] = False
        scores[:, others] = -np.inf
    result = []
    for row, seen in zip(scores, exclude, strict=True):
        row[seen] = -np.inf
        few = min(k, int(np.isfinite(row).sum()))
        best = np.argpartition(-row, few - 1)[:few] if few else np.zeros(0, np.int64)
        result.append(best[np.argsort(-row[best], kind="stable")])
    return result

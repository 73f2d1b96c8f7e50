"""The items' head before the language model takes part: an autoencoder of histories, trained in seconds. [ours]

Pooled embeddings of a random part of a user's items, through the output embeddings, predict the rest (multinomial
likelihood): linear, cheap, and hard to beat on histories alone. Fine-tuning then adds what the language model knows, so
it never begins below that.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from corella.config import RetrievalConfig
from corella.retrieval.cllm4rec.model import CLLM

Ints = npt.NDArray[np.int64]

_USERS, _MOST_USERS, _STEPS = 64, 512, 15
"""Users in a step, at least and at most; between them so many that an epoch has about so many steps: each makes the
items' tables anew."""


def start_from_popularity(model: CLLM, liked: Sequence[Ints]) -> None:
    """Set the bias of each item by how many users like it. `liked`: items by user code."""
    model.start_from_popularity(np.bincount(np.concatenate(liked), minlength=len(model.bias)))


def train_head(
    model: CLLM,
    liked: Sequence[Ints],
    config: RetrievalConfig,
    seed: int,
    on_step: Callable[[int, int], None] = lambda done, steps: None,
) -> None:
    """Train the pooled and the output embeddings and the bias of `model` anew, in place; they stay as they are then.
    Without such embeddings, or epochs, nothing changes.

    `liked`: items by user code; `on_step(done, steps)` is called after every step."""
    if model.pooled is None or model.output is None or config.head_epochs == 0:
        return
    start_from_popularity(model, liked)
    tables = (model.pooled, model.output)
    parameters = [model.bias, *(p for table in tables for p in table.parameters())]
    users = np.flatnonzero([len(items) > 1 for items in liked])
    if len(users) == 0:
        return
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    for table in tables:
        table.start(generator)
    for parameter in parameters:
        parameter.requires_grad_(True)
    maps = [table.map for table in tables]
    optimiser = torch.optim.AdamW(
        [
            {"params": [model.bias, *(table.own for table in tables)], "weight_decay": config.head_decay},
            {"params": maps, "weight_decay": config.head_text_decay},
        ],
        lr=config.head_rate,
    )
    at_once = min(max(_USERS, len(users) // _STEPS), _MOST_USERS)
    steps = config.head_epochs * -(-len(users) // at_once)
    done = 0
    for _ in range(config.head_epochs):
        order = rng.permutation(users)
        for start in range(0, len(order), at_once):
            part = order[start : start + at_once]
            for group in optimiser.param_groups:
                group["lr"] = config.head_rate * (1 - done / steps)
            told = torch.zeros(len(part), len(model.bias))
            for row, user in enumerate(part):
                told[row, torch.from_numpy(liked[user])] = 1.0
            shown = told * (torch.rand(told.shape, generator=generator) < config.head_shown)
            told, shown = told.to(model.device), shown.to(model.device)
            state = shown @ model.pooled(model.texts) / shown.sum(1, keepdim=True).clamp(min=1).sqrt()
            hidden = told - shown
            log_p = model.item_logits(state).log_softmax(-1)
            loss = (-(log_p * hidden).sum(1) / hidden.sum(1).clamp(min=1)).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            optimiser.step()
            done += 1
            on_step(done, steps)
    for parameter in parameters:
        parameter.requires_grad_(False).grad = None

"""The conventional model inside the language model: soft tokens at the places where items are asked about.

The idea of CoLLM (arXiv 2310.19488), brought to the timeline [ours]: what a conventional model thinks of a line, its
last hidden layer and its logit given everything before that line, is projected to the language model's width and
added to the embedding of the token at which the line's answer is predicted. It costs no tokens. The projection
starts at zero, so training begins from the language model as it was.

The *held-out base model* is one of its own, trained on the older part of the training rows; the language model's
targets are the newer part. With one model for both, its view of rows that it has learned is better than its view of new
ones, and the language model comes to trust it too much (docs/research/experiments.md).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from corella.crm.encoder import CRMEncoder
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.llm.prompts import Prompt

_FITTED_ON = 4096


def older_and_newer(train: Samples, share: float) -> tuple[Samples, Samples]:
    """Training samples cut in the log's order: what the held-out base model learns, what the language model does."""
    order = np.argsort(train.row, kind="stable")
    cut = round(len(train) * share)
    return train.take(order[:cut]), train.take(order[cut:])


class SoftTokens(nn.Module):
    """Vectors to add to the embeddings of `Prompt.asked`, from the held-out base model."""

    mean: Tensor
    scale: Tensor

    def __init__(self, base: nn.Module, encoder: CRMEncoder, dataset: Dataset, hidden_size: int) -> None:
        """`hidden_size`: the width of the language model's embeddings."""
        super().__init__()
        self.base = base.requires_grad_(False)
        self._encoder, self._dataset = encoder, dataset
        sizes: list[int] = base.hidden_sizes  # type: ignore[assignment]
        width = sizes[-1] + 1
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.project = nn.Linear(width, hidden_size, bias=False)
        nn.init.zeros_(self.project.weight)

    def fit_scale(self, samples: Samples, seed: int) -> None:
        """Set mean and scale of the view from some of these samples."""
        index = np.random.default_rng(seed).permutation(len(samples))[:_FITTED_ON]
        view = self._view(samples.take(np.sort(index)))
        self.mean.copy_(view.mean(0))
        # A view has a mean square of 1: a step of the projection moves an embedding little, however wide the view is.
        self.scale.copy_(view.std(0).clamp(min=1e-3) * view.shape[1] ** 0.5)

    def forward(self, prompts: Sequence[Prompt], samples: Samples) -> Tensor:
        """[lines, hidden] float32 for the prompts' `asked` positions, in order; `samples` are those that were
        planned. Gradients reach the projection, not the held-out base model."""
        return self.vectors(self.views(prompts, samples))

    def vectors(self, views: Tensor) -> Tensor:
        """[lines, width] of `views` -> [lines, hidden]."""
        found: Tensor = self.project((views.to(self.scale.device) - self.mean) / self.scale)
        return found

    def views(self, prompts: Sequence[Prompt], samples: Samples) -> Tensor:
        """[lines, width] float32: what the held-out base model thinks of the lines, in order."""
        context = self._dataset.samples(np.concatenate([p.row for p in prompts]))
        targets = samples.take(np.concatenate([p.sample for p in prompts]))
        views = torch.cat([self._view(part) for part in (context, targets) if len(part)])
        # Context lines and targets were looked up apart; bring them back into the order of the prompts.
        order, seen_context, seen_targets = [], 0, len(context)
        for p in prompts:
            place = np.empty(len(p.asked), dtype=np.int64)
            is_target = np.isin(p.asked, p.position)
            place[~is_target] = seen_context + np.arange(len(p.row))
            place[is_target] = seen_targets + np.arange(len(p.position))
            order.append(place)
            seen_context, seen_targets = seen_context + len(p.row), seen_targets + len(p.position)
        return views[torch.from_numpy(np.concatenate(order))]

    def to_model(self, device: torch.device) -> None:
        """What is trained lies where the language model does; the base model stays."""
        self.project.to(device)
        self.mean, self.scale = self.mean.to(device), self.scale.to(device)

    @torch.no_grad()
    def _view(self, samples: Samples) -> Tensor:
        """What the held-out base model thinks of samples, [n, width + 1]."""
        out = self.base.eval()(self._encoder.batch(samples))
        return torch.cat([out.hidden[-1], out.logit.unsqueeze(1)], dim=1).float()

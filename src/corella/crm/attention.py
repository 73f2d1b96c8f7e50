"""How the entries of a history are pooled for a target: weighted sums, some by fixed weights, one by learned ones."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Attention(nn.Module):
    """What pools a history [B, L, d] for a target [B, d]; `mask` [B, L] is true where there is an entry."""

    def sums(self, target: Tensor, history: Tensor, mask: Tensor, fixed: Tensor) -> Tensor:
        """[B, K + 1, d]: the sums of the entries by the weights `fixed` [B, K, L], then by the attention's own."""
        raise NotImplementedError

    def forward(self, target: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """The sum by the attention's own weights, [B, d]."""
        return self.sums(target, history, mask, history.new_empty(len(history), 0, history.shape[1]))[:, 0]


class DotAttention(Attention):
    """Target attention: the softmax of scaled dot products with the target; an empty history gives zeros."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(size, size, bias=False)

    def sums(self, target: Tensor, history: Tensor, mask: Tensor, fixed: Tensor) -> Tensor:
        """See `Attention`."""
        query = self.query(target) * history.shape[-1] ** -0.5
        found: Tensor = _DotSums.apply(history, query, mask, fixed)  # type: ignore[no-untyped-call]
        return found


class ActivationUnit(Attention):
    """DIN's attention: `sum_l a(h_l, t) h_l`, `a` a small perceptron of `[h, t, h - t, h * t]`.

    No softmax, as in the paper: the sum keeps how strong an interest is. PReLU as the activation.
    """

    def __init__(self, size: int, width: int = 32) -> None:
        super().__init__()
        self.history = nn.Linear(size, width, bias=False)
        self.target = nn.Linear(size, width)
        self.product = nn.Linear(size, width, bias=False)
        self.weight = nn.Sequential(nn.PReLU(), nn.Linear(width, 1))

    def sums(self, target: Tensor, history: Tensor, mask: Tensor, fixed: Tensor) -> Tensor:
        """See `Attention`."""
        # A linear map of [h, t, h - t, h * t] is one of h, one of t and one of h * t: the difference is
        # absorbed, and the target's share is computed once instead of for every entry.
        product = self.product(history * target.unsqueeze(1))
        inner = self.history(history) + self.target(target).unsqueeze(1) + product
        weight = self.weight(inner).squeeze(-1) * mask
        return torch.bmm(torch.cat([fixed, weight.unsqueeze(1)], dim=1), history)


class _DotSums(torch.autograd.Function):
    """The sums of `DotAttention`: every pass over the entries, forward or backward, is one product a sample, where
    autograd would make one for each use of them and add the gradients up."""

    @staticmethod
    def forward(ctx: Any, history: Tensor, query: Tensor, mask: Tensor, fixed: Tensor) -> Tensor:
        score = torch.bmm(query.unsqueeze(1), history.mT).squeeze(1)
        own = torch.softmax(score.masked_fill_(~mask, -1e4), dim=1) * mask
        weight = torch.cat([fixed, own.unsqueeze(1)], dim=1)
        ctx.save_for_backward(history, query, weight)
        return torch.bmm(weight, history)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        history, query, weight = ctx.saved_tensors
        own = weight[:, -1]
        of_own = torch.bmm(gradient[:, -1:], history.mT).squeeze(1)
        of_score = own * (of_own - (own * of_own).sum(1, keepdim=True))
        of_query = torch.bmm(of_score.unsqueeze(1), history).squeeze(1)
        left, right = (
            torch.cat([weight, of_score.unsqueeze(1)], dim=1),
            torch.cat([gradient, query.unsqueeze(1)], dim=1),
        )
        return torch.bmm(left.mT, right), of_query, None, None

"""Layer-wise alignment of the language model's and the conventional model's hidden states (arXiv 2403.16378,
section 3.2).

    L_align = sum_i sum_j || g_llm_j(h_llm[i, S_j]) - g_crm_j(h_crm[i, T_j]) ||_2 ^ a

Here the mean over samples stands for the sum, so that the weight gamma does not depend on the batch, and hidden states
are normalised (zero mean, unit variance over their width) before the projections g: the two models' states differ in
scale by orders of magnitude, and without it the alignment drowns the other losses [ours].
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LayerAlignment(nn.Module):
    """Learned projections of both sides into a shared space, one pair a CRM layer."""

    def __init__(
        self, llm_size: int, crm_sizes: Sequence[int], width: int, power: float, normalised: bool = True
    ) -> None:
        super().__init__()
        self.llm = nn.ModuleList(nn.Linear(llm_size, width) for _ in crm_sizes)
        self.crm = nn.ModuleList(nn.Linear(size, width) for size in crm_sizes)
        self.power = power
        self.prepare = normalise if normalised else Tensor.float

    def forward(self, llm_hidden: Sequence[Tensor], crm_hidden: Sequence[Tensor]) -> Tensor:
        """The loss, a scalar; both sides [n, size], one entry a layer."""
        total = torch.zeros((), device=llm_hidden[0].device)
        for g_llm, g_crm, h_llm, h_crm in zip(self.llm, self.crm, llm_hidden, crm_hidden, strict=True):
            squared = (g_llm(self.prepare(h_llm)) - g_crm(self.prepare(h_crm))).square().sum(-1)
            # The small constant keeps the gradient finite where both sides meet.
            distance = squared if self.power == 2 else (squared + 1e-12).pow(self.power / 2)
            total = total + distance.mean()
        return total


def normalise(hidden: Tensor) -> Tensor:
    """Each row of [n, size] to zero mean and unit variance, float32."""
    return nn.functional.layer_norm(hidden.float(), hidden.shape[-1:])


def spread_blocks(blocks: int, count: int) -> list[int]:
    """`count` transformer blocks evenly spaced up to the last (1 is the first). [ours]

    >>> spread_blocks(30, 3)
    [10, 20, 30]
    """
    return [max(1, round(blocks * (j + 1) / count)) for j in range(count)]

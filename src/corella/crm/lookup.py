"""Rows of a table looked up by index, and weighted sums of them, with a gradient that is made the same way.

The gradient of a table is, for each of its rows, the sum of what came back to every place where the row was read. torch
adds these one after another; here places are sorted by row first (a stable radix sort), and each row is one sum over a
run of them. The sums are the same, in the same order; on a processor they take an eighth of the time.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Ints = npt.NDArray[np.int64]


def rows(table: Tensor, index: Tensor) -> Tensor:
    """`table` [R, d] at `index` int64 of any shape -> [*index.shape, d].

    >>> rows(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 1, 0])).flatten().tolist()
    [2.0, 2.0, 1.0]
    """
    if not _by_us(table):
        return nn.functional.embedding(index, table)
    found: Tensor = _Rows.apply(table, index)  # type: ignore[no-untyped-call]
    return found


def sums(table: Tensor, index: Tensor, weight: Tensor, start: Tensor) -> Tensor:
    """Weighted sums of rows: one for each of the n runs of places that `start` begins -> [n, d].

    `table` [R, d] float32; `index` [N] int64: which row each place reads; `weight` [N]: by how much, a constant;
    `start` [n] int64, ascending, the first 0: where each run begins.

    >>> table = torch.tensor([[1.0], [2.0]])
    >>> sums(table, torch.tensor([0, 1, 1]), torch.tensor([1.0, 0.5, 3.0]), torch.tensor([0, 2])).flatten().tolist()
    [2.0, 6.0]
    """
    if not _by_us(table):
        return _sums(table, index, weight, start)
    found: Tensor = _Sums.apply(table, index, weight, start)  # type: ignore[no-untyped-call]
    return found


def sorted_by_row(row: Ints, count: int) -> tuple[Ints, Ints]:
    """Places sorted by the row that they read, places of one row in order; and where each of the `count` rows begins.
    numpy sorts integers of 16 bits by their digits, wider ones by comparing them: so rows are sorted 16 bits at a time.

    >>> order, start = sorted_by_row(np.array([2, 0, 2]), 4)
    >>> order.tolist(), start.tolist()
    ([1, 0, 2], [0, 1, 1, 3])
    """
    order = np.argsort(row.astype(np.uint16), kind="stable")
    for shift in range(16, count.bit_length(), 16):
        order = order[np.argsort((row[order] >> shift).astype(np.uint16), kind="stable")]
    end = np.cumsum(np.bincount(row, minlength=count))
    return order, np.r_[0, end[:-1]]


def _by_us(table: Tensor) -> bool:
    """Whether the gradient is made here: one is wanted, on a processor. torch's own is a sorted one on a GPU."""
    return torch.is_grad_enabled() and table.requires_grad and table.device.type == "cpu"


def _sums(table: Tensor, index: Tensor, weight: Tensor | None, start: Tensor) -> Tensor:
    return nn.functional.embedding_bag(index, table, start, mode="sum", per_sample_weights=weight)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.index, ctx.count = index, len(table)
        return nn.functional.embedding(index, table.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        order, start = map(torch.from_numpy, sorted_by_row(ctx.index.reshape(-1).numpy(), ctx.count))
        return _sums(gradient.reshape(-1, gradient.shape[-1]), order, None, start), None


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weight: Tensor, start: Tensor) -> Tensor:
        ctx.index, ctx.weight, ctx.start, ctx.count = index, weight, start, len(table)
        return _sums(table.detach(), index, weight, start)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        order, start = map(torch.from_numpy, sorted_by_row(ctx.index.numpy(), ctx.count))
        sizes = np.diff(ctx.start.numpy(), append=len(ctx.index))
        run = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
        return _sums(gradient, run.index_select(0, order), ctx.weight.index_select(0, order), start), None, None, None

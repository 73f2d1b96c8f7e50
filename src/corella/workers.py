"""The place of a process among the workers of a training. Alone, nothing here does anything.

All workers run the same program on the same data. Each reads its share of a batch; gradients are summed, so that all
take the same step. Losses are means over the whole batch: a worker's part is weighted by its share of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed

from corella.threads import usable_threads

T = TypeVar("T")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Workers:
    """A process, and how many there are.

    >>> np.arange(5)[Workers(1, 2).share].tolist()
    [1, 3]
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This worker's places in what all share: every `size`-th one."""
        return slice(self.rank, None, self.size)

    def mine(self, size: int) -> npt.NDArray[np.int64]:
        """The same as positions among `size`."""
        return np.arange(self.rank, size, self.size)

    def seed(self, *parts: int) -> int:
        """A seed for what may differ between workers (dropout)."""
        return int(np.random.SeedSequence([*parts, *([self.rank] if self.rank else [])]).generate_state(1)[0])

    def total(self, values: Floats) -> Floats:
        """The elementwise sum over all workers."""
        if self.size == 1:
            return values
        summed = torch.from_numpy(values.copy())
        distributed.all_reduce(summed)
        return summed.numpy()

    def whole(self, values: Floats, size: int) -> Floats:
        """All `size` values, of which `values` are those of this worker's share."""
        if self.size == 1:
            return values
        found = np.zeros(size, values.dtype)
        found[self.share] = values
        return self.total(found)

    def add_gradients(self, parameters: Iterable[Tensor], numbers: Floats) -> Floats:
        """Sum the gradients of all workers, in place, and return the sum of `numbers`: one message. A parameter has
        a gradient afterwards if it had one on any worker."""
        if self.size == 1:
            return numbers
        listed = list(parameters)
        there = torch.tensor([float(p.grad is not None) for p in listed])
        gradients = [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten().float().cpu() for p in listed]
        message = torch.cat([torch.from_numpy(numbers), there, *gradients])
        distributed.all_reduce(message)
        total, there, *gradients = message.split([len(numbers), len(listed), *(len(g) for g in gradients)])
        for p, any_, gradient in zip(listed, there.tolist(), gradients, strict=True):
            if any_:
                p.grad = gradient.view(p.shape).to(p.device, p.dtype)
        found: Floats = total.numpy()
        return found

    def first_says(self, told: bool) -> bool:
        """What the first worker says of something that each would decide by its own clock."""
        return bool(self.total(np.array([told and self.first], np.float32))[0]) if self.size > 1 else told

    def in_turn(self, make: Callable[[], T]) -> T:
        """What `make` returns: the first worker calls it with all the machine's threads, then the others, who find
        what it left on disk."""
        if self.size == 1:
            return make()
        if not self.first:
            distributed.barrier()
            return make()
        threads = torch.get_num_threads()
        torch.set_num_threads(usable_threads())
        try:
            made = make()
        finally:
            torch.set_num_threads(threads)
        distributed.barrier()
        return made


def here() -> Workers:
    """The workers of the training that runs in this process."""
    if distributed.is_available() and distributed.is_initialized():
        return Workers(distributed.get_rank(), distributed.get_world_size())
    return Workers()

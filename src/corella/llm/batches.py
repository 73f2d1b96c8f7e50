"""Prompts as tensors, and what is read off them in one piece.

A program gives a GPU its work ahead of time, unless it waits for it: for a number that it reads, for a copy out of
ordinary memory, for an index whose size depends on values. So what a step reads is rendered in the background
(`corella.ahead`), lies in page-locked memory, and what it finds comes back in one copy. On a CPU all of this is the
plain thing. [ours]
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corella.llm.prompts import Prompt


@dataclass(frozen=True)
class Batch:
    """The prompts of one forward pass, padded at the right; n targets in the order of prompts and positions."""

    ids: Tensor
    """[prompts, width] int64."""
    row: Tensor
    """[n] int64: the prompt of each target."""
    position: Tensor
    """[n] int64: the token behind which its answer is predicted."""
    line: Tensor
    """[lines] int64: the prompt of every line that asks for an item, whether a target or context."""
    place: Tensor
    """[lines] int64: its token."""
    mask: Tensor | None
    """What is added to attention scores, see `branch_mask`; None where no prompt has branches."""
    places: Tensor | None
    """[prompts, width] int64: each token's place in its own document; None where it is the position."""
    longest: int
    """Tokens of the longest document."""


def make_batch(prompts: Sequence[Prompt], dtype: torch.dtype) -> Batch:
    """Tensors on the CPU. `dtype`: of attention scores."""
    width = max(len(p.ids) for p in prompts)
    ids = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt.ids)] = prompt.ids
    mask, places = branch_mask(prompts, width, dtype) if any(len(p.branch) for p in prompts) else (None, None)
    each = np.arange(len(prompts))
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(np.repeat(each, [len(p.position) for p in prompts])),
        torch.from_numpy(np.concatenate([p.position for p in prompts])),
        torch.from_numpy(np.repeat(each, [len(p.asked) for p in prompts])),
        torch.from_numpy(np.concatenate([p.asked for p in prompts])),
        mask, places, width if places is None else int(places.max()) + 1,
    )  # fmt: skip


def branch_mask(prompts: Sequence[Prompt], width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What branches may see: what is added to attention scores, [prompts, 1, width, width], and each token's place in
    its own document, int64 [prompts, width]."""
    index = np.arange(width)
    mask = np.repeat((index <= index[:, None])[None], len(prompts), axis=0)
    places = np.repeat(index[None], len(prompts), axis=0)
    for row, prompt in enumerate(prompts):
        ends = [*prompt.branch.tolist(), len(prompt.ids)][1:]
        for begin, end, sees in zip(prompt.branch.tolist(), ends, prompt.sees.tolist(), strict=True):
            mask[row, begin:end, sees:begin] = False
            places[row, begin:end] = sees + np.arange(end - begin)
        places[row, len(prompt.ids) :] = 0
    added = torch.zeros(mask.shape, dtype=dtype).masked_fill_(torch.from_numpy(~mask), torch.finfo(dtype).min)
    return added.unsqueeze(1), torch.from_numpy(places)


def moved(value: Any, device: torch.device) -> Any:
    """A tensor, or a dataclass or tuple that holds some, on a device; a GPU's copies do not wait for it."""
    if isinstance(value, Tensor):
        return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)
    if isinstance(value, tuple):
        return tuple(moved(part, device) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: moved(getattr(value, each.name), device) for each in fields(value)})
    return value


def fetched(tensors: Sequence[Tensor]) -> list[npt.NDArray[np.float32]]:
    """The values of tensors of one device, float32 and flat: one copy, and the one time that the program waits."""
    if not tensors:
        return []
    flat = torch.cat([t.detach().float().flatten() for t in tensors]).cpu().numpy()
    return np.split(flat, np.cumsum([t.numel() for t in tensors])[:-1])

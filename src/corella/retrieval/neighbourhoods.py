"""The linear model for large catalogues: each item has weights from its nearest items alone, so memory is linear.

The same objective as in `linear.py`, column by column, over the items that are most often liked together with the item
or one after the other, and those whose texts are nearest. With all items near it is the same model.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix

from corella.retrieval.linear import Linear, Strengths, TextPart, TogetherCounts
from corella.weights import choose_dtype

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_PAIRS_AT_ONCE = 2_000_000
_SCORES_AT_ONCE = 64_000_000


def nearest_items(
    counts: TogetherCounts, text: TextPart | None, most: int, on_items: Callable[[int], None] = lambda done: None
) -> Ints:
    """For each item the codes of at most `most` others, int64 [items, most], -1 where there are fewer: half of them by
    text (where there is one), the others by how often they are liked together. `on_items` is told how many are done."""
    items = counts.items
    most = min(most, max(items - 1, 1))
    texts = 0 if text is None else most // 2
    liked = np.sqrt(np.maximum(counts.together.diagonal(), 1.0))
    both = (counts.together + counts.follows + counts.follows.T).tocsc()
    near = np.full((items, most), -1, dtype=np.int64)
    dtype = choose_dtype("auto")
    mapped = None if text is None else torch.from_numpy(text.mapped).to(dtype)
    block = max(1, _SCORES_AT_ONCE // items)
    for start in range(0, items, block):
        end = min(start + block, items)
        by_text: Ints = np.zeros((end - start, 0), np.int64)
        if mapped is not None and texts and text is not None:
            said = torch.from_numpy(text.vectors[start:end]).to(dtype) @ mapped.T
            said[torch.arange(end - start), torch.arange(start, end)] = -torch.inf
            by_text = said.float().topk(min(most, items - 1), dim=1).indices.numpy()
        for n, item in enumerate(range(start, end)):
            column = slice(both.indptr[item], both.indptr[item + 1])
            others = both.indices[column]
            strength = both.data[column] / liked[others]
            strength[others == item] = 0.0
            order = np.argsort(-strength, kind="stable")[: most - texts]
            together = others[order[strength[order] > 0]]
            # Where few are liked together, more come by text.
            chosen = np.fromiter(dict.fromkeys((*together.tolist(), *by_text[n].tolist())), np.int64)[:most]
            near[item, : len(chosen)] = chosen
        on_items(end)
    return near


def fit_neighbourhoods(counts: TogetherCounts, text: TextPart | None, strengths: Strengths, near: Ints) -> Linear:
    """Weights from the items in `near` (see `nearest_items`) alone; time grows with items times the cube of their
    number. What an item says for a new one is read off its own penalty alone, an approximation."""
    penalty, following = strengths.penalty, strengths.following
    pull = strengths.text if text is not None else 0.0
    known = _canonical(counts.together + following * counts.before)
    told = _canonical(counts.together + following * counts.follows)
    items, most = near.shape
    weights = np.zeros((items, most), np.float32)
    block = max(1, _PAIRS_AT_ONCE // most**2)
    ridge = torch.eye(most) * (penalty + pull)
    for start in range(0, items, block):
        chosen = near[start : start + block]
        real = chosen >= 0
        at = np.maximum(chosen, 0)
        row, column = np.broadcast_arrays(at[:, :, None], at[:, None, :])
        matrix = np.asarray(known[row.ravel(), column.ravel()], dtype=np.float32).reshape(row.shape)
        matrix *= real[:, :, None] & real[:, None, :]
        item = np.repeat(np.arange(start, start + len(at)), most)
        target = np.asarray(told[at.ravel(), item], dtype=np.float32).reshape(at.shape)
        if text is not None and pull:
            said = np.einsum("imd,id->im", text.mapped[at], text.vectors[start : start + len(at)])
            target += pull * said / (1 - text.own[start : start + len(at), None])
        solved = torch.linalg.solve(torch.from_numpy(matrix) + ridge, torch.from_numpy(target * real)[..., None])
        weights[start : start + block] = solved[..., 0].numpy() * real
    kept = near >= 0
    column = np.broadcast_to(np.arange(items)[:, None], near.shape)
    found = csr_matrix((weights[kept], (near[kept], column[kept])), shape=(items, items))
    to_new, from_new = np.zeros((items, 0), np.float32), np.zeros((0, items), np.float32)
    if text is not None and pull:
        to_new = text.mapped * (pull / (known.diagonal() + penalty + pull))[:, None].astype(np.float32)
        from_new = np.asarray((found.T @ text.mapped).T, dtype=np.float32)
    return Linear(found, replace(strengths, text=pull), to_new, from_new)


def _canonical(matrix: csr_matrix) -> csr_matrix:
    """Sorted and without repetitions, which makes looking up quick."""
    matrix = matrix.tocsr().astype(np.float32)
    matrix.sum_duplicates()
    return matrix

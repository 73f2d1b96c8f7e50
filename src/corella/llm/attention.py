"""Causal attention by device. [ours]

On processors, for training in bfloat16: plain matrix products, query heads of a group together. torch's fused attention
has a slow backward pass there: it took half of a training step, these products take a tenth. Elsewhere it is torch's,
under a name for which transformers makes no mask: it would look at the positions first, and so wait for the device.
"""

from typing import Any

import torch
from torch import Tensor

NAME, FUSED = "corella_grouped", "corella_fused"
_LONGEST = 1024
"""Beyond it the scores, which are kept for the backward pass, take too much memory."""


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention as transformers calls it: query [B, H, L, D], key and value [B, G, L, D]; returns [B, L, H, D].

    `attention_mask` [B, 1, L, L] is added to the scores in place of the causal one. Without a backward pass, in
    another dtype, or for long inputs it is torch's own.
    """
    batch, heads, length, width = query.shape
    trained = query.requires_grad or key.requires_grad or value.requires_grad
    if not trained or query.dtype != torch.bfloat16 or length > _LONGEST or key.shape[2] != length:
        return fused_attention(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    groups = key.shape[1]
    packed = (query * (scaling or width**-0.5)).reshape(batch, groups, heads // groups * length, width)
    scores = (packed @ key.transpose(-1, -2)).view(batch, heads, length, length)
    mask = causal_mask(length, query.dtype) if attention_mask is None else attention_mask
    weights = (scores + mask).softmax(-1).view(batch, groups, heads // groups * length, length)
    return (weights @ value).view(batch, heads, length, width).transpose(1, 2).contiguous(), None


def fused_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """torch's own; causal where there is no mask."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)[0], None


def causal_mask(length: int, dtype: torch.dtype) -> Tensor:
    """[length, length]: 0 where a position may look, else minus infinity."""
    return torch.full((length, length), float("-inf"), dtype=dtype).triu(1)


def only_causal(config: Any) -> bool:
    """Whether a model's attention is causal and no more: no windows, soft caps, chunks or sinks."""
    special = ("attn_logit_softcapping", "attention_chunk_size", "attention_dropout")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windows = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    sinks = config.model_type == "gpt_oss"
    return not (windows or sinks or kinds != {"full_attention"} or any(getattr(config, n, None) for n in special))


def takes_attention(model: Any) -> bool:
    """Whether a model's attention is only causal, and can be replaced by another implementation of that."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return only_causal(base.config) and bool(getattr(base, "_supports_attention_backend", False))


def choose_attention(model: Any) -> None:
    """Give a model whose attention is only causal the one of this file for its device; others keep theirs."""
    from transformers import AttentionInterface

    if model.config._attn_implementation != "sdpa" or not takes_attention(model):
        return
    if model.device.type != "cpu":
        AttentionInterface.register(FUSED, fused_attention)
        model.set_attn_implementation(FUSED)
    elif model.dtype == torch.bfloat16:
        AttentionInterface.register(NAME, grouped_attention)
        model.set_attn_implementation(NAME)

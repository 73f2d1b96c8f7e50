"""Grouped attention: the same numbers and gradients as torch's own, and only where it may stand in for it."""

import pytest
import torch
from transformers import (
    AttentionInterface,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from corella.llm.attention import FUSED, NAME, causal_mask, choose_attention, fused_attention, grouped_attention


def _inputs(dtype: torch.dtype) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    torch.manual_seed(1)
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 3, True  # type: ignore[assignment]
    shapes = ((2, 6, 17, 8), (2, 2, 17, 8), (2, 2, 17, 8))
    return module, [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients_are_those_of_torch(masked: bool) -> None:
    """The reference is computed in float32, so the distance is bfloat16's own rounding."""
    module, tensors = _inputs(torch.bfloat16)
    exact = [t.detach().float().requires_grad_() for t in tensors]
    mask = causal_mask(17, torch.float32)
    if masked:
        mask[:, 3:5] = torch.finfo(torch.bfloat16).min
        mask[3, 3] = mask[4, 4] = 0.0
    given = mask[None, None].expand(2, 1, 17, 17) if masked else None
    ours, _ = grouped_attention(module, *tensors, None if given is None else given.bfloat16(), scaling=0.4)
    theirs, _ = sdpa_attention_forward(module, *exact, given, scaling=0.4)
    assert ours.shape == (2, 17, 6, 8)
    assert torch.allclose(ours.float(), theirs, atol=0.03)
    direction = torch.randn_like(theirs)
    (ours.float() * direction).sum().backward()
    (theirs * direction).sum().backward()
    for mine, other in zip(tensors, exact, strict=True):
        assert mine.grad is not None and other.grad is not None
        assert torch.allclose(mine.grad.float(), other.grad, atol=0.12)


def test_without_a_backward_pass_it_is_torchs_own() -> None:
    module, tensors = _inputs(torch.bfloat16)
    with torch.no_grad():
        fixed = [t.detach() for t in tensors]
        ours, _ = grouped_attention(module, *fixed, None, scaling=0.4)
        assert torch.equal(ours, sdpa_attention_forward(module, *fixed, None, scaling=0.4)[0])


def test_the_future_is_not_seen() -> None:
    module, (query, key, value) = _inputs(torch.bfloat16)
    before, _ = grouped_attention(module, query, key, value, None)
    with torch.no_grad():
        key[:, :, 9:] += 1.0
        value[:, :, 9:] -= 1.0
    after, _ = grouped_attention(module, query, key, value, None)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


_SIZES = {
    "vocab_size": 20,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def test_which_models_train_with_it() -> None:
    plain = LlamaForCausalLM(LlamaConfig(**_SIZES)).bfloat16()
    choose_attention(plain)
    assert plain.config._attn_implementation == NAME
    in_float32 = LlamaForCausalLM(LlamaConfig(**_SIZES))
    choose_attention(in_float32)
    assert in_float32.config._attn_implementation == "sdpa"
    elsewhere = LlamaForCausalLM(LlamaConfig(**_SIZES)).to("meta")
    choose_attention(elsewhere)
    assert elsewhere.config._attn_implementation == FUSED
    with_windows = Gemma2ForCausalLM(Gemma2Config(**_SIZES, head_dim=8, num_key_value_heads=1)).bfloat16()
    choose_attention(with_windows)
    assert with_windows.config._attn_implementation != NAME
    assert MistralConfig(**_SIZES).sliding_window  # the kind of model that the check for windows is for


def test_fused_is_what_torch_has_and_compiles_whole() -> None:
    """The same states as under transformers' own name for it, and no break in a compiled block."""
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**_SIZES)).eval()
    ids = torch.randint(0, 20, (2, 9))
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        AttentionInterface.register(FUSED, fused_attention)
        model.set_attn_implementation(FUSED)
        torch.testing.assert_close(model(ids, use_cache=False).logits, expected, rtol=0, atol=0)
        for block in model.model.layers:
            block.compile(backend="eager", fullgraph=True)
        torch.testing.assert_close(model(ids, use_cache=False).logits, expected)

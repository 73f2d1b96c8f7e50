"""Parts of gpu.py: the card's peak, correctness against the processor, and speed of small and large models.

A share of peak is model arithmetic over time over the measured peak. Arithmetic of a token, N the weights of the blocks:
2 N forward, 6 N in training of all weights, 4 N with LoRA, whose frozen weights need no gradient of their own; and
attention's 4 L T D a token forward (L blocks, D their width, T tokens of context, half of that where causal). Nothing
else is counted.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from corella.config import LLMConfig
from corella.data.dataset import load_prepared
from corella.llm.backbone import Backbone, load_backbone, make_trainable, trainable
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt
from corella.llm.scoring import score_samples
from corella.llm.timeline import TimelinePrompts

if TYPE_CHECKING:
    from gpu import Setting

Found = dict[str, Any]


def timed(work: Callable[[], Any], device: torch.device, times: int) -> float:
    """Median seconds of `work`, after two calls that do not count."""
    seconds = []
    for n in range(times + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if n >= 2:
            seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def peak(setting: "Setting", found: Found) -> Found:
    """bfloat16 matrix products of 8192."""
    size = 256 if setting.dry else 8192
    a, b = (torch.randn(size, size, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = timed(lambda: a @ b, setting.device, 20)
    return {"bfloat16_tflops": 2 * size**3 / seconds / 1e12}


def correctness(setting: "Setting", found: Found) -> Found:
    """Logits of some test rows: packed, each row alone, and behind a shared prefix; against float32 on the processor."""
    torch.backends.cuda.matmul.allow_tf32 = False
    dataset = load_prepared(setting.prepared / "ml-1m" / "dataset")
    test = dataset.samples("test")
    few = test.take(np.arange(6 if setting.dry else 60))
    new = few.take(np.arange(len(few)))
    new = type(new)(**{**new.__dict__, "row": np.full(len(new), -1)})
    told: dict[str, np.ndarray] = {}
    for name, device, dtype in (
        ("processor", "cpu", "float32"), ("float32", setting.device.type, "float32"),
        ("bfloat16", setting.device.type, "bfloat16"),
    ):  # fmt: skip
        config = LLMConfig.model_validate({"backbone": setting.backbone, "device": device, "dtype": dtype})
        backbone = load_backbone(config)
        prompts = TimelinePrompts(dataset, backbone, config)
        told[f"{name} packed"] = score_samples(backbone, prompts, few, 4096, 0.5, window_tokens=512)
        alone = [score_samples(backbone, prompts, new.take(np.array([n])), 4096, 0.5, window_tokens=512)
                 for n in range(len(new))]  # fmt: skip
        told[f"{name} alone"] = np.concatenate(alone)
        scorer = PrefixScorer(backbone, PrefixCache(1 << 30))
        shared = prompts.shared(new, 0.5, 512)
        said = np.full(len(new), np.nan, np.float32)
        for prompt, logits in zip(shared, scorer.logits([""] * len(shared), shared), strict=True):
            said[prompt.sample] = logits
        told[f"{name} shared prefix"] = said
    reference = told["processor alone"]
    apart = {
        name: float(np.abs(z - reference).max()) for name, z in told.items() if "alone" in name or "shared" in name
    }
    packed = told["processor packed"]
    return apart | {name: float(np.abs(z - packed).max()) for name, z in told.items() if "packed" in name}


def _arithmetic(backbone: Backbone, tokens: int, context: int, factor: int) -> float:
    """Operations of a pass: `factor` 2 forward, 4 LoRA, 6 all weights."""
    blocks = sum(
        p.numel() for name, p in backbone.decoder.named_parameters() if "layers" in name and "lora" not in name
    )
    config = backbone.model.config
    return factor * tokens * (blocks + config.num_hidden_layers * context * config.hidden_size)


def _step(backbone: Backbone, ids: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
    """A training step of timelines: an answer every twelve tokens."""
    places = torch.arange(11, ids.shape[1], 12, device=ids.device)
    hidden = backbone.decoder(input_ids=ids, use_cache=False).last_hidden_state[:, places].float()
    logit = backbone.answer_logits(hidden.reshape(-1, hidden.shape[-1]))
    nn.functional.binary_cross_entropy_with_logits(logit, (logit > 0).float()).backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _training(
    setting: "Setting", make: Callable[[], Backbone], tuned: str, rows: int, length: int, compiled: bool
) -> Found:
    factor = 6 if tuned == "all" else 4
    backbone = make()
    if compiled:
        for block in backbone.decoder.layers:  # type: ignore[union-attr]
            block.compile()
    backbone.model.train()
    weights = list(trainable(backbone).values())
    optimiser = torch.optim.AdamW(weights, lr=1e-5, fused=setting.device.type == "cuda")
    ids = torch.randint(100, 1000, (rows, length), device=setting.device)
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(lambda: _step(backbone, ids, optimiser), setting.device, 5)
    tokens = rows * length
    memory = torch.cuda.max_memory_allocated() / 2**30 if setting.device.type == "cuda" else 0.0
    return {
        "tokens_per_second": tokens / seconds, "tflops": _arithmetic(backbone, tokens, length // 2, factor) / seconds / 1e12,
        "tokens": tokens, "window": length, "peak_gib": memory, "compiled": compiled,
    }  # fmt: skip


def _shares(rows: dict[str, Found], found: Found) -> Found:
    best = found["peak"]["bfloat16_tflops"]
    return {
        name: row | ({"share_of_peak": row["tflops"] / best} if "tflops" in row else {}) for name, row in rows.items()
    }


def small_model(setting: "Setting", found: Found) -> Found:
    """SmolLM2-135M: training of all weights and of LoRA, forward, shared prefixes."""
    rows, length = (2, 64) if setting.dry else (64, 512)
    done: dict[str, Found] = {}

    def make(tuned: str) -> Backbone:
        config = LLMConfig.model_validate({
            "backbone": setting.backbone, "tuned": tuned, "dtype": "bfloat16", "lora_dropout": 0.0,
        })  # fmt: skip
        return make_trainable(load_backbone(config), config, 1)

    for tuned in ("all", "lora"):
        for compiled in (False, True) if setting.device.type == "cuda" else (False,):
            name = f"training, {tuned}{', compiled' if compiled else ''}"
            done[name] = _attempt(lambda t=tuned, c=compiled: _training(setting, lambda: make(t), t, rows, length, c))
            print(name, done[name], flush=True)
            if setting.device.type == "cuda":
                torch.cuda.empty_cache()
    backbone = make("all")
    backbone.model.eval()
    ids = torch.randint(100, 1000, (4 * rows, length), device=setting.device)

    def forward() -> None:
        with torch.inference_mode():
            backbone.decoder(input_ids=ids, use_cache=False)

    seconds = timed(forward, setting.device, 5)
    tokens = ids.numel()
    done["forward"] = {
        "tokens_per_second": tokens / seconds, "tflops": _arithmetic(backbone, tokens, length // 2, 2) / seconds / 1e12,
    }  # fmt: skip
    done["shared prefix"] = _prefixes(backbone, setting, 2 if setting.dry else 16, length, 10 if setting.dry else 200)
    return _shares(done, found)


def _prefixes(backbone: Backbone, setting: "Setting", users: int, length: int, candidates: int) -> Found:
    """Candidates a second: users' histories are read and kept, then asked behind; both parts apart."""
    rng = np.random.default_rng(1)
    scorer = PrefixScorer(backbone, PrefixCache(32 << 30))
    branches = [rng.integers(100, 1000, 12) for _ in range(candidates)]
    prompts = [SharedPrompt(rng.integers(100, 1000, length), branches, np.arange(candidates)) for _ in range(users)]
    cold = timed(lambda: scorer.logits([""] * users, prompts), setting.device, 3)
    names = [str(n) for n in range(users)]
    scorer.logits(names, prompts)
    warm = timed(lambda: scorer.logits(names, prompts), setting.device, 3)
    return {
        "candidates_per_second": users * candidates / cold, "kept_candidates_per_second": users * candidates / warm,
        "users": users, "history_tokens": length, "candidates": candidates,
    }  # fmt: skip


def seven_billion(setting: "Setting", found: Found) -> Found:
    """A model of LLaMA-7B's shape with random weights: LoRA training and shared prefixes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    small = LLMConfig.model_validate({"backbone": setting.backbone})
    known = load_backbone(small)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2} if setting.dry else {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    }  # fmt: skip
    config = LlamaConfig(vocab_size=32000, use_cache=False, max_position_embeddings=4096, **shape)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with setting.device:
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.requires_grad_(False)

    def make() -> Backbone:
        return make_trainable(Backbone(model, known.tokenizer, 101, 102), LLMConfig(lora_dropout=0.0), 1)

    rows, length = (1, 32) if setting.dry else (8, 512)
    done = {"LoRA training": _attempt(lambda: _training(setting, make, "lora", rows, length, compiled=False))}
    plain = Backbone(model, known.tokenizer, 101, 102)
    done["shared prefix"] = _attempt(lambda: _prefixes(plain, setting, 2, length, 10 if setting.dry else 100))
    return _shares(done, found)


def _attempt(work: Callable[[], Found]) -> Found:
    """What `work` found, or its error: the next measurement is made all the same."""
    try:
        return work()
    except Exception as error:  # an error of the card, the compiler or the memory
        return {"error": f"{type(error).__name__}: {error}"[:500]}

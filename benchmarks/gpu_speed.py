"""Parts of gpu.py: the card's peak, correctness against the processor, and speed of small and large models.

A share of peak is model arithmetic over time over the measured peak. Arithmetic of a token forward is 2 N, N the
weights of the blocks, and attention's 4 L T D (L blocks of width D, T tokens of context: half a window, where causal).
Training of all weights takes three times that, LoRA twice: frozen weights need no gradient of their own. Nothing else
counts. A measurement for which no time is left is not made.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from corella.config import LLMConfig
from corella.data.store import load_prepared
from corella.llm.backbone import Backbone, load_backbone, make_trainable, trainable
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt
from corella.llm.scoring import score_samples
from corella.llm.timeline import TimelinePrompts, timeline_prompts

if TYPE_CHECKING:
    from gpu import Setting

Found = dict[str, Any]
_FORWARD, _LORA, _ALL = 2, 4, 6
"""Operations a token and weight."""
_LEAST = 8.0
"""Seconds that must be left for a measurement."""


def timed(work: Callable[[], Any], device: torch.device, times: int) -> float:
    """Median seconds of `work`, after two calls that do not count."""
    seconds = []
    for n in range(times + 2):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        if n >= 2:
            seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak(setting: "Setting") -> float:
    """TFLOP/s of bfloat16 matrix products of 8192."""
    size = 256 if setting.dry else 8192
    a, b = (torch.randn(size, size, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / timed(lambda: a @ b, setting.device, 20) / 1e12


def correctness(setting: "Setting", found: Found) -> Found:
    """The card's peak; logits of test rows, packed, alone and behind a shared prefix: how far from the processor's in
    float32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    dataset = load_prepared(setting.prepared / "ml-1m" / "dataset")
    few = dataset.samples("test").take(np.arange(6 if setting.dry else 60))
    new = replace(few, row=np.full(len(few), -1))
    told: dict[str, np.ndarray] = {}
    for name, device, dtype in (
        ("processor", "cpu", "float32"), ("float32", setting.device.type, "float32"),
        ("bfloat16", setting.device.type, "bfloat16"),
    ):  # fmt: skip
        config = LLMConfig.model_validate({"backbone": setting.backbone, "device": device, "dtype": dtype})
        backbone = load_backbone(config)
        prompts = timeline_prompts(dataset, backbone, config)

        def score(samples: Any, backbone: Backbone = backbone, prompts: TimelinePrompts = prompts) -> np.ndarray:
            return score_samples(backbone, prompts, samples, 4096, 0.5, window_tokens=512)

        told[f"{name} packed"] = score(few)
        told[f"{name} alone"] = np.concatenate([score(new.take(np.array([n]))) for n in range(len(new))])
        scorer = PrefixScorer(backbone, PrefixCache(1 << 30))
        shared = prompts.shared(new, 0.5, 512)
        said = np.full(len(new), np.nan, np.float32)
        for prompt, logits in zip(shared, scorer.logits([""] * len(shared), shared), strict=True):
            said[prompt.sample] = logits
        told[f"{name} shared prefix"] = said
    # Packed rows may have a longer history than they would have alone.
    packed, alone = told["processor packed"], told["processor alone"]
    apart = {name: float(np.abs(z - (packed if "packed" in name else alone)).max()) for name, z in told.items()}
    return {"bfloat16_tflops": peak(setting), "apart": apart}


def _arithmetic(backbone: Backbone, tokens: int, context: int, factor: int) -> float:
    """Operations of a pass over `tokens` that look back on `context` each."""
    named = backbone.decoder.named_parameters()
    blocks = sum(p.numel() for name, p in named if "layers" in name and "lora" not in name)
    config = backbone.model.config
    return factor * tokens * (blocks + 2 * config.num_hidden_layers * context * config.hidden_size)


def _words(backbone: Backbone) -> int:
    """Token ids below it are words that every model knows."""
    return min(1000, backbone.embeddings.shape[0])


def _step(backbone: Backbone, ids: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
    """A training step of timelines: an answer every twelve tokens."""
    places = torch.arange(11, ids.shape[1], 12, device=ids.device)
    hidden = backbone.decoder(input_ids=ids, use_cache=False).last_hidden_state[:, places].float()
    logit = backbone.answer_logits(hidden.reshape(-1, hidden.shape[-1]))
    nn.functional.binary_cross_entropy_with_logits(logit, (logit > 0).float()).backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _training(setting: "Setting", backbone: Backbone, factor: int, shape: tuple[int, int], compiled: bool) -> Found:
    if compiled:
        torch._dynamo.config.recompile_limit = 64  # a block may be compiled anew for its number
        for block in backbone.decoder.layers:  # type: ignore[union-attr]
            block.compile()
    backbone.model.train()
    cuda = setting.device.type == "cuda"
    optimiser = torch.optim.AdamW(list(trainable(backbone).values()), lr=1e-5, fused=cuda)
    ids = torch.randint(100, _words(backbone), shape, device=setting.device)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(lambda: _step(backbone, ids, optimiser), setting.device, 5)
    arithmetic = _arithmetic(backbone, ids.numel(), shape[1] // 2, factor)
    return {
        "tokens_per_second": ids.numel() / seconds, "tflops": arithmetic / seconds / 1e12, "tokens": ids.numel(),
        "window": shape[1], "compiled": compiled,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0,
    }  # fmt: skip


def _prefixes(setting: "Setting", backbone: Backbone, users: int, length: int, candidates: int) -> Found:
    """Candidates a second: users' histories are read and asked behind; and with histories that are kept."""
    rng = np.random.default_rng(1)
    scorer, most = PrefixScorer(backbone, PrefixCache(32 << 30)), _words(backbone)
    branches = [rng.integers(100, most, 12) for _ in range(candidates)]
    prompts = [SharedPrompt(rng.integers(100, most, length), branches, np.arange(candidates)) for _ in range(users)]
    cold = timed(lambda: scorer.logits([""] * users, prompts), setting.device, 3)
    names = [str(n) for n in range(users)]
    scorer.logits(names, prompts)
    warm = timed(lambda: scorer.logits(names, prompts), setting.device, 3)
    return {
        "candidates_per_second": users * candidates / cold, "kept_candidates_per_second": users * candidates / warm,
        "users": users, "history_tokens": length, "candidates": candidates,
    }  # fmt: skip


def small_model(setting: "Setting", found: Found) -> Found:
    """SmolLM2-135M: training of all weights and of LoRA, forward, shared prefixes."""
    shape, cuda = (2, 64) if setting.dry else (256, 512), setting.device.type == "cuda"
    done: Found = {}

    def make(tuned: str) -> Backbone:
        given = {"backbone": setting.backbone, "tuned": tuned, "dtype": "bfloat16", "lora_dropout": 0.0}
        config = LLMConfig.model_validate(given)
        return make_trainable(load_backbone(config), config, 1)

    for tuned, factor in (("all", _ALL), ("lora", _LORA)):
        for compiled in (True, False) if cuda else (False,):
            name = f"training, {tuned}{', compiled' if compiled else ''}"
            _attempt(
                setting, done, name, lambda t=tuned, f=factor, c=compiled: _training(setting, make(t), f, shape, c)
            )
            if cuda:
                torch.cuda.empty_cache()
    backbone = make("all")
    backbone.model.eval()
    users, candidates = (2, 10) if setting.dry else (16, 200)
    for how in ("", ", CUDA graph", ", compiled") if cuda else ("",):
        _attempt(setting, done, f"forward{how}", partial(_forward, setting, backbone, shape, how))
    backbone = make("all")
    _attempt(setting, done, "shared prefix", lambda: _prefixes(setting, backbone, users, shape[1], candidates))
    return _shares(done, found)


def _forward(setting: "Setting", backbone: Backbone, shape: tuple[int, int], how: str) -> Found:
    ids = torch.randint(100, _words(backbone), shape, device=setting.device)

    def read() -> None:
        with torch.no_grad():
            backbone.decoder(input_ids=ids, use_cache=False)

    if "compiled" in how:
        for block in backbone.decoder.layers:  # type: ignore[union-attr]
            block.compile()
    work = _recorded(read) if "graph" in how else read
    seconds = timed(work, setting.device, 5)
    arithmetic = _arithmetic(backbone, ids.numel(), shape[1] // 2, _FORWARD)
    return {"tokens_per_second": ids.numel() / seconds, "tflops": arithmetic / seconds / 1e12}


def _recorded(work: Callable[[], None]) -> Callable[[], None]:
    """The same work as a CUDA graph, which is launched at once."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(2):
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def seven_billion(setting: "Setting", found: Found) -> Found:
    """A model of LLaMA-7B's shape with random weights: LoRA training and shared prefixes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_backbone(LLMConfig.model_validate({"backbone": setting.backbone})).tokenizer
    width, inner, blocks = (64, 128, 2) if setting.dry else (4096, 11008, 32)
    config = LlamaConfig(
        vocab_size=32000, use_cache=False, max_position_embeddings=4096, hidden_size=width, intermediate_size=inner,
        num_hidden_layers=blocks, num_attention_heads=blocks,
    )  # fmt: skip
    torch.set_default_dtype(torch.bfloat16)
    try:
        with setting.device:
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    plain = Backbone(model.requires_grad_(False), tokenizer, 101, 102)
    shape = (1, 32) if setting.dry else (8, 512)
    adapted = make_trainable(plain, LLMConfig(lora_dropout=0.0), 1)
    done: Found = {}
    _attempt(setting, done, "LoRA training", lambda: _training(setting, adapted, _LORA, shape, compiled=False))
    users, candidates = (2, 10) if setting.dry else (2, 100)
    _attempt(setting, done, "shared prefix", lambda: _prefixes(setting, adapted, users, shape[1], candidates))
    return _shares(done, found)


def _shares(rows: dict[str, Found], found: Found) -> Found:
    best = found["correctness"]["bfloat16_tflops"]
    for row in rows.values():
        if "tflops" in row:
            row["share_of_peak"] = row["tflops"] / best
    return dict(rows)


def _attempt(setting: "Setting", done: Found, name: str, work: Callable[[], Found]) -> None:
    """Add what `work` finds, or its error: the next measurement is made all the same, if there is time."""
    if setting.left < _LEAST:
        return
    try:
        done[name] = work()
    except Exception as error:  # an error of the card, the compiler or the memory
        done[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
    print(name, done[name], flush=True)

"""The papers' setting on one GPU, in parts of twelve minutes together; OUT/gpu.json is written after every part.

    python benchmarks/gpu.py OUT --prepared PREPARED --backbone FILE --minutes 9.5
    python benchmarks/gpu.py OUT --prepared PREPARED --backbone FILE --dry-run     # tiny models, a minute on a CPU

PREPARED is what gpu_prepare.py made; gpu_pack.py packs it. Call again to resume: a part that is whole is not done again,
a training that was stopped goes on from its checkpoint in `--work`. What fails is written down with its error. Then, on
a processor, gpu_routing.py makes the routing tables, and gpu_page.py the page.

In order of worth. `reckoned`: from docs/benchmarks/gpu.json (one H200), and without that where it says so.

| part | what | cap, s | reckoned, s |
|---|---|---|---|
| correctness (a) | the card's peak; 60 logits three ways against the processor's | 60 | 42, measured |
| speed (b) | SmolLM2-135M: 4 trainings, 3 forward passes, shared prefixes | 140 | 131,072 tokens x 7 steps x 4 at 249,000 to 618,000 tokens/s: 10; compilations: not measured, 30 each |
| ranking (c) | TALLRec and CoReLLa, 33,891 targets of 275 tokens: 19M tokens to learn from, 11M to score | 360 | at 217,000 and 755,000 tokens/s: 101 |
| | timeline and residual, 6 trainings of 2 or 4 epochs beside them | | 12 of 2 epochs at once took 210 with another loop |
| | the best with 2 more seeds; then TALLRec and CoReLLa, in a second call | | 100; 220 |
| retrieval (d) | CLLM4Rec, all 30 blocks, frozen and trained, and 4 blocks; two datasets | 100 | 6 x 60 and 6 x 130 steps of some .1, side by side: not measured |
| 7B (e) | LLaMA-7B's shape: LoRA training, shared prefixes | 60 | 7 steps of 4,096 tokens at 15,400 tokens/s: 2; prefixes 2 |
"""  # noqa: E501

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from corella.config import LLMConfig
from corella.llm.backbone import load_backbone
from corella.weights import weights_of
from gpu_ranking import rankings
from gpu_retrieval import retrievals
from gpu_speed import correctness, seven_billion, small_model


@dataclass(frozen=True)
class Setting:
    """What the parts share."""

    out: Path
    """What is kept."""
    work: Path
    """Checkpoints, and what else is large."""
    prepared: Path
    backbone: str
    dry: bool
    deadline: float
    device: torch.device

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class Part:
    """One part: told what those before it found, it says what it found itself."""

    measure: Callable[[Setting, dict[str, Any]], dict[str, Any]]
    cap: float
    """Seconds that it may take."""


PARTS = {
    "correctness": Part(correctness, 60), "speed": Part(small_model, 140), "ranking": Part(rankings, 360),
    "retrieval": Part(retrievals, 100), "7B": Part(seven_billion, 60),
}  # fmt: skip
"""In order of worth."""
_LEAST = 15.0
"""Seconds that must be left for a part to begin."""


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "corella-gpu")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args(given)
    deadline = time.monotonic() + 60 * arguments.minutes
    work = arguments.work / ("dry" if arguments.dry_run else "full")
    for folder in (arguments.out, work):
        folder.mkdir(parents=True, exist_ok=True)
    model = (shrunk if arguments.dry_run else unpacked)(arguments.backbone, work / "weights")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setting = Setting(arguments.out, work, arguments.prepared, model, arguments.dry_run, deadline, device)
    measure(setting, arguments.parts)


def measure(setting: Setting, parts: Sequence[str]) -> dict[str, Any]:
    """Every part that is not whole yet and for which there is time; returns what OUT/gpu.json holds then."""
    kept = setting.out / "gpu.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    found["machine"] = torch.cuda.get_device_name() if setting.device.type == "cuda" else "CPU"
    found["libraries"] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    for name in parts:
        if whole(found.get(name)):
            continue
        if setting.left < _LEAST:
            print(f"{name}: no time left", flush=True)
            continue
        began = time.monotonic()
        part = replace(setting, deadline=min(setting.deadline, began + PARTS[name].cap))
        try:
            found[name] = PARTS[name].measure(part, found)
        except Exception as error:  # whatever it is, the other parts are worth the machine's time
            traceback.print_exc()
            found[name] = {**found.get(name, {}), "error": f"{type(error).__name__}: {error}"[:2000]}
        found[name]["seconds"] = time.monotonic() - began
        kept.write_text(json.dumps(found, indent=1))
        print(name, json.dumps(found[name])[:1500], flush=True)
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
    return found


def whole(part: dict[str, Any] | None) -> bool:
    """Whether a part was done, without an error and with all of its trainings."""
    return part is not None and "error" not in part and not part.get("missing")


def unpacked(backbone: str, folder: Path) -> str:
    """The same language model as a folder of safetensors: a GGUF takes long to read, and every process reads it."""
    if not (folder / "config.json").is_file():
        made = load_backbone(LLMConfig.model_validate({"backbone": backbone, "dtype": "float32", "device": "cpu"}))
        made.model.set_attn_implementation("sdpa")
        made.model.save_pretrained(folder)
        made.tokenizer.save_pretrained(folder)
    return str(folder)


def shrunk(backbone: str, folder: Path) -> str:
    """A tiny language model with random weights and the same tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(weights_of(backbone, "--backbone"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()

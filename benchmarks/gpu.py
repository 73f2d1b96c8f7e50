"""The papers' setting on one GPU, in parts; each adds to OUT/gpu.json as soon as it is done.

    python benchmarks/gpu.py OUT --prepared PREPARED --backbone FILE --minutes 9
    python benchmarks/gpu.py OUT --prepared PREPARED --dry-run        # tiny models, a minute on a CPU

PREPARED is what `llm_residual.py prepare` made, `--sequences` what `text_retrieval.py --sequences` made. A part that
fails is written down with its error, and the next one begins; a part that is done is not done again.
"""

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from corella.config import LLMConfig
from corella.llm.backbone import load_backbone
from gpu_runs import run_all
from gpu_speed import correctness, peak, seven_billion, small_model


@dataclass(frozen=True)
class Setting:
    """What the parts share."""

    out: Path
    prepared: Path
    sequences: Path | None
    backbone: str
    dry: bool
    deadline: float
    device: torch.device

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()


PARTS: dict[str, Callable[[Setting, dict[str, Any]], Any]] = {
    "peak": peak, "correctness": correctness, "small model": small_model, "7B": seven_billion, "runs": run_all,
}  # fmt: skip
"""In order of worth. Each is told what those before it found."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--sequences", type=Path)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--weights", type=Path, default=Path(tempfile.gettempdir()) / "corella-gpu-weights",
                        help="where the language model is kept in a form that loads fast")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setting = Setting(
        arguments.out, arguments.prepared, arguments.sequences, unpacked(arguments.backbone, arguments.weights),
        arguments.dry_run,
        time.monotonic() + 60 * arguments.minutes, device,
    )  # fmt: skip
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "gpu.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    found["machine"] = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    for name in arguments.parts:
        if "error" not in found.get(name, {"error": ""}) or setting.left < 20:
            continue
        began = time.monotonic()
        try:
            found[name] = PARTS[name](setting, found)
        except Exception as error:  # whatever it is, the other parts are worth the machine's time
            traceback.print_exc()
            found[name] = {"error": f"{type(error).__name__}: {error}"[:2000]}
        found[name]["seconds"] = time.monotonic() - began
        kept.write_text(json.dumps(found, indent=1))
        print(name, json.dumps(found[name])[:1500], flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def unpacked(backbone: str, folder: Path) -> str:
    """The same language model as a folder of safetensors: a GGUF takes long to read, and every process reads it."""
    if not (folder / "config.json").is_file():
        made = load_backbone(LLMConfig.model_validate({"backbone": backbone, "dtype": "float32", "device": "cpu"}))
        made.model.set_attn_implementation("sdpa")
        made.model.save_pretrained(folder)
        made.tokenizer.save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()

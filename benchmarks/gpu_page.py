"""The page of what gpu.py found: docs/benchmarks/gpu.{json,md}.

python benchmarks/gpu_page.py OUT/gpu.json COMMIT
"""

import argparse
from pathlib import Path
from typing import Any

from common import run, stamp, table, write_result
from corella.files import read_json

TITLE = "On a GPU"
TEXT = """\
One card, one run of benchmarks/gpu.py. SmolLM2-135M in bfloat16 unless said otherwise; the 7B model has LLaMA-7B's
shape and random weights. A share of peak is model arithmetic over time, over the card's measured bfloat16 matrix
product of 8192. Arithmetic of a token forward is twice the weights of the blocks, and attention's; training of all
weights takes three times that, LoRA twice, for frozen weights need no gradient of their own. Compiled: `torch.compile`,
block by block. Trainings on all targets stand on [their own page](llm-residual.md). Pages that name no card were
measured on a processor."""


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a measurement."""
    rows: list[dict[str, Any]] = []
    for part in ("small model, 32k tokens", "small model", "7B"):
        for name, row in found.get(part, {}).items():
            if isinstance(row, dict):
                rows.append({"model": "7B" if part == "7B" else "135M", "what": name, **row})
    return rows


def figures(found: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    best: dict[str, float] = {"bfloat16_peak_tflops": found["peak"]["bfloat16_tflops"]}
    named = {
        "train_mfu_135m": ("135M", "training, all"), "lora_mfu_135m": ("135M", "training, lora"),
        "lora_mfu_7b": ("7B", "LoRA training"), "forward_mfu_135m": ("135M", "forward"),
    }  # fmt: skip
    for name, (model, what) in named.items():
        shares = [
            r["share_of_peak"] for r in rows if r["model"] == model and r["what"].startswith(what) and "tflops" in r
        ]
        if shares:
            best[name] = max(shares)
    for name, model in (("prefix_candidates_per_second", "135M"), ("prefix_candidates_per_second_7b", "7B")):
        rates = [r["candidates_per_second"] for r in rows if r["model"] == model and "candidates_per_second" in r]
        if rates:
            best[name] = max(rates)
    apart = found["correctness"]
    for dtype in ("float32", "bfloat16"):
        best[f"logits_apart_{dtype}"] = max(v for k, v in apart.items() if k.startswith(dtype))
    return best


def page(title: str, text: str, result: dict[str, Any]) -> str:
    lines = [f"# {title}", "", text, "", stamp(result), "", "## Speed", ""]
    body = []
    for row in result["rows"]:
        body.append([
            row["model"], row["what"], f"{row.get('tokens', 0):,}" if "tokens" in row else "",
            f"{row['tokens_per_second']:,.0f}" if "tokens_per_second" in row else "",
            f"{row['share_of_peak']:.0%}" if "share_of_peak" in row else "",
            f"{row['candidates_per_second']:,.0f}" if "candidates_per_second" in row else "",
            f"{row['peak_gib']:.0f}" if row.get("peak_gib") else "",
        ])  # fmt: skip
    lines += table(
        ["model", "what", "tokens a step", "tokens a second", "share of peak", "candidates a second", "GiB"], body
    )
    lines += ["", "## Correctness", "", "Largest distance of 60 logits from those of the processor in float32.", ""]
    apart = [[name, f"{value:.1e}"] for name, value in result["correctness"].items() if name != "seconds"]
    lines += [*table(["logits", "distance"], apart), "", "## Figures", ""]
    lines += table(["figure", "value"], [[f"`{k}`", f"{v:,.4g}"] for k, v in result["figures"].items()])
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", type=Path)
    parser.add_argument("commit", help="what was measured")
    arguments = parser.parse_args()
    found = read_json(arguments.found)
    rows = rows_of(found)
    facts = {
        "seeds": [1], "commits": {"all": arguments.commit}, "correctness": found["correctness"],
        "machine": {"card": found["machine"], "torch": "2.11.0+cu130", "transformers": "5.17.0"},
    }  # fmt: skip
    write_result("gpu", TITLE, TEXT, rows, figures(found, rows), facts, page)


if __name__ == "__main__":
    run(main)

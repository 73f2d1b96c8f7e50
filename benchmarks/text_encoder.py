"""How fast texts are read, and how fast a new item is ranked: docs/benchmarks/text-encoder.{json,md}.

OPENBLAS_THREAD_TIMEOUT=4 python benchmarks/text_encoder.py --scientific FOLDER
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import commit, run, write_result
from corella.config.text import TextConfig
from corella.data.builtin.amazon_scientific import load
from corella.features.text.encoder import load_encoder
from corella.features.text.transformer import TransformerEncoder
from corella.retrieval.linear import Strengths, count_together, fit_linear, text_part
from corella.threads import usable_threads

NAME, TITLE = "text-encoder", "How fast texts are read"
TEXT = """\
all-MiniLM-L6-v2 in bfloat16 on the processor, item texts of Amazon Scientific (title, brand, description). Share of
peak: the encoder's arithmetic (twice the weights of its blocks a token, and attention) over time, over that of a
bfloat16 matrix product of 4096 on the same threads, measured in turn. What is missing to the peak is no matrix
product: attention, GELU and layer norms take half of the time at a width of 384. `new_item_ms`: a text that nobody has
read before to its place among 10,000 items for one user: tokens, encoder, weights, scores, order; median of 50,
with OPENBLAS_THREAD_TIMEOUT=4 as the command line sets it (without it
NumPy's threads spin while torch waits: 116 ms)."""
_TEXTS, _ITEMS, _TIMES = 1500, 10_000, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scientific", type=Path, required=True, help="the folder of amazon-scientific")
    arguments = parser.parse_args()
    torch.set_num_threads(usable_threads())
    items = load(arguments.scientific).items
    texts = [f"{t}. {b}. {d}" for t, b, d in items.select("title", "brand", "description").rows()][:_TEXTS]
    rows: list[dict[str, Any]] = []
    for tokens in (64, 128, 256):
        encoder = load_encoder(TextConfig(longest_tokens=tokens))
        encoder.encode(texts[:64])
        rows.append(measure(encoder, texts, tokens))
    figures = {
        "encoder_items_per_second": rows[1]["items_per_second"], "encoder_share_of_peak": rows[1]["share_of_peak"],
        "new_item_ms": new_item_ms(load_encoder(TextConfig()), texts),
    }  # fmt: skip
    write_result(NAME, TITLE, TEXT, rows, figures, {"seeds": [1], "commits": {"all": commit()}})


def measure(encoder: TransformerEncoder, texts: list[str], longest: int) -> dict[str, Any]:
    """Items a second, and the share of the peak that was measured around it."""
    tokenizer, model = encoder._loaded
    lengths = np.array([len(i) for i in tokenizer(texts, truncation=True, max_length=longest)["input_ids"]])
    blocks = sum(p.numel() for p in model.encoder.parameters())
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    work = float((2 * blocks * lengths + 4 * layers * width * lengths**2).sum())
    rates, peaks = [], []
    for _ in range(3):
        peaks.append(peak())
        began = time.perf_counter()
        encoder.encode(texts)
        rates.append(work / (time.perf_counter() - began))
    share = float(np.median([rate / best for rate, best in zip(rates, peaks, strict=True)]))
    seconds = work / float(np.median(rates))
    return {
        "longest_tokens": longest, "mean_tokens": float(lengths.mean()), "items_per_second": len(texts) / seconds,
        "tflops": work / seconds / 1e12, "peak_tflops": float(np.median(peaks)) / 1e12, "share_of_peak": share,
    }  # fmt: skip


def peak() -> float:
    """Operations a second of bfloat16 matrix products."""
    a, b = (torch.randn(4096, 4096, dtype=torch.bfloat16) for _ in range(2))
    a @ b
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - began)
    return 2 * 4096**3 / float(np.median(seconds))


def new_item_ms(encoder: TransformerEncoder, texts: list[str]) -> float:
    """Milliseconds from a new item's text to its place for a user among the known items."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(_ITEMS, 384)).astype(np.float32)
    histories = [rng.choice(_ITEMS, 10, replace=False) for _ in range(20_000)]
    text = text_part(vectors)
    model = fit_linear(count_together(histories, _ITEMS), text, Strengths(20.0, 100.0, 3.0, 0.7))
    taken = []
    for n in range(_TIMES):
        history = [histories[n]]
        began = time.perf_counter()
        new = model.new_scores(history, text.unit(encoder.encode([texts[n]])))[0, 0]
        _ = int((model.scores(history)[0] >= new).sum())
        taken.append(time.perf_counter() - began)
    return 1000 * float(np.median(taken))


if __name__ == "__main__":
    run(main)

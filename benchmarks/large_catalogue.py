"""Part of text_retrieval.py: time and memory of a retrieval of 200,000 items, on made-up rows.

python benchmarks/large_catalogue.py     # in a process of its own, for its peak memory
"""

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from corella.progress import Reporter, peak_gib
from corella.retrieval.linear import Strengths, count_together, text_part
from corella.retrieval.neighbourhoods import fit_neighbourhoods, nearest_items

ITEMS, USERS, EACH, WIDTH, KINDS = 200_000, 400_000, 10, 384, 2_000


def measure_large() -> dict[str, Any]:
    """What the script below prints, from a process of its own."""
    said = subprocess.run([sys.executable, __file__], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {"system": f"{ITEMS:,} items", **json.loads(said.splitlines()[-1])}


def main() -> None:
    """Items of some kinds, users who like a few kinds; texts say the kind."""
    rng = np.random.default_rng(1)
    kind = np.sort(rng.integers(0, KINDS, ITEMS))
    first = np.searchsorted(kind, np.arange(KINDS + 1))
    vectors = rng.normal(size=(KINDS, WIDTH)).astype(np.float32)[kind]
    vectors += rng.normal(size=vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    favourites = rng.integers(0, KINDS, (USERS, 2))
    drawn = np.take_along_axis(favourites, rng.integers(0, 2, (USERS, EACH)), axis=1)
    at = (rng.random((USERS, EACH)) * (first[drawn + 1] - first[drawn])).astype(np.int64)
    histories = list(np.minimum(first[drawn] + at, ITEMS - 1))
    times, began = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal began
        times[name], began = time.perf_counter() - began, time.perf_counter()

    counts, text = count_together(histories, ITEMS), text_part(vectors)
    lap("count_seconds")
    with Reporter().task("nearest items", ITEMS) as task:
        near = nearest_items(counts, text, 64, task.update)
    lap("nearest_seconds")
    model = fit_neighbourhoods(counts, text, Strengths(20.0, 100.0, 3.0, 0.7), near)
    lap("weights_seconds")
    model.scores(histories[:100])
    lap("hundred_users_seconds")
    print(json.dumps({**times, "train_peak_gib": peak_gib(), "items": ITEMS, "interactions": USERS * EACH}))


if __name__ == "__main__":
    main()

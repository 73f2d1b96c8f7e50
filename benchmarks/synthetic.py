"""A log of any size, as like a real one as a few lines can make it: popularity falls as a power, users have tastes,
popularity drifts, times tie, and a tenth of the items come late.

    python benchmarks/synthetic.py --rows 1e6 --out FOLDER

writes `log-00000.parquet`, ... in the order of time, and `items.parquet`. Part n of a log is the same whatever comes
behind it, so that a longer log begins with a shorter one.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from common import run

PART = 1_000_000
"""Rows a part; a part is a week."""
WEEK = 7 * 86_400
BEGIN = 1_600_000_000
KINDS = 50
_NEW = 0.1
"""Share of the items that the first week does not have."""


def items_of(rows: int) -> int:
    """How many items a log of so many rows has: 20,000 at a million, growing with the square root."""
    return max(int(20 * rows**0.5), 100)


def users_of(rows: int) -> int:
    """How many users: one for every 25 rows."""
    return max(rows // 25, 100)


def write_log(rows: int, folder: Path, seed: int = 1) -> list[Path]:
    """Write parts and items; returns the parts. Memory is that of one part."""
    folder.mkdir(parents=True, exist_ok=True)
    items, users = items_of(rows), users_of(rows)
    kind = np.random.default_rng(seed).integers(0, KINDS, items)
    _items(kind).write_parquet(folder / "items.parquet")
    parts = []
    for place, start in enumerate(range(0, rows, PART)):
        path = folder / f"log-{place:05d}.parquet"
        _part(place, min(PART, rows - start), users, kind, np.random.default_rng([seed, place])).write_parquet(path)
        parts.append(path)
    return parts


def write_day(rows: int, folder: Path, more: int, seed: int = 1) -> Path:
    """Write a part of `more` rows behind a log of `rows`; returns it."""
    kind = np.random.default_rng(seed).integers(0, KINDS, items_of(rows))
    place = -(-rows // PART)
    path = folder / f"log-{place:05d}.parquet"
    _part(place, more, users_of(rows), kind, np.random.default_rng([seed, place])).write_parquet(path)
    return path


def _items(kind: np.ndarray) -> pl.DataFrame:
    words = [f"kind{k} thing {n}" for n, k in enumerate(kind.tolist())]
    ids = [f"i{n}" for n in range(len(kind))]
    return pl.DataFrame({"item_id": ids, "title": words, "kind": [f"kind{k}" for k in kind.tolist()]})


def _part(week: int, rows: int, users: int, kind: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    items = len(kind)
    # Who is active is drawn as a power too, and everybody knows the first ranks of a popularity that drifts.
    user = (users * rng.random(rows) ** 2).astype(np.int64)
    there = items if week else int((1 - _NEW) * items)
    rank = np.minimum((there ** rng.random(rows)).astype(np.int64), there - 1)
    item = (rank * 7919 + week * 131 * (rank > 50)) % there
    favourite = (user * 2654435761) % KINDS
    liked = rng.random(rows) < np.where(kind[item] == favourite, 0.85, 0.3 + 0.3 * ((item * 40503) % 97) / 97)
    rating = np.clip(np.rint(np.where(liked, 4.3, 2.4) + rng.normal(0, 0.7, rows)), 1, 5)
    rating = np.where(liked, np.maximum(rating, 4), np.minimum(rating, 3))
    time = np.sort(BEGIN + week * WEEK + rng.integers(0, WEEK // 10, rows) * 10)  # to ten seconds: many ties
    return pl.DataFrame({
        "user_id": user, "item_id": pl.Series(item).cast(pl.String).str.replace("^", "i"), "rating": rating,
        "timestamp": time,
    })  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: int(float(text)), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    write_log(arguments.rows, arguments.out, arguments.seed)


if __name__ == "__main__":
    run(main)

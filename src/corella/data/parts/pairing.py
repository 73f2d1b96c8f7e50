"""Stages seven and eight: answers of the same user are paired, and what each pair of items had taught by then is
gathered, pair by pair; see `features.neighbours`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from corella.data.parts.frames import ROW, Desk, read_between, write_sorted
from corella.features.neighbours import Answers, each_pair, pair_terms
from corella.tasks.once import Facts

PAIR = "pair"
"""The part of a pair of items."""
TERMS = ("agreement", "total", "together")


@dataclass(frozen=True)
class Pairing:
    """Some users of a part of them."""

    desk: Desk
    file: Path
    """Of `own_said`."""
    slice: int
    items: int


def pair_up(task: Pairing, target: Path) -> Facts:
    """Write every row with each of the user's last answers before it, dealt out by pairs of items."""
    config, sizes = task.desk.config(), task.desk.cut
    mine = (pl.col("user") // sizes.crowds) % sizes.slices == task.slice
    frame = pl.scan_parquet(task.file, glob=False).filter(mine).collect()
    row = frame[ROW].to_numpy()
    user, item, learned = (frame[name].to_numpy().astype(np.int64) for name in ("user", "item", "learned"))
    residual, taught = frame["residual"].to_numpy(), frame["taught"].to_numpy()
    answers = Answers(user, item, residual, taught, np.ones(len(row), np.int64), learned)
    blocks = []
    for place, earlier, key in each_pair(answers, config.counts.neighbours, task.items):
        there = key >= 0
        here, before, pair = place[there], earlier[there], key[there].astype(np.int64)
        blocks.append(
            pl.DataFrame({
                PAIR: (pair % sizes.pairs).astype(np.int32), "key": pair, ROW: row[here],
                "said": residual[before].astype(np.float32), "product": taught[here] * taught[before],
                "learned": (learned[here] * learned[before]).astype(bool),
            })
        )  # fmt: skip
    pairs = pl.concat(blocks)
    write_sorted(pairs, PAIR, sizes.pairs, target)
    return {"pairs": pairs.height}


@dataclass(frozen=True)
class Gathering:
    """A part of the pairs of items."""

    desk: Desk
    files: tuple[Path, ...]
    """Of `pair_up`."""
    number: int
    items: int


def gather(task: Gathering, target: Path) -> Facts:
    """Write what the pairs of a part say of every row, summed, in the order of the log."""
    config = task.desk.config()
    columns = ["key", ROW, "said", "product", "learned"]
    pairs = read_between(task.files, PAIR, task.number, task.number + 1, columns).sort("key", ROW)
    key, row, said, product, learned = (pairs[name].to_numpy() for name in columns)
    terms = pair_terms(row, key, said.astype(np.float64), product, learned.astype(np.float64), config.counts.smoothing)
    rows, place = np.unique(row, return_inverse=True)
    sums = {
        name: np.bincount(place, weights=term, minlength=len(rows)) for name, term in zip(TERMS, terms, strict=True)
    }
    write_sorted(pl.DataFrame({ROW: rows, **sums}), ROW, task.desk.cut.parts, target)
    return {"rows": len(rows)}


def teach(task: Gathering, target: Path) -> Facts:
    """Write what all learned rows say of the pairs of a part: how many, and the sum of products."""
    columns = ["key", "product", "learned"]
    pairs = read_between(task.files, PAIR, task.number, task.number + 1, columns).filter("learned")
    taught = pairs.group_by("key").agg(pl.len().cast(pl.Float64).alias("count"), pl.col("product").sum()).sort("key")
    low, high = (pl.col("key") // task.items).cast(pl.Int32), (pl.col("key") % task.items).cast(pl.Int32)
    taught.select(low.alias("low"), high.alias("high"), "count", "product").write_parquet(target)
    return {"pairs": taught.height}

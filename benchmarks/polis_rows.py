"""Opinions of Polis conversations as datasets, by the protocols of the text benchmarks."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import ITEM, LABEL, SPLIT, TIME, USER
from corella.config import DataConfig
from corella.data.dataset import Dataset, make_dataset
from corella.features.text.items import read_items

Ints = npt.NDArray[np.int64]

_TOO_SMALL = "london.youth.policing"
_FOLDS = 5


def polis_dataset(folder: Path, protocol: str, seed: int, fold: int) -> Dataset:
    """Votes for and against statements; a pass is none, and of several votes the last one counts.

    `folds`: a fifth of the statements is test, a tenth validation, drawn by the seed, their own votes hidden. `newest`:
    the newest 20 % of each conversation's statements are test, the 10 % before them validation, hidden too; `warming`:
    the same, counted as they come. `time`: votes of each conversation, 8:1:1 in time.
    """
    votes = _votes(folder)
    statements = pl.read_parquet(folder / "statements.parquet").join(
        votes.select("item", "conversation").unique(), on="item", maintain_order="left"
    )
    if protocol == "time":
        place = pl.int_range(pl.len()).over("conversation") / pl.len().over("conversation")
        part = pl.when(place < 0.8).then(0).when(place < 0.9).then(1).otherwise(2)
        log = votes.with_columns(part=part)
    else:
        drawn = _folds(statements, seed, fold) if protocol == "folds" else _newest(statements)
        log = votes.join(statements.select("item", part=drawn), on="item", maintain_order="left")
    log = log.sort("part", maintain_order=True).select(
        pl.col("user").alias(USER), pl.col("item").alias(ITEM), (pl.col("timestamp_ms") // 1000).alias(TIME),
        (pl.col("vote") == 1).cast(pl.Int8).alias(LABEL),
        pl.col("part").replace_strict({0: "train", 1: "valid", 2: "test"}, return_dtype=pl.String).alias(SPLIT),
    )  # fmt: skip
    items = statements.select(pl.col("item").alias(ITEM), "text", "conversation")
    users = log.select(pl.col(USER).unique(maintain_order=True)).with_columns(text=pl.lit("Somebody votes."))
    counts = {"groups": [["user"], ["item"], ["conversation"]], "frozen": protocol in ("folds", "newest")}
    config = DataConfig.model_validate(
        {
            "source": "tables", "interactions": {"path": "votes.parquet"}, "label": "label", "counts": counts,
            "split": {"by": "column"}, "item_fields": ["conversation"],
        }
    )  # fmt: skip
    return make_dataset(log, users, items, config, read_items(items["text"].to_list(), config.text))


def _votes(folder: Path) -> pl.DataFrame:
    votes = pl.read_parquet(folder / "votes.parquet").sort("timestamp_ms", maintain_order=True)
    last = votes.unique(["user", "item"], keep="last", maintain_order=True)
    return last.filter((pl.col("vote") != 0) & (pl.col("conversation") != _TOO_SMALL))


def _newest(statements: pl.DataFrame) -> pl.Series:
    """0 training, 1 validation, 2 test, for each statement."""
    age = pl.col("created_ms").rank("ordinal").over("conversation") - 1
    place = age / pl.len().over("conversation")
    part = pl.when(place < 0.7).then(0).when(place < 0.8).then(1).otherwise(2)
    return statements.select(part.alias("part")).to_series()


def _folds(statements: pl.DataFrame, seed: int, fold: int) -> pl.Series:
    rng = np.random.default_rng(seed)
    order = rng.permutation(statements.height)
    test = np.array_split(order, _FOLDS)[fold]
    part = np.zeros(statements.height, dtype=np.int64)
    part[rng.permutation(np.setdiff1d(order, test))[: statements.height // 10]] = 1
    part[test] = 2
    return pl.Series(part)

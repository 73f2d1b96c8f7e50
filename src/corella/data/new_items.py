"""Which items are new: those of validation and test, where the split is by items. Never looks at labels."""

import numpy as np
import polars as pl

from corella.columns import ITEM
from corella.config import SplitConfig
from corella.data.times import exact_seconds
from corella.errors import UserError, suggest


def item_parts(log: pl.DataFrame, items: pl.DataFrame | None, config: SplitConfig, seed: int) -> pl.Expr:
    """For every row of an ordered log the part of its item: train, valid or test. Items without a row have none.

    Raises `UserError` where `items` has not the columns that the split names.
    """
    asked = log.select(ITEM).unique(maintain_order=True)
    group = pl.repeat("", asked.height, eager=True)
    if config.within is not None:
        group = of_items(asked, items, config.within, "within")
    part = _newest(asked, items, group, config) if config.newest else _dealt(asked, group, config, seed)
    names = part.replace_strict({0: "train", 1: "valid", 2: "test"}, return_dtype=pl.String)
    return pl.col(ITEM).replace_strict(asked[ITEM], names, return_dtype=pl.String)


def of_items(log: pl.DataFrame, items: pl.DataFrame | None, name: str, setting: str) -> pl.Series:
    """An item column for every row of a log; null for items without a value. Raises `UserError` where there is no such
    column, or it is a list."""
    columns = [] if items is None else items.columns
    if items is None or name not in columns:
        raise UserError(f"data.split.{setting}: the items have no column '{name}'; {suggest(name, columns)}")
    if items.schema[name].is_nested():
        raise UserError(f"data.split.{setting}: the items' column '{name}' is a list; name one with one value an item")
    return log.select(ITEM).join(items.select(ITEM, pl.col(name).alias("value")), on=ITEM, how="left",
                                 maintain_order="left")["value"]  # fmt: skip


def _dealt(asked: pl.DataFrame, group: pl.Series, config: SplitConfig, seed: int) -> pl.Series:
    """Items of each group in random order, dealt to the folds in turn: as many to each, of every group too."""
    # The order of ids, not of the log, so that new rows do not deal all items anew.
    drawn = pl.Series(np.random.default_rng(seed).permutation(asked.height)).gather(asked[ITEM].rank("ordinal") - 1)
    place = asked.select(pl.struct(group.alias("group"), drawn.alias("drawn")).rank("ordinal")).to_series() - 1
    fold = place.cast(pl.Int64) % config.folds
    next_one = (config.fold + 1) % config.folds
    return pl.select(pl.when(fold == config.fold).then(2).when(fold == next_one).then(1).otherwise(0)).to_series()


def _newest(asked: pl.DataFrame, items: pl.DataFrame | None, group: pl.Series, config: SplitConfig) -> pl.Series:
    """By fractions of the items of each group, the oldest first; of one age, those whose interactions came first."""
    age = pl.repeat(0.0, asked.height, eager=True)
    if config.created is not None:
        column = of_items(asked, items, config.created, "created")
        age = column.cast(pl.Float64) if column.dtype.is_numeric() else exact_seconds(column)
        if age.null_count() == age.len():
            raise UserError(f"data.split.created: no item has a time in the column '{config.created}'")
    table = pl.DataFrame({"group": group, "age": age}).with_row_index("first")
    table = table.sort("age", "first", nulls_last=False)
    size, place = pl.len().over("group"), pl.int_range(pl.len()).over("group")
    train, valid = ((size * f + 1e-9).floor() for f in config.fractions[:2])
    part = pl.when(place < train).then(0).when(place < train + valid).then(1).otherwise(2)
    return table.with_columns(part=part).sort("first")["part"]

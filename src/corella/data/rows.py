"""Rows of a log as arrays, and what may be known of them: codes, keys of count groups, which rows others may see."""

import numpy as np
import polars as pl

from corella.columns import DRAWN, SPLIT, TIME, USER
from corella.config import DataConfig
from corella.data.ids import id_text
from corella.data.samples import Ints
from corella.errors import UserError, suggest
from corella.features.counts import before
from corella.features.log import Keys, Log
from corella.features.ratings import answer_values, rating_scale

USER_CODE = "user"


ITEM_CODE = "item"
"""Row numbers in the tables of users and of items."""


def log_arrays(log: pl.DataFrame, config: DataConfig) -> Log:
    """A log with codes as arrays."""
    user, item = (log[name].to_numpy().astype(np.int64) for name in (USER_CODE, ITEM_CODE))
    values = answer_values(log, rating_scale(log, config))
    return Log(user, item, times_of(log), values, known_rows(log, config), shared_rows(log, config), learned_rows(log))


def group_keys(user: Ints, item: Ints, users: pl.DataFrame, items: pl.DataFrame, config: DataConfig) -> list[Keys]:
    """The keys of every group of count features, for rows with these user and item codes."""
    return [_keys(group, user, item, users, items, config) for group in config.counts.groups]


def _keys(
    group: list[str], user: Ints, item: Ints, users: pl.DataFrame, items: pl.DataFrame, config: DataConfig
) -> Keys:
    row = np.arange(len(user))
    code = np.zeros(len(user), dtype=np.int64)  # the same for the same key, whichever rows are at hand
    lists = [name for name in group if isinstance(items.schema.get(name), pl.List)]
    if len(lists) > 1:
        raise UserError(f"counts group {group}: at most one list column, here {', '.join(lists)}")
    if lists:
        exploded = (
            items.select(pl.int_range(pl.len()).alias("i"), pl.col(lists[0]).list.unique().alias("v"))
            .explode("v")
            .drop_nulls()
        )
        values = _rank(exploded["v"])  # from 1 on
        start = np.searchsorted(exploded["i"].to_numpy(), np.arange(items.height + 1))
        length = np.where(item >= 0, np.diff(start)[np.maximum(item, 0)], 0)
        row = np.repeat(row, length)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
        code = values[start[item[row]] + offset].astype(np.int64)
    for name in group:
        if name in lists:
            continue
        if name in ("user", "item"):
            value, size = (user, users.height) if name == "user" else (item, items.height)
            value = value[row]
        elif name in items.columns:
            value, size = np.r_[_rank(items[name]), -1][item[row]], items.height + 1
        elif name in users.columns:
            value, size = np.r_[_rank(users[name]), -1][user[row]], users.height + 1
        else:
            valid = ["user", "item", *users.columns, *items.columns]
            raise UserError(f"counts group {group}: no column '{name}'; {suggest(name, valid)}")
        code = code * (size + 1) + (value + 1)
    return Keys("_x_".join(group), row, code, "user" in group, len(user))


def _rank(column: pl.Series) -> Ints:
    return column.cast(pl.String).fill_null("").rank("dense").to_numpy().astype(np.int64)


def popularity_of(log: Log) -> Ints:
    """For every row the earlier interactions with its item, and how many were positive, int64 [rows, 2]."""
    return np.stack(before(log.item, log.values[:, 0], log.shared), axis=1).astype(np.int64)


def shared_rows(log: pl.DataFrame, config: DataConfig) -> Ints:
    """1 for the rows that counts without the user may see; never for a negative that was drawn.

    All of them; or, where counts are frozen, those of `learned_rows`. Frozen is the default where the split is not in
    the order of time, for there a test row can stand before a training row, and where it is by items.
    """
    frozen = config.counts.frozen
    if DRAWN in log.columns and frozen is not True:
        return (~log[DRAWN]).to_numpy().astype(np.int64)
    if frozen is None:
        frozen = config.split.by in ("user", "each-user", "leave-last-out", "new-items") or not in_order(log)
    if not frozen:
        return np.ones(log.height, dtype=np.int64)
    return learned_rows(log)


def known_rows(log: pl.DataFrame, config: DataConfig) -> Ints:
    """1 for the rows that later rows of their own user may see: all of them but negatives that were drawn; or, where
    the split is by items and counts are not said to go on, those of training items, which stand first in the log."""
    if DRAWN in log.columns:
        return (~log[DRAWN]).to_numpy().astype(np.int64)
    if config.split.by != "new-items" or config.counts.frozen is False:
        return np.ones(log.height, dtype=np.int64)
    return learned_rows(log)


def learned_rows(log: pl.DataFrame) -> Ints:
    """1 for training rows and the histories of users who have training rows."""
    train = pl.col(SPLIT) == "train"
    history = (pl.col(SPLIT) == "history") & train.any().over(USER)
    drawn = pl.col(DRAWN) if DRAWN in log.columns else pl.lit(False)
    return log.select((train | history) & ~drawn).to_series().to_numpy().astype(np.int64)


def in_order(log: pl.DataFrame) -> bool:
    """Whether every training row stands before every validation and test row."""
    train = np.flatnonzero((log[SPLIT] == "train").to_numpy())
    later = np.flatnonzero(log[SPLIT].is_in(["valid", "test"]).to_numpy())
    return not len(train) or not len(later) or bool(train[-1] < later[0])


def times_of(log: pl.DataFrame) -> Ints:
    """Seconds since 1970, int64 [rows]; zeros where a log has no times."""
    if TIME in log.columns:
        return log[TIME].to_numpy().astype(np.int64)
    return np.zeros(log.height, dtype=np.int64)


def codes_of(ids: pl.Series, table: pl.Series) -> Ints:
    """The place of each id in a table's ids, int64 [ids]; -1 where it is not there."""
    codes = pl.DataFrame({"id": table.cast(pl.String)}).with_row_index("code")
    found = pl.DataFrame({"id": id_text(ids)}).join(codes, on="id", how="left", maintain_order="left")
    return found["code"].cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)

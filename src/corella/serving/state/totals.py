"""The counts of a log at its end, as if its rows had come one by one: where a service begins."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import ITEM, USER
from corella.data.dataset import Dataset
from corella.features.count_state import CountState
from corella.features.counts import residuals
from corella.features.everyone import above_expected
from corella.features.log import Log

Ints = npt.NDArray[np.int64]
Key = tuple[str, ...]


def count_state(
    dataset: Dataset,
    arrays: Log,
    groups: Sequence[Sequence[str]],
    users_values: Mapping[str, list[Key]],
    items_values: Mapping[str, list[Key]],
) -> CountState:
    """The log's totals, as if its rows had come one by one."""
    config = dataset.config.counts
    values, shared = arrays.values, arrays.shared
    state = CountState(config, dataset.rating_scale is not None, dataset.pairs)
    state.frozen = bool((shared == 0).any())
    names = [f"value:{place}" for place in range(values.shape[1])]
    log = dataset.log.select(
        USER, ITEM, "user", "item", *(pl.Series(n, v) for n, v in zip(names, values.T, strict=True)),
        shared=pl.Series(shared), time=pl.Series(arrays.time),
        residual=pl.Series(residuals(arrays, config).residual),
    ).filter(pl.Series(arrays.known) == 1)  # fmt: skip
    for tally, group in zip(state.tallies, groups, strict=True):
        rows = log if "user" in group else log.filter(pl.col("shared") == 1)
        tally.update(_tally(rows, group, names, users_values, items_values))
    users = dataset.users[USER].cast(pl.String).to_list()
    state.total = [float(shared.sum()), *(shared @ values).tolist()]
    state.item.update(enumerate(_totals(dataset.item, shared, shared[:, None] * values, dataset.items.height)))
    above = above_expected(arrays, config)
    state.bias.update(zip(users, _totals(dataset.user, arrays.known, above, len(users)), strict=True))
    most = max(config.last, default=1)
    last = log.group_by("user").agg(pl.col("time").last(), *(pl.col(name).tail(most) for name in names))
    for code, moment, *newest in last.iter_rows():
        state.user_time[users[code]] = moment
        state.last.extend(users[code], zip(*newest, strict=True))
    if config.neighbours:
        said = log.group_by("user").agg(pl.col("item", "residual").tail(config.neighbours))
        for code, items, left in said.iter_rows():
            state.said.extend(users[code], zip(items, left, strict=True))
    seen = log.filter(pl.col("shared") == 1)
    state.item_time.update(seen.group_by("item").agg(pl.col("time").last()).iter_rows())
    return state


def _tally(
    rows: pl.DataFrame,
    group: Sequence[str],
    values: Sequence[str],
    users_values: Mapping[str, list[Key]],
    items_values: Mapping[str, list[Key]],
) -> Iterable[tuple[Key, list[float]]]:
    columns = []
    for n, name in enumerate(group):
        column = f"key:{n}"
        columns.append(column)
        if name in ("user", "item"):
            rows = rows.with_columns(pl.col(USER if name == "user" else ITEM).cast(pl.String).alias(column))
            continue
        code, table_values = ("item", items_values) if name in items_values else ("user", users_values)
        lists = pl.Series(column, [list(v) for v in table_values[name]], dtype=pl.List(pl.String))
        table = pl.DataFrame({code: np.arange(len(lists)), column: lists})
        rows = rows.join(table, on=code, how="left").explode(column).drop_nulls(column)
    found = rows.group_by(columns).agg(pl.len(), pl.col(values).sum())
    return ((tuple(row[: len(columns)]), list(row[len(columns) :])) for row in found.iter_rows())


def _totals(code: Ints, known: Ints, values: npt.NDArray[np.float64], size: int) -> list[list[float]]:
    """For each code the number of known answers and the totals of their values."""
    columns = [np.bincount(code, weights=column, minlength=size) for column in (known, *values.T)]
    found: list[list[float]] = np.stack(columns, axis=1).tolist()
    return found

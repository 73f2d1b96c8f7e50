"""Vocabularies and scales of a conventional model, from the training rows of a dataset.

A vocabulary holds the values that training rows show; every other value is index 0, `unknown`. All categorical columns
share one table of embeddings, each column with an offset. Nothing here learns anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import ITEM, SPLIT, USER
from corella.data.dataset import Dataset
from corella.data.on_disk import Features, OnDisk, blocks
from corella.data.rows import ITEM_CODE, USER_CODE
from corella.features.neighbours import NAMES as NEIGHBOURS
from corella.features.text.kernels import NAMES as TEXT_NAMES


@dataclass(frozen=True)
class CRMSpec:
    """Vocabularies and scales, fixed by the training rows; plain data that JSON can hold."""

    user_columns: dict[str, list[str]]
    """Column of the user table -> its known values (index 1, 2, ...)."""
    item_columns: dict[str, list[str]]
    list_columns: dict[str, list[str]]
    count_mean: list[float]
    count_scale: list[float]
    unseen: list[float | None]
    """What a count feature is where nobody has interacted with the item; None where it says nothing of the item."""
    history_length: int
    likes_only: bool
    text_mean: list[float]
    """Empty for a model that reads no text."""
    text_scale: list[float]
    content_size: int
    """Width of the items' vectors; 0 for a model that reads no text."""
    rare: dict[str, float] = field(default_factory=dict)
    """Of each column with values that were left out as too rare, the share of training rows that show one."""

    @property
    def numbers(self) -> int:
        """How many features that are numbers a neural model reads: count features, and text features but the components
        of the item's own vector, which are the content tower's."""
        return len(self.count_mean) + min(len(self.text_mean), len(TEXT_NAMES))

    @property
    def offsets(self) -> dict[str, int]:
        """First index of each column in the shared table."""
        result, total = {}, 0
        for name, values in {**self.user_columns, **self.item_columns, **self.list_columns}.items():
            result[name] = total
            total += len(values) + 1
        return result

    @property
    def table_size(self) -> int:
        """Rows of the shared table of embeddings."""
        columns = (*self.user_columns.values(), *self.item_columns.values(), *self.list_columns.values())
        return sum(len(values) + 1 for values in columns)

    @cached_property
    def vocabulary(self) -> dict[str, dict[str, int]]:
        """Column -> known value -> index in the shared table."""
        columns = {**self.user_columns, **self.item_columns, **self.list_columns}
        first = self.offsets
        return {name: {v: first[name] + 1 + n for n, v in enumerate(values)} for name, values in columns.items()}


def make_spec(dataset: Dataset, text: bool = False, most: int | None = None) -> CRMSpec:
    """Vocabularies and scales from the training rows of a dataset (their histories included). `text`: for models that
    read the items' texts, which needs a dataset with an encoder. `most`: values of a column, the most frequent; None:
    all."""
    config = dataset.config
    # A history row counts if one of its user's training rows follows: that one shows it.
    is_train = pl.col(SPLIT) == "train"
    shown = (pl.col(SPLIT) == "history") & is_train.cum_sum(reverse=True).over(USER_CODE).gt(0)
    train = dataset.log.filter(is_train | shown)
    rare: dict[str, float] = {}

    def known(table: pl.DataFrame, code: str, names: Iterable[str]) -> dict[str, list[str]]:
        rows = train.group_by(code).len("_rows").sort(code)
        shown = table[rows[code]].with_columns(rows["_rows"])
        return {name: _values(shown.select(name, "_rows"), most, rare) for name in names}

    samples = dataset.samples("train")
    count_mean, count_scale = _standard(samples.counts)
    text_mean, text_scale = _standard(samples.text) if text else ([], [])
    return CRMSpec(
        known(dataset.users, USER_CODE, (USER, *config.user_fields)),
        known(dataset.items, ITEM_CODE, (ITEM, *config.item_fields)),
        known(dataset.items, ITEM_CODE, config.list_fields),
        count_mean,
        count_scale,
        _unseen(dataset, count_mean),
        config.history_length,
        config.history_answers == "likes",
        text_mean,
        text_scale,
        dataset.space.places.vectors.shape[1] if text and dataset.space is not None else 0,
        rare,
    )


def _unseen(dataset: Dataset, mean: list[float]) -> list[float | None]:
    """See `CRMSpec.unseen`. A smoothed mean of nothing is the running average: here the mean of training rows."""
    groups = {"_x_".join(group): group for group in dataset.config.counts.groups}
    found: list[float | None] = []
    for name, typical in zip(dataset.count_names, mean, strict=True):
        group, _, what = name.rpartition("_")
        if "item" in groups.get(group, ()):
            found.append(0.0 if what == "answers" else typical)
        else:
            found.append(0.0 if name in NEIGHBOURS else -1.0 if name == "item_log_seconds" else None)
    return found


def _standard(features: Features) -> tuple[list[float], list[float]]:
    """Mean and scale of every column."""
    if isinstance(features, OnDisk):
        mean, scale = _standard_of_blocks(features)
    else:
        mean, scale = features.mean(axis=0), features.std(axis=0)
    return mean.astype(float).tolist(), np.where(scale > 0, scale, 1.0).astype(float).tolist()


def _standard_of_blocks(features: OnDisk) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The same read twice, some rows at a time: first the means, then what differs from them."""
    rows = max(len(features), 1)
    mean = np.sum([block.sum(axis=0, dtype=np.float64) for block in blocks(features)], axis=0) / rows
    square = np.sum([((block - mean) ** 2).sum(axis=0) for block in blocks(features)], axis=0) / rows
    return mean.astype(np.float32), np.sqrt(square).astype(np.float32)


def _values(shown: pl.DataFrame, most: int | None, rare: dict[str, float]) -> list[str]:
    """The values of the first column, in order; `_rows`: how many training rows show each row's. Those beyond `most`
    are left out, and `rare` is told."""
    name = shown.columns[0]
    if isinstance(shown.schema[name], pl.List):
        shown = shown.explode(name)
    counted = shown.with_columns(pl.col(name).cast(pl.String)).drop_nulls().group_by(name).agg(pl.col("_rows").sum())
    counted = counted.sort("_rows", name, descending=[True, False])
    if most is not None and counted.height > most:
        rows = counted["_rows"].to_numpy()
        rare[name] = float(rows[most:].sum() / rows.sum())
        counted = counted.head(most)
    return counted[name].sort().to_list()

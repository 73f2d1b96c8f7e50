"""What a conventional model reads: vocabularies of the training rows, and batches of tensors from samples.

A vocabulary holds the values that training rows show; every other value is index 0, `unknown`. All
categorical columns share one table of embeddings, each column with an offset. Nothing here learns anything.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from corella.data.dataset import ITEM_CODE, USER_CODE, Dataset, Events, Samples
from corella.data.schema import ITEM, SPLIT, USER
from corella.data.scope import Newcomer, Scope
from corella.features.neighbours import NAMES as NEIGHBOURS
from corella.features.text.kernels import NAMES as TEXT_NAMES
from corella.features.text.kernels import without_item

ANSWERS = 3
"""Kinds of history entries: 0 dislike, 1 like, 2 padding."""


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


@dataclass(frozen=True)
class CRMBatch:
    """Tensors of B samples."""

    fields: Tensor
    """[B, F] int64: indices into the shared table, user columns first, then item columns."""
    lists: tuple[Tensor, ...]
    """For each list column [B, M] int64: indices into the shared table, its column's index 0 where padded."""
    history: Tensor
    """[B, L] int64: rows of `seen`, oldest first, padding at the left."""
    answers: Tensor
    """[B, L] int64: see `ANSWERS`."""
    counts: Tensor
    """[B, K] float32: standardised count features, then text features, if the model reads them: `CRMSpec.numbers`."""
    content: Tensor
    """[B, W] float32: the items' texts as vectors; W is 0 for a model that reads no text."""
    seen_content: Tensor
    """[U, W] float32: the same of the distinct items of the histories."""
    seen: Tensor
    """[U, item columns] int64: the item columns of the distinct items of the histories, the id first."""
    seen_lists: tuple[Tensor, ...]
    """For each list column [U, M] int64: the same."""

    @property
    def history_ids(self) -> Tensor:
        """[B, L] int64: item ids in the shared table, padding at the left."""
        return self.seen[:, 0][self.history]

    def __len__(self) -> int:
        return len(self.fields)


def make_spec(dataset: Dataset, text: bool = False) -> CRMSpec:
    """Vocabularies and scales from the training rows of a dataset (their histories included). `text`: for models that
    read the items' texts, which needs a dataset with an encoder."""
    config = dataset.config
    # A history row counts if one of its user's training rows follows: that one shows it.
    is_train = pl.col(SPLIT) == "train"
    shown = (pl.col(SPLIT) == "history") & is_train.cum_sum(reverse=True).over(USER_CODE).gt(0)
    train = dataset.log.filter(is_train | shown)
    users = dataset.users[train[USER_CODE].unique().sort()]
    items = dataset.items[train[ITEM_CODE].unique().sort()]
    samples = dataset.samples("train")
    count_mean, count_scale = _standard(samples.counts)
    text_mean, text_scale = _standard(samples.text) if text else ([], [])
    return CRMSpec(
        {name: _values(users[name]) for name in (USER, *config.user_fields)},
        {name: _values(items[name]) for name in (ITEM, *config.item_fields)},
        {name: _values(items[name].explode()) for name in config.list_fields},
        count_mean,
        count_scale,
        _unseen(dataset, count_mean),
        config.history_length,
        config.history_answers == "likes",
        text_mean,
        text_scale,
        dataset.space.places.vectors.shape[1] if text and dataset.space is not None else 0,
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


def _standard(features: npt.NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Mean and scale of every column."""
    scale = features.std(axis=0)
    return features.mean(axis=0).astype(float).tolist(), np.where(scale > 0, scale, 1.0).astype(float).tolist()


def _values(column: pl.Series) -> list[str]:
    return column.cast(pl.String).drop_nulls().unique().sort().to_list()


class CRMEncoder:
    """Turns samples of one dataset into batches, by looking up index tables made once.

    `history` and `answers` come from the events strictly before each sample (`Samples.history_end`).
    """

    def __init__(self, spec: CRMSpec, dataset: Dataset) -> None:
        offsets = spec.offsets
        self.spec = spec
        self._indices: dict[str, dict[str, int]] = {}
        self._user = _index(dataset.users, spec.user_columns, offsets)
        self._item = _index(dataset.items, spec.item_columns, offsets)
        lists = spec.list_columns.items()
        self._lists = [_list_index(dataset.items, name, values, offsets[name]) for name, values in lists]
        self._mean = torch.tensor([*spec.count_mean, *spec.text_mean], dtype=torch.float32)
        self._scale = torch.tensor([*spec.count_scale, *spec.text_scale], dtype=torch.float32)
        vectors = dataset.space.with_unknown.vectors if spec.content_size and dataset.space is not None else None
        self._content = torch.zeros(len(self._item), 0) if vectors is None else torch.from_numpy(vectors)
        self._read(dataset.events)

    def _read(self, events: Events) -> None:
        """Histories are these events from now on."""
        kept = events.label == 1 if self.spec.likes_only else np.ones(len(events.label), dtype=bool)
        self._kept_before = np.r_[0, np.cumsum(kept)]
        self._start = self._kept_before[events.start]
        # One entry more, so that there is one to look up (and then mask) where no event is kept.
        self._event_item = torch.from_numpy(np.r_[events.item[kept], -1])
        self._event_label = torch.from_numpy(np.r_[events.label[kept], 0])

    def narrowed(self, scope: Scope) -> "CRMEncoder":
        """The same encoder for the small world of a request."""
        other = copy.copy(self)
        user = self._user[[scope.user, -1]].clone()
        items = torch.from_numpy(np.r_[scope.items, -1])
        item, lists = self._item[items], [index[items] for index in self._lists]
        if scope.new_user is not None:
            user[0] = self._coded(scope.new_user, self.spec.user_columns)
        for code, newcomer in scope.new_items.items():
            item[code] = self._coded(newcomer, self.spec.item_columns)
            for index, name in zip(lists, self.spec.list_columns, strict=True):
                found = [
                    self._vocabulary(name)[str(v)] for v in _as_list(newcomer.fields.get(name)) if self._knows(name, v)
                ]
                index[code, : len(found)] = torch.tensor(found[: index.shape[1]], dtype=torch.int64)
        other._user, other._item, other._lists = user, item, lists
        other._content = torch.zeros(len(item), self.spec.content_size)
        if self.spec.content_size and scope.vectors is not None:
            other._content[:-1] = torch.from_numpy(scope.vectors)
        other._read(scope.events)
        return other

    def _coded(self, newcomer: Newcomer, columns: dict[str, list[str]]) -> Tensor:
        """Indices of a newcomer's columns; the id's, and what is not given or not in the vocabulary, are unknown."""
        row = []
        for name in columns:
            value = str(newcomer.fields.get(name, ""))
            row.append(self._vocabulary(name)[value] if self._knows(name, value) else self.spec.offsets[name])
        return torch.tensor(row, dtype=torch.int64)

    def _knows(self, name: str, value: object) -> bool:
        return name not in (USER, ITEM) and str(value) in self._vocabulary(name)

    def _vocabulary(self, name: str) -> dict[str, int]:
        """Value -> index in the shared table."""
        if name not in self._indices:
            columns = {**self.spec.user_columns, **self.spec.item_columns, **self.spec.list_columns}
            first = self.spec.offsets[name] + 1
            self._indices[name] = {value: first + n for n, value in enumerate(columns[name])}
        return self._indices[name]

    def fields(self, samples: Samples) -> Tensor:
        """[B, F] int64: the categorical columns of samples, user columns first; see `CRMBatch.fields`."""
        user, item = torch.from_numpy(samples.user), torch.from_numpy(samples.item)
        return torch.cat([self._user[user], self._item[item]], dim=1)

    def features(self, samples: Samples) -> npt.NDArray[np.float32]:
        """float32 [B, K]: count features, then text features, if the models read them; as they are."""
        return np.concatenate([samples.counts, samples.text], axis=1) if self.spec.text_mean else samples.counts

    def unseen(self, samples: Samples) -> Samples:
        """The samples as if nobody had interacted with their items."""
        counts = samples.counts.copy()
        for column, value in enumerate(self.spec.unseen):
            if value is not None:
                counts[:, column] = value
        text = without_item(samples.text) if self.spec.text_mean else samples.text
        return replace(samples, counts=counts, popularity=np.zeros_like(samples.popularity), text=text)

    def hidden(self, samples: Samples, share: float, rng: np.random.Generator) -> Samples:
        """The samples, a share of them drawn at random as if nobody had interacted with their items."""
        shown = rng.random(len(samples)) >= share
        if shown.all():
            return samples
        other = self.unseen(samples)
        counts, text = (np.where(shown[:, None], getattr(samples, n), getattr(other, n)) for n in ("counts", "text"))
        return replace(samples, counts=counts, text=text)

    def batch(self, samples: Samples) -> CRMBatch:
        """Tensors of these samples; codes of -1 (unknown user or item) become `unknown`."""
        item = torch.from_numpy(samples.item)
        end = self._kept_before[samples.history_end]
        start = np.where(samples.user >= 0, self._start[samples.user], end)
        position = end[:, None] + np.arange(-self.spec.history_length, 0)
        padded = torch.from_numpy(position < start[:, None])
        position_t = torch.from_numpy(np.maximum(position, 0))
        seen, history = self._event_item[position_t].masked_fill(padded, -1).unique(return_inverse=True)
        return CRMBatch(
            self.fields(samples),
            tuple(index[item] for index in self._lists),
            history,
            self._event_label[position_t].masked_fill(padded, 2),
            ((torch.from_numpy(self.features(samples)) - self._mean) / self._scale)[:, : self.spec.numbers],
            self._content[item],
            self._content[seen],
            self._item[seen],
            tuple(index[seen] for index in self._lists),
        )


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _lookup(column: pl.Series, values: list[str], offset: int) -> npt.NDArray[np.int64]:
    table = pl.DataFrame({"v": pl.Series(values, dtype=pl.String)}).with_row_index("i", offset=1)
    found = pl.DataFrame({"v": column.cast(pl.String)}).join(table, on="v", how="left", maintain_order="left")
    return found["i"].fill_null(0).to_numpy().astype(np.int64) + offset


def _index(table: pl.DataFrame, columns: dict[str, list[str]], offsets: dict[str, int]) -> Tensor:
    """[rows + 1, columns] indices; the last row (code -1) is all unknown."""
    parts = [np.r_[_lookup(table[name], values, offsets[name]), offsets[name]] for name, values in columns.items()]
    return torch.from_numpy(np.stack(parts, axis=1))


def _list_index(items: pl.DataFrame, name: str, values: list[str], offset: int) -> Tensor:
    """[items + 1, longest list] indices, padded with the column's index 0."""
    long = items.select(pl.int_range(pl.len()).alias("row"), pl.col(name).alias("v")).explode("v").drop_nulls()
    row = long["row"].to_numpy()
    place = long.select(pl.int_range(pl.len()).over("row")).to_series().to_numpy()
    longest = int(place.max()) + 1 if len(place) else 1
    index = np.full((items.height + 1, longest), offset, dtype=np.int64)
    index[row, place] = _lookup(long["v"], values, offset)
    return torch.from_numpy(index)

"""Batches of tensors for a conventional model, from samples of one world: the whole dataset, or one request."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from corella.columns import ITEM, USER
from corella.crm.spec import CRMSpec
from corella.data.dataset import Dataset
from corella.data.on_disk import held
from corella.data.samples import Events, Samples
from corella.data.scope import Described, Scope
from corella.data.world import World, check_world
from corella.features.text.kernels import without_item

ANSWERS = 3
"""Kinds of history entries: 0 dislike, 1 like, 2 padding."""


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


@dataclass(frozen=True, eq=False)
class Tables:
    """Indices and vectors of users and items by their codes; the last row (code -1) is unknown."""

    user: Tensor
    """[users + 1, user columns] int64."""
    item: Tensor
    """[items + 1, item columns] int64."""
    lists: tuple[Tensor, ...]
    """For each list column [items + 1, M] int64."""
    content: Tensor
    """[items + 1, W] float32."""


@dataclass(frozen=True, eq=False)
class Histories:
    """The events that a history may hold, user by user."""

    kept_before: npt.NDArray[np.int64]
    """[events + 1]: how many events before each are kept."""
    start: npt.NDArray[np.int64]
    """Where each user's kept events begin."""
    item: npt.NDArray[np.int64]
    """[kept events + 1]: the last one (-1) is padding, as in `label` (2)."""
    label: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CRMEncoder:
    """Turns samples into batches, by looking up index tables made once. Made by `make_encoder`.

    `history` and `answers` come from the events strictly before each sample (`Samples.history_end`).
    """

    spec: CRMSpec
    tables: Tables
    histories: Histories
    mean: Tensor
    scale: Tensor
    world: World

    def narrowed(self, scope: Scope) -> "CRMEncoder":
        """The same encoder for the small world of a request."""
        tables = _narrowed(self.spec, self.tables, scope)
        histories = _histories(scope.events, self.spec.likes_only)
        return replace(self, tables=tables, histories=histories, world=scope.world)

    def fields(self, samples: Samples) -> Tensor:
        """[B, F] int64: the categorical columns of samples, user columns first; see `CRMBatch.fields`. Raises
        `WrongWorldError` for samples of another world, here and in `batch`."""
        check_world(samples, self.world)
        codes = ((self.tables.user, samples.user), (self.tables.item, samples.item))
        return torch.cat([t.index_select(0, torch.from_numpy(code % len(t))) for t, code in codes], dim=1)

    def features(self, samples: Samples) -> npt.NDArray[np.float32]:
        """float32 [B, K]: count features, then text features, if the models read them; as they are."""
        counts = held(samples.counts)
        return np.concatenate([counts, held(samples.text)], axis=1) if self.spec.text_mean else counts

    def unseen(self, samples: Samples) -> Samples:
        """The samples as if nobody had interacted with their items."""
        counts = held(samples.counts).copy()
        for column, value in enumerate(self.spec.unseen):
            if value is not None:
                counts[:, column] = value
        text = without_item(held(samples.text)) if self.spec.text_mean else samples.text
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
        check_world(samples, self.world)
        end = self.histories.kept_before[samples.history_end]
        start = np.where(samples.user >= 0, self.histories.start[samples.user], end)
        position = end[:, None] + np.arange(-self.spec.history_length, 0)
        position[position < start[:, None]] = -1  # the entry beyond the events
        found, history = distinct(self.histories.item[position], len(self.tables.item))
        item, seen = (torch.from_numpy(code % len(self.tables.item)) for code in (samples.item, found))
        return CRMBatch(
            self.fields(samples),
            tuple(index.index_select(0, item) for index in self.tables.lists),
            torch.from_numpy(history),
            torch.from_numpy(self.histories.label[position]),
            ((torch.from_numpy(self.features(samples)) - self.mean) / self.scale)[:, : self.spec.numbers],
            self.tables.content.index_select(0, item),
            self.tables.content.index_select(0, seen),
            self.tables.item.index_select(0, seen),
            tuple(index.index_select(0, seen) for index in self.tables.lists),
        )


def make_encoder(spec: CRMSpec, dataset: Dataset) -> CRMEncoder:
    """The encoder of a dataset's samples."""
    offsets, lists = spec.offsets, spec.list_columns.items()
    item = _index(dataset.items, spec.item_columns, offsets)
    vectors = dataset.space.with_unknown.vectors if spec.content_size and dataset.space is not None else None
    tables = Tables(
        _index(dataset.users, spec.user_columns, offsets), item,
        tuple(_list_index(dataset.items, name, values, offsets[name]) for name, values in lists),
        torch.zeros(len(item), 0) if vectors is None else torch.from_numpy(vectors),
    )  # fmt: skip
    mean, scale = ([*spec.count_mean, *spec.text_mean], [*spec.count_scale, *spec.text_scale])
    histories = _histories(dataset.events, spec.likes_only)
    return CRMEncoder(spec, tables, histories, torch.tensor(mean), torch.tensor(scale), dataset.world)


def distinct(code: npt.NDArray[np.int64], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct ones of codes from -1 to `count` - 2, in no promised order, and where each code lies among them.
    Needs no sort: every code's last place speaks for it.

    >>> found, place = distinct(np.array([[5, -1], [5, 0]]), 7)
    >>> found.tolist(), found[place].tolist()
    ([-1, 5, 0], [[5, -1], [5, 0]])
    """
    flat = code.reshape(-1)
    number, place = np.arange(len(flat)), np.empty(count, np.int64)
    place[flat] = number  # where a code comes twice, the last one stays
    found = flat[place[flat] == number]
    place[found] = number[: len(found)]
    return found, place[code]


def _histories(events: Events, likes_only: bool) -> Histories:
    kept = events.label == 1 if likes_only else np.ones(len(events.label), dtype=bool)
    before = np.r_[0, np.cumsum(kept)]
    item, label = np.r_[events.item[kept], -1], np.r_[events.label[kept], ANSWERS - 1]
    return Histories(before, before[events.start], item, label)


def _narrowed(spec: CRMSpec, tables: Tables, scope: Scope) -> Tables:
    """The rows of a request's user and items, and new ones for those that the dataset does not know."""
    user = tables.user[[scope.user, -1]].clone()
    items = torch.from_numpy(np.r_[scope.items, -1])
    item, lists = tables.item[items], tuple(index[items] for index in tables.lists)
    if scope.new_user is not None:
        user[0] = _coded(spec, scope.new_user, spec.user_columns, user[0])
    for code, described in scope.new_items.items():
        item[code] = _coded(spec, described, spec.item_columns, item[code])
        for index, name in zip(lists, spec.list_columns, strict=True):
            known = spec.vocabulary[name]
            found = [known[str(v)] for v in _as_list(described.fields.get(name)) if str(v) in known]
            index[code] = spec.offsets[name]
            index[code, : len(found)] = torch.tensor(found[: index.shape[1]], dtype=torch.int64)
    content = torch.zeros(len(item), spec.content_size, dtype=torch.float32)  # whatever another thread is loading
    if spec.content_size and scope.vectors is not None:
        content[:-1] = torch.from_numpy(scope.vectors)
    return Tables(user, item, lists, content)


def _coded(spec: CRMSpec, described: Described, columns: dict[str, list[str]], known: Tensor) -> Tensor:
    """Indices of a described user's or item's columns; the id's is that of `known`, and what is not given or not in the
    vocabulary is unknown."""
    row = []
    for name, before in zip(columns, known.tolist(), strict=True):
        nothing, value = spec.offsets[name], str(described.fields.get(name, ""))
        row.append(before if name in (USER, ITEM) else spec.vocabulary[name].get(value, nothing))
    return torch.tensor(row, dtype=torch.int64)


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

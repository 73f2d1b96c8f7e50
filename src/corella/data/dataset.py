"""The prepared dataset: the ordered log, the catalogue, and samples that see only what came before them.

One data type flows through everything: `Samples`, arrays of users, items, and a pointer to the end of each
sample's history in the user-major `Events`. Rows of the log and new rows to score become the same `Samples`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import ITEM, LABEL, SPLIT, TIME, USER, epoch_seconds, id_text
from corella.config import DataConfig
from corella.data.world import WHOLE, World, check_world
from corella.errors import UserError, suggest
from corella.features.counts import Keys, Log, batch_counts, before, feature_names, residuals
from corella.features.neighbours import PairTable, pair_table
from corella.features.ratings import RatingScale, answer_values, rating_scale
from corella.features.text.batch import batch_text
from corella.features.text.items import ItemTexts
from corella.features.text.kernels import text_names
from corella.features.text.space import TextSpace, fit_space
from corella.files import verify_manifest

Ints = npt.NDArray[np.int64]

FORMAT = 5
"""Raised when the files of a prepared dataset change their meaning."""

TEXTS, SPACE = "texts.safetensors", "space.safetensors"
USER_CODE = "user"
ITEM_CODE = "item"
"""Row numbers in the tables of users and of items."""


@dataclass(frozen=True)
class Samples:
    """Samples of one dataset, all arrays of length n (counts and text [n, features])."""

    user: Ints
    item: Ints
    history_end: Ints
    """The sample's history is `Events[start of its user : history_end]`."""
    counts: npt.NDArray[np.float32]
    popularity: Ints
    """[n, 2]: the item's answers and positive answers before the sample."""
    label: Ints
    """0 or 1; -1 where the answer is not known."""
    row: Ints
    """Row in the log; -1 for a new row."""
    text: npt.NDArray[np.float32]
    """Text features; no column without an encoder. Apart from `counts`, so that models with and without them learn from
    the same samples."""
    world: World = WHOLE
    """What the codes mean."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: npt.NDArray[Any]) -> "Samples":
        """The samples at `index` (positions or a mask)."""
        return self._with(lambda name: getattr(self, name)[index])

    def followed_by(self, other: "Samples") -> "Samples":
        """These samples, then others of the same world."""
        check_world(other, self.world)
        return self._with(lambda name: np.concatenate([getattr(self, name), getattr(other, name)]))

    def _with(self, column: Callable[[str], npt.NDArray[Any]]) -> "Samples":
        names = ("user", "item", "history_end", "counts", "popularity", "label", "row", "text")
        user, item, end, counts, popularity, label, row, text = map(column, names)
        return Samples(user, item, end, counts, popularity, label, row, text, self.world)


def sample_users(samples: Samples, most: int | None, seed: int) -> Ints:
    """Positions of the samples of users drawn at random until `most` samples are reached (all, where it is None)."""
    if most is None or most >= len(samples):
        return np.arange(len(samples))
    users, counts = np.unique(samples.user, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(users))
    until = int(np.searchsorted(np.cumsum(counts[order]), most)) + 1
    return np.flatnonzero(np.isin(samples.user, users[order[:until]]))


def liked_share(samples: Samples) -> npt.NDArray[np.float64]:
    """Popularity as a score, float64 [n]: the share of the item's earlier interactions that were positive, as if five
    more had been average."""
    answers, positives = samples.popularity.astype(np.float64).T
    average = (positives.sum() + 1) / (answers.sum() + 2)
    share: npt.NDArray[np.float64] = (positives + 5 * average) / (answers + 5)
    return share


@dataclass(frozen=True)
class Events:
    """All known answers, user by user, in order. `start[u] : start[u + 1]` are the events of user u."""

    start: Ints
    item: Ints
    label: Ints
    row: Ints


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset in memory.

    log: ordered rows with user_id, item_id, their codes, label, split, rating and timestamp where given;
    users, items: row i is code i; items has `text`, users has `text`.
    """

    log: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    config: DataConfig
    counts: npt.NDArray[np.float32]
    popularity: Ints
    manifest: dict[str, Any]
    texts: ItemTexts | None = None
    """What the encoder made of the items' texts; None where it is `none`."""
    space: TextSpace | None = None
    """Where these texts lie; None without an encoder."""
    text: npt.NDArray[np.float32] | None = None
    """Text features of every row; None without an encoder."""

    @property
    def world(self) -> World:
        """What codes mean here."""
        return WHOLE

    @property
    def vectors(self) -> npt.NDArray[np.float32] | None:
        """The items' texts as vectors, float32 [items, width], each of length 1; None without an encoder."""
        return None if self.texts is None else self.texts.vectors

    @cached_property
    def count_names(self) -> list[str]:
        """Names of the count features, in the order of the columns of `counts`."""
        return feature_names(self.config.counts, self.rating_scale is not None)

    @cached_property
    def text_names(self) -> list[str]:
        """Names of the text features; none without an encoder."""
        return [] if self.space is None else text_names(self.space.places.vectors.shape[1])

    @cached_property
    def rating_scale(self) -> RatingScale | None:
        """How ratings are counted; None where they are not."""
        return rating_scale(self.log, self.config)

    @cached_property
    def pairs(self) -> PairTable | None:
        """What is learned of neighbours; None where they are not counted."""
        if not self.config.counts.neighbours:
            return None
        return pair_table(
            residuals(log_arrays(self.log, self.config), self.config.counts), self.config.counts.neighbours
        )

    def digest(self) -> str:
        """SHA-256 of all that a model reads of the dataset: log, texts and their vectors, fields, counts."""
        found = hashlib.sha256(self.counts.tobytes())
        if self.vectors is not None:
            found.update(self.vectors.tobytes())
        if self.text is not None:
            found.update(self.text.tobytes())
        for table in (self.log, self.users, self.items):
            found.update(repr(table.schema).encode())
            found.update(table.hash_rows().to_numpy().tobytes())
        return found.hexdigest()

    @cached_property
    def label(self) -> Ints:
        """Labels of the log's rows, int64 [rows]."""
        return self.log[LABEL].to_numpy().astype(np.int64)

    @cached_property
    def user(self) -> Ints:
        """User codes of the log's rows, int64 [rows]."""
        return self.log[USER_CODE].to_numpy().astype(np.int64)

    @cached_property
    def item(self) -> Ints:
        """Item codes of the log's rows, int64 [rows]."""
        return self.log[ITEM_CODE].to_numpy().astype(np.int64)

    @cached_property
    def events(self) -> Events:
        """The log user by user."""
        order = np.argsort(self.user, kind="stable")
        start = np.searchsorted(self.user[order], np.arange(self.users.height + 1))
        return Events(start, self.item[order], self.label[order], order)

    @cached_property
    def known(self) -> Ints:
        """1 for the rows that their user's later rows may see, see `known_rows`."""
        return known_rows(self.log, self.config)

    @cached_property
    def _position(self) -> Ints:
        """Where the history of each row of the log ends among the events: where it stands itself; with strict time,
        where the user's answers of that second begin; where new items' interactions are hidden, behind the user's
        known ones at most."""
        if not self.known.all():  # the known ones stand first
            return self.events.start[self.user] + before(self.user, np.zeros(self.log.height), self.known)[0].astype(
                np.int64
            )
        end = np.arange(self.log.height)
        if self.config.strict_time:
            time = _times(self.log)[self.events.row]
            user = self.user[self.events.row]
            new = np.r_[True, (np.diff(time) != 0) | (np.diff(user) != 0)][: len(end)]
            end = np.maximum.accumulate(np.where(new, end, 0))
        position = np.empty(self.log.height, dtype=np.int64)
        position[self.events.row] = end
        return position

    @cached_property
    def in_time_order(self) -> bool:
        """Whether the log tells times and stands in their order, so that new rows have a place in it."""
        return TIME in self.log.columns and self.log[TIME].is_sorted()

    def rows(self, split: str) -> Ints:
        """Row numbers of a split, in order."""
        if split not in ("train", "valid", "test", "history"):
            raise UserError(f"no split '{split}'; {suggest(split, ['train', 'valid', 'test', 'history'])}")
        return np.flatnonzero((self.log[SPLIT] == split).to_numpy())

    def samples(self, split_or_rows: str | Ints) -> Samples:
        """Samples of a split, or of given rows of the log."""
        row = self.rows(split_or_rows) if isinstance(split_or_rows, str) else np.asarray(split_or_rows, np.int64)
        return Samples(
            self.user[row], self.item[row], self._position[row], self.counts[row], self.popularity[row],
            self.label[row], row, _no_text(len(row)) if self.text is None else self.text[row],
        )  # fmt: skip

    def query(self, frame: pl.DataFrame) -> Samples:
        """Samples of new rows: user_id, item_id, and optionally timestamp.

        Histories end strictly before the timestamp; without one, or where the log is not `in_time_order`,
        they are whole. Ids that the dataset does not know get code -1: a user without history, an item
        without a text of its own.
        """
        for name in (USER, ITEM):
            if name not in frame.columns:
                raise UserError(f"the rows to score have no column '{name}'; {suggest(name, frame.columns)}")
        user = _codes(frame[USER], self.users[USER])
        item = _codes(frame[ITEM], self.items[ITEM])
        end_of_time = np.iinfo(np.int64).max // 4
        now = np.full(len(user), end_of_time)
        if TIME in frame.columns and self.in_time_order:
            seconds = epoch_seconds(frame[TIME])
            if seconds.null_count() > frame[TIME].null_count():
                row = int((seconds.is_null() & frame[TIME].is_not_null()).arg_max() or 0)
                raise UserError(f"the rows to score: row {row + 1}, column {TIME}: {frame[TIME][row]!r} is not a time")
            now = seconds.fill_null(end_of_time).to_numpy().astype(np.int64)
        log_time = _times(self.log)
        shown = np.where(now == end_of_time, log_time.max(initial=0), now)
        order = _insert(log_time, now)
        none = np.zeros_like(user)
        values = answer_values(self.log, self.rating_scale)
        columns = (
            (self.user, user), (self.item, item), (log_time, shown), (values, np.zeros((len(user), values.shape[1]))),
            (self.known, none), (shared_rows(self.log, self.config), none), (learned_rows(self.log), none),
        )  # fmt: skip
        mixed = Log(*(np.concatenate(pair)[order] for pair in columns))
        keys = group_keys(mixed.user, mixed.item, self.users, self.items, self.config)
        learned = np.flatnonzero(mixed.learned)
        new = np.flatnonzero(order >= len(self.user))
        late = not len(learned) or not len(new) or int(learned[-1]) < int(new[0])
        counts = batch_counts(mixed, keys, self.config.counts, self.pairs if late else None)
        popularity = _popularity(mixed)
        text, back = _no_text(len(user)), np.argsort(order)[len(self.user) :]
        if self.space is not None:
            text = batch_text(mixed, self.space, self.config.counts, self.config.text, back)
        own = before(mixed.user, mixed.values[:, 0], mixed.known)[0].astype(np.int64)
        begin = np.where(user >= 0, self.events.start[np.maximum(user, 0)], 0)
        return Samples(
            user, item, begin + np.where(user >= 0, own[back], 0), counts[back], popularity[back],
            np.full(len(user), -1), np.full(len(user), -1), text,
        )  # fmt: skip


def _no_text(n: int) -> npt.NDArray[np.float32]:
    """The text features of n samples without an encoder."""
    return np.zeros((n, 0), dtype=np.float32)


def _insert(log_time: Ints, now: Ints) -> Ints:
    """The order of (log rows, new rows) where each new row stands before the first log row not earlier.

    Log rows keep their order, whatever their times.
    """
    reached = np.maximum.accumulate(log_time) if len(log_time) else log_time
    place = np.searchsorted(reached, now, side="left")
    slot = np.r_[2 * np.arange(len(log_time)) + 1, 2 * place]
    return np.argsort(slot, kind="stable")


def load_prepared(folder: Path) -> Dataset:
    """Read a folder that `prepare` wrote, after checking its hashes."""
    manifest = verify_manifest(folder)
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{folder} was prepared in format {manifest.get('format')}, this version reads {FORMAT}; prepare it again, "
            "or train the model again that it belongs to"
        )
    config = DataConfig.model_validate(manifest["config"])
    log = pl.read_parquet(folder / "log.parquet")
    names = [c for c in log.columns if c.startswith("count:")]
    counts = log.select(names).to_numpy().astype(np.float32)
    popularity = log.select("item_answers", "item_likes").to_numpy().astype(np.int64)
    texts = [c for c in log.columns if c.startswith("text:")]
    return Dataset(
        log.drop(*names, *texts, "item_answers", "item_likes"),
        pl.read_parquet(folder / "users.parquet"),
        pl.read_parquet(folder / "items.parquet"),
        config,
        counts,
        popularity,
        manifest,
        ItemTexts.load(folder / TEXTS, config.text) if texts else None,
        TextSpace.load(folder / SPACE) if texts else None,
        log.select(texts).to_numpy().astype(np.float32) if texts else None,
    )


def make_dataset(
    log: pl.DataFrame,
    users: pl.DataFrame,
    items: pl.DataFrame,
    config: DataConfig,
    manifest: dict[str, Any],
    texts: ItemTexts | None = None,
) -> Dataset:
    """Add codes, count features and popularity to an ordered, split log. `texts`: of `items`, row by row."""
    log = log.with_columns(
        pl.Series(USER_CODE, _codes(log[USER], users[USER])),
        pl.Series(ITEM_CODE, _codes(log[ITEM], items[ITEM])),
    )
    space = None if texts is None else fit_space(texts.vectors, config.text.width, config.text.neighbours)
    nothing = Dataset(
        log, users, items, config, np.zeros((0, 0), np.float32), np.zeros((0, 2), np.int64), manifest, texts, space
    )
    if config.strict_time:
        if not nothing.in_time_order:
            raise UserError("data.strict_time needs a timestamp, and a log in its order")
        asked = nothing.query(log.select(USER, ITEM, TIME))  # a query sees strictly earlier answers only
        text = None if space is None else asked.text
        return replace(nothing, counts=asked.counts, popularity=asked.popularity, text=text)
    arrays = log_arrays(log, config)
    keys = group_keys(arrays.user, arrays.item, users, items, config)
    counts, popularity = batch_counts(arrays, keys, config.counts), _popularity(arrays)
    text = None if space is None else batch_text(arrays, space, config.counts, config.text)
    return replace(nothing, counts=counts, popularity=popularity, text=text)


def log_arrays(log: pl.DataFrame, config: DataConfig) -> Log:
    """A log with codes as arrays."""
    user, item = (log[name].to_numpy().astype(np.int64) for name in (USER_CODE, ITEM_CODE))
    values = answer_values(log, rating_scale(log, config))
    return Log(user, item, _times(log), values, known_rows(log, config), shared_rows(log, config), learned_rows(log))


def group_keys(user: Ints, item: Ints, users: pl.DataFrame, items: pl.DataFrame, config: DataConfig) -> list[Keys]:
    """The keys of every group of count features, for rows with these user and item codes."""
    return [_keys(group, user, item, users, items, config) for group in config.counts.groups]


def _keys(
    group: list[str], user: Ints, item: Ints, users: pl.DataFrame, items: pl.DataFrame, config: DataConfig
) -> Keys:
    row = np.arange(len(user))
    code = np.zeros(len(user), dtype=np.int64)
    lists = [name for name in group if isinstance(items.schema.get(name), pl.List)]
    if len(lists) > 1:
        raise UserError(f"counts group {group}: at most one list column, here {', '.join(lists)}")
    if lists:
        exploded = (
            items.select(pl.int_range(pl.len()).alias("i"), pl.col(lists[0]).list.unique().alias("v"))
            .explode("v")
            .drop_nulls()
        )
        values = _rank(exploded["v"])
        start = np.searchsorted(exploded["i"].to_numpy(), np.arange(items.height + 1))
        length = np.where(item >= 0, np.diff(start)[np.maximum(item, 0)], 0)
        row = np.repeat(row, length)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
        code = values[start[item[row]] + offset].astype(np.int64)
    for name in group:
        if name in lists:
            continue
        if name in ("user", "item"):
            value = (user if name == "user" else item)[row]
        elif name in items.columns:
            value = np.r_[_rank(items[name]), -1][item[row]]
        elif name in users.columns:
            value = np.r_[_rank(users[name]), -1][user[row]]
        else:
            valid = ["user", "item", *users.columns, *items.columns]
            raise UserError(f"counts group {group}: no column '{name}'; {suggest(name, valid)}")
        size = int(value.max(initial=0)) + 2
        code = code * size + (value + 1)
    return Keys("_x_".join(group), row, code, by_user="user" in group)


def _rank(column: pl.Series) -> Ints:
    return column.cast(pl.String).fill_null("").rank("dense").to_numpy().astype(np.int64)


def _popularity(log: Log) -> Ints:
    return np.stack(before(log.item, log.values[:, 0], log.shared), axis=1).astype(np.int64)


def shared_rows(log: pl.DataFrame, config: DataConfig) -> Ints:
    """1 for the rows that counts without the user may see.

    All of them; or, where counts are frozen, those of `learned_rows`. Frozen is the default where the split is not in
    the order of time, for there a test row can stand before a training row, and where it is by items.
    """
    frozen = config.counts.frozen
    if frozen is None:
        frozen = config.split.by in ("user", "each-user", "leave-last-out", "new-items") or not in_order(log)
    if not frozen:
        return np.ones(log.height, dtype=np.int64)
    return learned_rows(log)


def known_rows(log: pl.DataFrame, config: DataConfig) -> Ints:
    """1 for the rows that later rows of their own user may see: all of them; or, where the split is by items and counts
    are not said to go on, those of training items, which stand first in the log."""
    if config.split.by != "new-items" or config.counts.frozen is False:
        return np.ones(log.height, dtype=np.int64)
    return learned_rows(log)


def learned_rows(log: pl.DataFrame) -> Ints:
    """1 for training rows and the histories of users who have training rows."""
    train = pl.col(SPLIT) == "train"
    history = (pl.col(SPLIT) == "history") & train.any().over(USER)
    return log.select(train | history).to_series().to_numpy().astype(np.int64)


def in_order(log: pl.DataFrame) -> bool:
    """Whether every training row stands before every validation and test row."""
    train = np.flatnonzero((log[SPLIT] == "train").to_numpy())
    later = np.flatnonzero(log[SPLIT].is_in(["valid", "test"]).to_numpy())
    return not len(train) or not len(later) or bool(train[-1] < later[0])


def _times(log: pl.DataFrame) -> Ints:
    if TIME in log.columns:
        return log[TIME].to_numpy().astype(np.int64)
    return np.zeros(log.height, dtype=np.int64)


def _codes(ids: pl.Series, table: pl.Series) -> Ints:
    codes = pl.DataFrame({"id": table.cast(pl.String)}).with_row_index("code")
    found = pl.DataFrame({"id": id_text(ids)}).join(codes, on="id", how="left", maintain_order="left")
    return found["code"].cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)

"""The prepared dataset: the ordered log, the catalogue, and samples that see only what came before them.

One data type flows through everything: `Samples`, arrays of users, items, and a pointer to the end of each
sample's history in the user-major `Events`. Rows of the log and new rows to score become the same `Samples`.
"""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import DRAWN, ITEM, LABEL, SPLIT, TIME, USER
from corella.config import DataConfig
from corella.data.on_disk import Features, blocks
from corella.data.preparation import Preparation
from corella.data.rows import (
    ITEM_CODE,
    USER_CODE,
    codes_of,
    group_keys,
    known_rows,
    learned_rows,
    log_arrays,
    popularity_of,
    shared_rows,
    times_of,
)
from corella.data.samples import Events, Ints, Samples
from corella.data.times import read_times
from corella.data.world import WHOLE, World
from corella.errors import UserError, suggest
from corella.features.counts import batch_counts, before, feature_names, residuals
from corella.features.log import Log
from corella.features.neighbours import PairTable, pair_table
from corella.features.ratings import RatingScale, answer_values, rating_scale
from corella.features.text.batch import batch_text
from corella.features.text.items import ItemTexts
from corella.features.text.kernels import text_names
from corella.features.text.space import TextSpace, fit_space


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
    counts: Features
    popularity: Ints
    preparation: Preparation = field(default_factory=Preparation)
    texts: ItemTexts | None = None
    """What the encoder made of the items' texts; None where it is `none`."""
    space: TextSpace | None = None
    """Where these texts lie; None without an encoder."""
    text: Features | None = None
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
        found = hashlib.sha256()
        for block in blocks(self.counts):
            found.update(block.tobytes())
        if self.vectors is not None:
            found.update(self.vectors.tobytes())
        if self.text is not None:
            for block in blocks(self.text):
                found.update(block.tobytes())
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
        order = np.lexsort((1 - self.known, self.user))  # of each user those first that histories may hold
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
            known = self.known
            if self.config.strict_time:
                return self.events.start[self.user] + _strictly_before(self.user, times_of(self.log), known)
            return self.events.start[self.user] + before(self.user, np.zeros(self.log.height), known)[0].astype(
                np.int64
            )
        end = np.arange(self.log.height)
        if self.config.strict_time:
            time = times_of(self.log)[self.events.row]
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

    @property
    def seen(self) -> "Dataset":
        """The dataset without the negatives that were drawn: what happened."""
        if DRAWN not in self.log.columns:
            return self
        real = (~self.log[DRAWN]).to_numpy()
        text = None if self.text is None else self.text[real]
        return replace(
            self, log=self.log.filter(pl.Series(real)).drop(DRAWN), counts=self.counts[real],
            popularity=self.popularity[real], text=text,
        )  # fmt: skip

    @cached_property
    def time_range(self) -> tuple[float, float]:
        """First and last second of the log; zeros where it has no times."""
        times = times_of(self.log)
        return (float(times.min()), float(times.max())) if len(times) else (0.0, 0.0)

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
        user = codes_of(frame[USER], self.users[USER])
        item = codes_of(frame[ITEM], self.items[ITEM])
        end_of_time = np.iinfo(np.int64).max // 4
        now = np.full(len(user), end_of_time)
        if TIME in frame.columns and self.in_time_order:
            times = read_times(frame[TIME], self.time_range)
            wrong = (times.seconds.is_null() & ~times.unknown & frame[TIME].is_not_null()).arg_true()
            if len(wrong):
                shown = frame[TIME][wrong[0]]
                raise UserError(f"the rows to score: row {wrong[0] + 1}, column {TIME}: {shown!r} is not a time")
            now = times.seconds.floor().cast(pl.Int64).fill_null(end_of_time).to_numpy().astype(np.int64)
        log_time = times_of(self.log)
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
        popularity = popularity_of(mixed)
        text, back = _no_text(len(user)), np.argsort(order)[len(self.user) :]
        if self.space is not None:
            text = batch_text(mixed, self.space, self.config.counts, self.config.text, back)
        own = before(mixed.user, mixed.values[:, 0], mixed.known)[0].astype(np.int64)
        begin = np.where(user >= 0, self.events.start[np.maximum(user, 0)], 0)
        return Samples(
            user, item, begin + np.where(user >= 0, own[back], 0), counts[back], popularity[back],
            np.full(len(user), -1), np.full(len(user), -1), text,
        )  # fmt: skip


def _strictly_before(user: Ints, time: Ints, known: Ints) -> Ints:
    """For every row how many known rows its user has at earlier times, int64 [rows]."""
    span = int(time.max(initial=0) - time.min(initial=0)) + 2
    key = user * span + (time - time.min(initial=0))
    earlier = np.sort(key[known == 1])
    found: Ints = np.searchsorted(earlier, key) - np.searchsorted(earlier, user * span)
    return found


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


def make_dataset(
    log: pl.DataFrame,
    users: pl.DataFrame,
    items: pl.DataFrame,
    config: DataConfig,
    texts: ItemTexts | None = None,
) -> Dataset:
    """Add codes, count features and popularity to an ordered, split log. `texts`: of `items`, row by row."""
    log = log.with_columns(
        pl.Series(USER_CODE, codes_of(log[USER], users[USER])),
        pl.Series(ITEM_CODE, codes_of(log[ITEM], items[ITEM])),
    )
    space = None if texts is None else fit_space(texts.vectors, config.text.width, config.text.neighbours)
    nothing = Dataset(
        log, users, items, config, np.zeros((0, 0), np.float32), np.zeros((0, 2), np.int64), texts=texts, space=space
    )
    if config.strict_time:
        if not nothing.in_time_order:
            raise UserError("data.strict_time needs a timestamp, and a log in its order")
        asked = nothing.query(log.select(USER, ITEM, TIME))  # a query sees strictly earlier answers only
        text = None if space is None else asked.text
        return replace(nothing, counts=asked.counts, popularity=asked.popularity, text=text)
    arrays = log_arrays(log, config)
    keys = group_keys(arrays.user, arrays.item, users, items, config)
    counts, popularity = batch_counts(arrays, keys, config.counts), popularity_of(arrays)
    text = None if space is None else batch_text(arrays, space, config.counts, config.text)
    return replace(nothing, counts=counts, popularity=popularity, text=text)

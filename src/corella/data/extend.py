"""A prepared dataset with what came since: newer interactions, items and users, and without those who left."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from corella.columns import DRAWN, ITEM, LABEL, RATING, SPLIT, TIME, USER, long_texts
from corella.config.data import CLICKS, SplitConfig
from corella.data.dataset import Dataset, make_dataset
from corella.data.negatives import with_negatives
from corella.data.preparation import Preparation, SplitFacts
from corella.data.split import split_log
from corella.data.texts import fill_users
from corella.data.times import date_text
from corella.errors import UserError
from corella.features.text.items import read_items
from corella.progress import Reporter


@dataclass(frozen=True)
class Newer:
    """What came since a dataset was prepared."""

    interactions: pl.DataFrame
    """USER, ITEM, LABEL, RATING (null where there is none), TIME; in the order they came, one row for a pair unless all
    count."""
    items: pl.DataFrame
    """ITEM, `text`, and columns of the dataset's items; in place of rows with the same ids."""
    users: pl.DataFrame
    """USER, `text`, and columns of the dataset's users."""
    left: Callable[[str], bool]
    """Whether a user of the dataset has to be left out."""
    replaces: bool
    """Whether an interaction counts in place of an older one of the same pair (else the older one counts)."""


def extended(dataset: Dataset, newer: Newer, seed: int, reporter: Reporter | None = None) -> Dataset:
    """The dataset of a log and what came since, counted once: a row that both have is one row. Split by time, whatever
    the first split was: the newest tenth is for testing, the tenth before it for validation. Raises `UserError` where a
    part is empty.

    Ratings and likes without one live together: a row's label is what it was, its rating may be missing.
    """
    config = dataset.config.model_copy(update={"split": SplitConfig()})
    log = dataset.log if DRAWN not in dataset.log.columns else dataset.log.filter(~pl.col(DRAWN))
    names = [name for name in (USER, ITEM, LABEL, RATING, TIME) if name in log.columns]
    users = dataset.users
    gone = [name for name in users[USER].cast(pl.String).to_list() if newer.left(name)]
    users = users.filter(~pl.col(USER).cast(pl.String).is_in(gone))
    log = log.select(names).filter(~pl.col(USER).is_in(gone))
    items = _with_rows(dataset.items, newer.items, ITEM)
    more = newer.interactions.filter(pl.col(ITEM).is_in(items[ITEM].implode()))
    log = _joined(log, more.select(names).cast(log.schema), config.duplicates, replaces=newer.replaces)
    if not log.height:
        raise UserError("nothing is left to train on")
    users = _with_users(users, newer.users, log, config.user_text)
    clicks = config.label == CLICKS
    log = split_log(log, config.split, seed, config.only_likes or clicks, items)
    if clicks and not config.only_likes:
        log = with_negatives(log, config.negatives, seed)
    texts = read_items(long_texts(items), config.text, reporter)
    made = make_dataset(log, users, items, config, texts)
    return replace(made, preparation=_preparation(made, more.height))


def _joined(log: pl.DataFrame, more: pl.DataFrame, duplicates: str, *, replaces: bool) -> pl.DataFrame:
    """In the order of time, where there are times; else what came since stands behind."""
    both = pl.concat([log, more]).unique(log.columns, keep="first", maintain_order=True)
    if TIME in both.columns:
        both = both.sort(TIME, maintain_order=True)
    if duplicates == "keep":
        return both
    return both.unique([USER, ITEM], keep="last" if replaces else "first", maintain_order=True)


def _with_rows(table: pl.DataFrame, more: pl.DataFrame, key: str) -> pl.DataFrame:
    """With rows in place of those with the same key; columns that the table does not have are left out."""
    known = more.select([name for name in table.columns if name in more.columns])
    known = known.cast({name: table.schema[name] for name in known.columns})
    kept = table.filter(~pl.col(key).is_in(known[key].implode()))
    return pl.concat([kept, known], how="diagonal").sort(key)


def _with_users(users: pl.DataFrame, more: pl.DataFrame, log: pl.DataFrame, template: str) -> pl.DataFrame:
    """A row for everybody in the log; the texts of those of whom nothing is said are made as the others' were."""
    users = _with_rows(users, more.filter(pl.col(USER).is_in(log[USER].implode())), USER)
    users = users.filter(pl.col(USER).is_in(log[USER].implode()))
    new = log.select(USER).unique().join(users, on=USER, how="anti")
    bare = pl.concat([users.clear(), new], how="diagonal").with_columns(fill_users(template).alias("text"))
    return pl.concat([users, bare], how="diagonal").sort(USER)


def _preparation(dataset: Dataset, came: int) -> Preparation:
    log = dataset.log
    parts = log.group_by(SPLIT, maintain_order=True).agg(
        rows=pl.len(), users=pl.col(USER).n_unique(), items=pl.col(ITEM).n_unique(), positive=pl.col(LABEL).mean(),
        **{} if TIME not in log.columns else {"first": pl.col(TIME).min(), "last": pl.col(TIME).max()},
    )  # fmt: skip
    facts = {
        "interactions kept": log.height, "of these told to the service": came, "users": dataset.users.height,
        "items": dataset.items.height,
    }  # fmt: skip
    return Preparation(facts, [SplitFacts(*part[:5], *map(date_text, part[5:])) for part in parts.rows()])

"""What is told of a log that is prepared: its parts, its ends, and who comes most often; in bounded memory."""

from typing import Any

import polars as pl

from corella.columns import ITEM, LABEL, RATING, SPLIT, TIME, USER
from corella.data.preparation import Extremes, SplitFacts
from corella.data.rows import ITEM_CODE, USER_CODE
from corella.data.times import date_text


def split_facts(log: pl.LazyFrame) -> list[SplitFacts]:
    """Of each part of the split; `log`: a prepared one."""
    times = TIME in log.collect_schema()
    parts = _collected(
        log.group_by(SPLIT).agg(
            pl.len(), pl.col(USER_CODE).n_unique(), pl.col(ITEM_CODE).n_unique(), pl.col(LABEL).mean(),
            *((pl.col(TIME).min().alias("first"), pl.col(TIME).max().alias("last")) if times else ()),
        )
    )  # fmt: skip
    splits = [SplitFacts(*part[:5], *map(date_text, part[5:])) for part in parts.rows()]
    order = {"train": 0, "valid": 1, "test": 2, "history": 3}
    return sorted(splits, key=lambda part: order[part.split])


def extremes(log: pl.LazyFrame) -> Extremes:
    """Of the rows that are kept."""
    said = ""
    if RATING in log.collect_schema():
        rating = log.select(RATING).drop_nulls()
        low, high = _collected(rating.select(pl.min(RATING).alias("low"), pl.max(RATING).alias("high"))).row(0)
        times = _collected(
            rating.select((pl.col(RATING) == end).sum().alias(f"{n}") for n, end in enumerate((low, high)))
        )
        if low is not None:
            said = " to ".join(f"{end:g} ({n:,} times)" for end, n in zip((low, high), times.row(0), strict=True))
    return Extremes(said, _busiest(log, USER_CODE, USER), _busiest(log, ITEM_CODE, ITEM))


def _busiest(log: pl.LazyFrame, code: str, key: str) -> str:
    counted = log.group_by(code).agg(pl.first(key), pl.len().alias("rows"))
    name, rows = _collected(counted.sort("rows", key, descending=[True, False]).head(1)).row(0)[1:]
    return f"{name!r} with {rows:,} rows"


def _collected(frame: pl.LazyFrame) -> pl.DataFrame:
    found: Any = frame.collect(engine="streaming")
    assert isinstance(found, pl.DataFrame)  # noqa: S101
    return found

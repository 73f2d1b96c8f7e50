"""Order the log and split it. Adds the column `split`; never looks at labels."""

from datetime import UTC, datetime

import numpy as np
import polars as pl

from corella.columns import EXACT_TIME, LABEL, SPLIT, SPLITS, TIME, USER
from corella.config import DataConfig, SplitConfig
from corella.data.new_items import item_parts, of_items
from corella.data.times import date_text
from corella.errors import UserError

_SAMPLE = "_sample"


def order_log(log: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """Sort by the configured columns, and keep the rows that are asked for."""
    ordered = sort_log(log, config)
    return ordered.head(config.max_rows) if config.max_rows else ordered


def sort_log(log: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """Sort by the configured columns, by exact times; ties keep the file's row order."""
    by = _order(log, config)
    return log.sort(by, maintain_order=True) if by else log


def tied_share(log: pl.DataFrame, config: DataConfig) -> float:
    """Share of the rows that the configured columns do not order among the rows of their user."""
    by = _order(log, config)
    return float(log.select(pl.struct(*dict.fromkeys([USER, *by])).is_duplicated().mean()).item()) if by else 0.0


def _order(log: pl.DataFrame, config: DataConfig) -> list[str]:
    return [EXACT_TIME if name == TIME and EXACT_TIME in log.columns else name for name in config.order]


def split_log(
    log: pl.DataFrame,
    config: SplitConfig,
    seed: int,
    only_likes: bool = False,
    items: pl.DataFrame | None = None,
    reasons: str = "",
) -> pl.DataFrame:
    """Add `split` to an ordered log, and put its parts one behind the other where the split is `in_parts`. `items`: the
    table with the columns that the split names. Raises `UserError` where a part is empty, or holds one class only
    although `only_likes` does not say that it should; it tells which rows went where, and `reasons`: what was dropped
    before."""
    if config.by != "column":
        earlier = pl.int_range(pl.len()).over(USER)
        sample = earlier >= config.min_history
        if config.by == "new-items":
            parts = item_parts(log, items, config, seed)
        elif config.within is not None:
            parts = _by_time_within(of_items(log, items, config.within, "within"), config, sample)
        else:
            parts = _PARTS[config.by](log, config, sample, seed)
        log = log.with_columns(parts.alias(SPLIT), sample.alias(_SAMPLE))
        if config.in_parts:  # history rows stay with the part that they come in
            log = log.sort(pl.col(SPLIT).replace_strict({"train": 0, "valid": 1, "test": 2}), maintain_order=True)
        log = log.with_columns(pl.when(_SAMPLE).then(SPLIT).otherwise(pl.lit("history")).alias(SPLIT)).drop(_SAMPLE)
    elif config.learn_history:
        log = log.with_columns(_history_as_samples(config.min_history))
    for part in ("train", "valid", "test"):
        labels = log.filter(pl.col(SPLIT) == part)[LABEL]
        if labels.len() == 0:
            raise UserError(f"split by {config.by}: no {part} rows: {_whereabouts(log, config, reasons)}")
        if labels.n_unique() < 2 and not only_likes:
            raise UserError(
                f"split by {config.by}: all {labels.len()} {part} rows have label {labels[0]}; "
                f"{_whereabouts(log, config, reasons)}"
            )
    return log


def _whereabouts(log: pl.DataFrame, config: SplitConfig, reasons: str) -> str:
    """Which rows went where, what the settings asked for, and what was dropped before."""
    rows = {part: int((log[SPLIT] == part).sum()) for part in SPLITS}
    said = ", ".join(f"{part} {count:,}" for part, count in rows.items() if count or part != "history") + " rows"
    if TIME in log.columns and log.height:
        first, last = (date_text(float(end)) for end in (log[TIME].min(), log[TIME].max()))  # type: ignore[arg-type]
        said += f"; the log goes from {first} to {last}"
    if config.dates is not None:
        said += f", validation begins at {config.dates[0]} and test at {config.dates[1]}"
    return f"{said}; change data.split" + (f"; {reasons}" if reasons else "")


def _history_as_samples(least: int) -> pl.Expr:
    """The split where history rows whose user's next sample is a training row are training rows too. Validation stays
    as it was given: like test."""
    history = pl.col(SPLIT) == "history"
    following = pl.when(~history).then(SPLIT).backward_fill().over(USER)
    known = history & (following == "train") & (pl.int_range(pl.len()).over(USER) >= least)
    return pl.when(known).then(pl.lit("train")).otherwise(SPLIT).alias(SPLIT)


def _by_time(log: pl.DataFrame, config: SplitConfig, sample: pl.Expr, seed: int) -> pl.Expr:
    del seed
    if config.dates is not None:
        if TIME not in log.columns:
            raise UserError("split by dates needs a column 'timestamp'")
        begin = [seconds_of(date) for date in config.dates]
        return _cut(pl.col(TIME), begin[0], begin[1])
    total = int(log.select(sample.sum()).item())
    return _cut(sample.cast(pl.Int64).cum_sum() - 1, *cuts_of(total, config))


def _by_time_within(group: pl.Series, config: SplitConfig, sample: pl.Expr) -> pl.Expr:
    """By fractions of the samples of each group; parts are rounded down as elsewhere."""
    key, place = pl.lit(group), sample.cast(pl.Int64)
    train, valid = ((place.sum().over(key) * f + 1e-9).floor().cast(pl.Int64) for f in config.fractions[:2])
    return _cut(place.cum_sum().over(key) - 1, train, train + valid)


def seconds_of(date: str) -> float:
    """An ISO date as seconds; without a time zone it means UTC."""
    moment = datetime.fromisoformat(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _by_user(log: pl.DataFrame, config: SplitConfig, sample: pl.Expr, seed: int) -> pl.Expr:
    del sample
    users = np.random.default_rng(seed).permutation(log[USER].unique().sort().to_numpy())
    parts = np.split(users, cuts_of(len(users), config))
    mapping = {str(u): name for name, ids in zip(("train", "valid", "test"), parts, strict=True) for u in ids}
    return pl.col(USER).replace_strict(mapping, return_dtype=pl.String)


def _each_user(log: pl.DataFrame, config: SplitConfig, sample: pl.Expr, seed: int) -> pl.Expr:
    """Within each user: the largest random keys are test, the next ones validation, at least one of each."""
    del sample
    key = pl.Series(np.random.default_rng(seed).permutation(log.height))
    place = key.to_frame("k").select(pl.col("k").rank("ordinal").over(log[USER]))["k"]
    rows = pl.len().over(USER)
    valid, test = ((rows * f + 1e-9).floor().cast(pl.Int64).clip(lower_bound=1) for f in config.fractions[1:])
    return _cut(pl.lit(place) - 1, rows - valid - test, rows - test)


def _leave_last_out(log: pl.DataFrame, config: SplitConfig, sample: pl.Expr, seed: int) -> pl.Expr:
    del log, config, sample, seed
    from_end = pl.len().over(USER) - 1 - pl.int_range(pl.len()).over(USER)
    return (
        pl.when(from_end == 0).then(pl.lit("test")).when(from_end == 1).then(pl.lit("valid")).otherwise(pl.lit("train"))
    )


def cuts_of(total: int, config: SplitConfig) -> tuple[int, int]:
    """Where validation and test begin; each part is rounded down by itself, and test takes what is left."""
    train, valid = (int(total * fraction + 1e-9) for fraction in config.fractions[:2])
    return train, train + valid


def _cut(value: pl.Expr, first: float | pl.Expr, second: float | pl.Expr) -> pl.Expr:
    return (
        pl.when(value < first)
        .then(pl.lit("train"))
        .when(value < second)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test"))
    )


_PARTS = {"time": _by_time, "user": _by_user, "each-user": _each_user, "leave-last-out": _leave_last_out}

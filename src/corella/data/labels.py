"""What an interaction says: its label by the rule of the settings, its rating, or that it happened at all."""

import polars as pl

from corella.columns import FILE_ROW, ITEM, LABEL, RATING, REVIEW, SPLIT, TIME, USER
from corella.config import DataConfig
from corella.config.data import CLICKS
from corella.data.ledger import Ledger, require
from corella.errors import UserError, suggest
from corella.features.ratings import LabelRule

_WORDS = {"true": "1", "t": "1", "yes": "1", "y": "1", "false": "0", "f": "0", "no": "0", "n": "0"}
_FEW = 0.01
"""Share of the labels that may be neither 0 nor 1: more of them say that a rule is missing."""
_MOST_SCALE, _FAR = 21, 3.0
"""Different values that a scale of ratings has at most, and how many times its length a rating may lie beyond it."""


def with_labels(log: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str) -> pl.DataFrame:
    """Interactions with LABEL (int8), and RATING (float64) where there is one. Raises `UserError` where no label can be
    read."""
    if only_clicks(log, config):
        ledger.warnings.append(
            f"{table}: no label and no rating, so every row is taken as a click, something liked. What was not clicked "
            "is not known"
        )
        return log.with_columns(pl.lit(1, pl.Int8).alias(LABEL))
    if config.label == LABEL:
        require(log, [LABEL], table)
        return _optional_rating(_as_answers(log, config, ledger, table))
    rule = LabelRule.parse(config.label)
    column = rule.column
    if column not in log.columns and LABEL in log.columns:
        raise UserError(
            f"{table}: no column '{column}', which data.label '{config.label}' needs; set data.label: {LABEL} to take "
            f"the answers from the column '{LABEL}'"
        )
    if column not in log.columns and column == RATING:
        shown = [name for name in log.columns if not name.startswith("_")]
        raise UserError(
            f"{table}: no column '{RATING}'; {suggest(RATING, shown)}: name the column with the ratings in `columns`, "
            f"or write `data.label: {CLICKS}` where every row is a click"
        )
    require(log, [column], table)
    log = number(log, column, ledger, table)
    if column == RATING:
        log = _without_outliers(log, ledger, table)
    if LABEL in log.columns and column != LABEL:
        ledger.warnings.append(
            f"{table}: the column '{LABEL}' is not read, since data.label is '{config.label}'; set data.label: {LABEL} "
            "to take the answers from it"
        )
    if column != RATING:
        log = _optional_rating(log)
    return log.with_columns(rule.compare(pl.col(column), rule.bound).cast(pl.Int8).alias(LABEL))


def only_clicks(log: pl.DataFrame, config: DataConfig) -> bool:
    """Whether every row is a click: by the settings, or since the log has nothing else but users, items and times."""
    if config.label == CLICKS:
        return True
    nothing_else = {USER, ITEM, TIME, REVIEW, SPLIT} >= {name for name in log.columns if not name.startswith("_")}
    meant = config.label == LABEL or LabelRule.parse(config.label).column == RATING
    return meant and (nothing_else or (config.only_likes and not {LABEL, RATING} & set(log.columns)))


def as_clicks(config: DataConfig) -> DataConfig:
    """The settings of a log of clicks."""
    return config.model_copy(
        update={"label": CLICKS, "counts": config.counts.model_copy(update={"clicks": True, "ratings": False})}
    )


def number(frame: pl.DataFrame, column: str, ledger: Ledger, table: str) -> pl.DataFrame:
    """A column as float64; rows without a value, or with one that is no number, are dropped."""
    blank = pl.col(column).is_null()
    if frame.schema[column] == pl.String:
        blank |= pl.col(column).str.strip_chars() == ""
    frame = ledger.drop(frame, blank, f"no {column}", table, column)
    parsed = as_number(frame[column])
    frame = frame.with_columns(parsed.alias("_number"))
    frame = ledger.drop(frame, ~pl.col("_number").is_finite().fill_null(False), "not a number", table, column)
    return frame.with_columns(pl.col("_number").alias(column)).drop("_number")


def as_number(column: pl.Series) -> pl.Series:
    """A column as float64, null where a value is no number; text and categories are read.

    >>> as_number(pl.Series(["4.5", " 3", "five"])).to_list()
    [4.5, 3.0, None]
    """
    if column.dtype.is_nested() or column.dtype.is_temporal():
        return pl.Series(column.name, [None] * len(column), dtype=pl.Float64)
    plain = column if column.dtype.is_numeric() or column.dtype == pl.Boolean else column.cast(pl.String)
    if plain.dtype == pl.String:
        plain = plain.str.strip_chars()
    return plain.cast(pl.Float64, strict=False)


def _as_answers(log: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str) -> pl.DataFrame:
    """The column LABEL as 0 and 1: of numbers, of true and false or yes and no, of -1 and 1, of 1 and blanks."""
    if log.schema[LABEL] == pl.String:
        word = pl.col(LABEL).str.strip_chars().str.to_lowercase()
        log = log.with_columns(
            pl.when(word.is_in(list(_WORDS))).then(word.replace(_WORDS)).otherwise(LABEL).alias(LABEL)
        )
    values = as_number(log[LABEL]).drop_nulls().drop_nans()
    kinds, blank = sorted(values.unique().to_list()), log[LABEL].is_null()
    if log.schema[LABEL] == pl.String:
        blank |= log[LABEL].str.strip_chars() == ""
    if kinds == [1.0] and blank.fill_null(True).any() and not config.only_likes:
        ledger.warnings.append(
            f"{table}: the label is 1 or blank: {int(blank.fill_null(True).sum()):,} blanks are read as 0, not liked"
        )
        log = log.with_columns(pl.when(blank.fill_null(True)).then(pl.lit(0.0)).otherwise(1.0).alias(LABEL))
    log = number(log, LABEL, ledger, table)
    if kinds == [-1.0, 1.0]:
        ledger.warnings.append(f"{table}: the label is -1 or 1: -1 is read as 0, not liked")
        log = log.with_columns(pl.col(LABEL).clip(0.0, 1.0))
    strange = log.filter(~pl.col(LABEL).is_in([0.0, 1.0]))
    if strange.height > max(_FEW * log.height, 1):
        shown = ", ".join(f"{value:g}" for value in kinds[:6]) + (", ..." if len(kinds) > 6 else "")
        raise UserError(
            f"{table}, row {strange[FILE_ROW][0]}: the labels are {shown}, not 0 and 1; write which are positive as a "
            f"rule, e.g. `data.label: {LABEL} > {(kinds[0] + kinds[-1]) / 2:g}`"
        )
    log = ledger.drop(log, ~pl.col(LABEL).is_in([0.0, 1.0]), "label is neither 0 nor 1", table, LABEL)
    return log.with_columns(pl.col(LABEL).cast(pl.Int8))


def _without_outliers(log: pl.DataFrame, ledger: Ledger, table: str) -> pl.DataFrame:
    """Drop ratings far beyond the scale of the others: mistakes, which would stretch it. Only where there is a scale, a
    few values that come often; counts of plays have none."""
    often = log[RATING].value_counts().filter(pl.col("count") >= max(2, log.height // 2000))[RATING]
    if not 2 <= len(often) <= _MOST_SCALE:
        return log
    low, high = float(often.min()), float(often.max())  # type: ignore[arg-type]
    margin = _FAR * (high - low)
    far = (pl.col(RATING) > high + margin) | (pl.col(RATING) < low - margin)
    return ledger.drop(log, far, f"rating far beyond the scale of the others, {low:g} to {high:g}", table, RATING)


def _optional_rating(log: pl.DataFrame) -> pl.DataFrame:
    """A rating that decides no label may be missing or no number."""
    return log.with_columns(as_number(log[RATING])) if RATING in log.columns else log

"""Names of the columns, and the raw tables that every source yields. Column names exist only here."""

from dataclasses import dataclass, field

import polars as pl

USER = "user_id"
ITEM = "item_id"
RATING = "rating"
TIME = "timestamp"
LABEL = "label"
SPLIT = "split"
REVIEW = "review"
"""What the user wrote about the item, where the source tells."""
DESCRIPTION = "description_text"
"""An item's longer text, made by `data.item_description`."""
EXACT_TIME = "_exact_time"
"""The time with its fraction of a second, until the log is ordered."""
FILE_ROW = "_file_row"
"""1-based line of a row in its file (the header is line 1); made by the readers, for messages."""

SPLITS = ("train", "valid", "test", "history")
"""Values of the column `split`; a `history` row is context for later rows and never a sample."""


@dataclass(frozen=True)
class RawTables:
    """What a source yields: interactions, and where they exist users and items. Ids may be of any type."""

    interactions: pl.DataFrame
    users: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    names: dict[str, str] = field(default_factory=dict)
    """Table name -> the file it came from, for messages."""


def long_texts(items: pl.DataFrame) -> list[str]:
    """What an encoder reads of each item: its text and, where there is one, its longer text."""
    if DESCRIPTION not in items.columns:
        return items["text"].to_list()
    both = pl.concat_str(
        pl.col("text"), pl.when(pl.col(DESCRIPTION) != "").then(DESCRIPTION), separator=". ", ignore_nulls=True
    )
    return items.select(both).to_series().to_list()


def id_text(ids: pl.Series) -> pl.Series:
    """Ids as text; whole numbers that came as floats (a column with nulls) lose their `.0`."""
    if ids.dtype.is_float():
        whole = ids.cast(pl.Int64, strict=False)
        ids = whole.cast(pl.String) if bool((whole == ids).all()) else ids.cast(pl.String)
    return ids.cast(pl.String)


def epoch_seconds(times: pl.Series) -> pl.Series:
    """Times as whole seconds since 1970 (UTC), int64, fractions cut off; null where a value is no time.

    Takes what `exact_seconds` takes.
    """
    return exact_seconds(times).floor().cast(pl.Int64)


def exact_seconds(times: pl.Series) -> pl.Series:
    """Times as seconds since 1970 (UTC), float64, with their fractions; null where a value is no time.

    Takes dates and datetimes; numbers, which are seconds, or by their size (from 1e11 on, the year 5138 in seconds)
    milli-, micro- or nanoseconds; and text that holds such a number or an ISO date or datetime (UTC, where no zone is
    given).
    """
    if times.dtype in (pl.Date, pl.Datetime):
        return times.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    if times.dtype.is_temporal() or times.dtype.is_nested():  # times of day, durations, lists
        return pl.Series(times.name, [None] * len(times), dtype=pl.Float64)
    text = times if times.dtype.is_numeric() else times.cast(pl.String)
    seconds = text.to_frame("t").select(_by_size(pl.col("t").cast(pl.Float64, strict=False)))["t"]
    if text.dtype == pl.String and seconds.null_count() > times.null_count():
        seconds = text.to_frame("t").select(pl.coalesce(seconds, *_by_iso(pl.col("t")))).to_series()
    return seconds.alias(times.name)


def _by_size(number: pl.Expr) -> pl.Expr:
    """Seconds of numbers whose unit their size tells; null for what is not finite."""
    size = number.abs()
    unit = pl.when(size >= 1e17).then(1e9).when(size >= 1e14).then(1e6).when(size >= 1e11).then(1e3).otherwise(1.0)
    return pl.when(number.is_finite()).then(number / unit)


def _by_iso(text: pl.Expr) -> list[pl.Expr]:
    """Seconds by each of the ISO forms; null where a text has not that form."""
    plain = text.str.strip_chars().str.replace(r"(\d)T(\d)", "${1} ${2}").str.replace(r"\s*(Z|UTC)$", "+0000")
    plain = plain.str.replace(r"^(\d{4}-\d{1,2}-\d{1,2})$", "${1} 00:00")
    plain = plain.str.replace(r"(:\d\d.*?)\s*([+-]\d\d)$", "${1}${2}00")
    zoned = pl.when(plain.str.contains(r":\d\d.*[+-]\d\d:?\d\d$")).then(plain).otherwise(plain + "+0000")
    forms = ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z")
    return [zoned.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("us") / 1e6 for form in forms]

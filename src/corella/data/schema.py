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


def id_text(ids: pl.Series) -> pl.Series:
    """Ids as text; whole numbers that came as floats (a column with nulls) lose their `.0`."""
    if ids.dtype.is_float():
        whole = ids.cast(pl.Int64, strict=False)
        ids = whole.cast(pl.String) if bool((whole == ids).all()) else ids.cast(pl.String)
    return ids.cast(pl.String)


def epoch_seconds(times: pl.Series) -> pl.Series:
    """Times as whole seconds since 1970 (UTC), int64; null where a value is no time.

    Takes dates and datetimes, numbers (seconds), and text that holds a number or an ISO date or datetime.
    """
    if times.dtype.is_temporal():
        return times.cast(pl.Datetime("us")).dt.epoch("s")
    numbers = times.cast(pl.Float64, strict=False)
    numbers = pl.select(pl.when(numbers.is_finite()).then(numbers)).to_series()
    seconds = numbers.round(0).cast(pl.Int64)
    if times.dtype == pl.String and seconds.null_count() > times.null_count():
        plain = times.str.strip_chars().str.replace(r"Z$|[+]00:?00$", "").str.replace("T", " ")
        parsed = [plain.str.to_datetime(form, strict=False, time_unit="us") for form in _ISO]
        seconds = pl.select(pl.coalesce(seconds, *(p.dt.epoch("s") for p in parsed))).to_series()
    return seconds.alias(times.name)


_ISO = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")

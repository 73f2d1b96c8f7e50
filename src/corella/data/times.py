"""Times in any form that logs have them in, as seconds since 1970: tables, rows to score and events are read here.

A number may be seconds, milli-, micro- or nanoseconds, a year, or a date written as a number (20200913, with hours and
minutes behind it or without). Its size tells, and for what could be both a date and seconds the whole column tells.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

_DIGITS = (8, 12, 14)
"""Of dates written as numbers: to the day, the minute, the second."""
_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_LONG_AGO = 1e8
"""March 1973: where all times are later, a 0 or a -1 among them is no time."""
_NO_TIME = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_NINES = [float("9" * digits) for digits in range(4, 19) if digits != 9]
"""Written where a time is not known; nine of them are a second of the year 2001."""


_TEN = _NINES.index(9_999_999_999.0)
_ISO = re.compile(
    r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3])(:[0-5]\d){2}(\.\d{1,6})?(Z|[+-]\d\d:\d\d)"
)


@dataclass(frozen=True)
class Times:
    """A column of times."""

    seconds: pl.Series
    """Since 1970 (UTC), float64, with their fractions; null where a value is no time."""
    unknown: pl.Series
    """bool: where a value says that the time is not known (-1, 0, 9999...); null in `seconds`."""
    as_dates: bool
    """Whether numbers were read as dates (20200913) or years."""


def read_times(times: pl.Series, near: tuple[float, float] | None = None) -> Times:
    """Read a column. `near`: first and last second of the log that the times belong to; it decides where numbers could
    be dates and seconds both.

    >>> read_times(pl.Series([20200913, 20200914])).seconds.to_list()
    [1599955200.0, 1600041600.0]
    >>> read_times(pl.Series([1599955200000, -1])).unknown.to_list()
    [False, True]
    """
    none = pl.Series(times.name, [None] * len(times), dtype=pl.Float64)
    if times.dtype in (pl.Date, pl.Datetime):
        return _without_markers(times.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6, none, near, False)
    if times.dtype.is_temporal() or times.dtype.is_nested():  # times of day, durations, lists
        return Times(none, none.is_not_null(), False)
    text = times if times.dtype.is_numeric() else times.cast(pl.String).str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    number = pl.select(pl.when(number.is_finite()).then(number)).to_series()
    seconds, dates = _by_size(number), _as_dates(number)
    as_dates = dates is not None and (near is None or _nearer(dates, seconds, near))
    if dates is not None and as_dates:
        seconds = dates
    if text.dtype == pl.String and number.null_count() > times.null_count():
        seconds = text.to_frame("t").select(pl.coalesce(seconds, *_by_iso(pl.col("t")))).to_series()
        blank = text.str.contains(r"^0000-00-00")
        number = pl.select(pl.when(blank).then(0.0).otherwise(number)).to_series()
    return _without_markers(seconds.alias(times.name), number, near, as_dates)


def read_time(value: float | str, near: tuple[float, float] | None = None) -> float | None:
    """One time as seconds since 1970; None where it is none.

    >>> read_time("2020-09-13T00:00:00Z"), read_time("soon")
    (1599955200.0, None)
    """
    plain = _plain(value)
    if plain is not None:
        return plain
    found: float | None = read_times(pl.Series([value], strict=False), near).seconds[0]
    return found


def _plain(value: float | str) -> float | None:
    """The same for what can be nothing else: seconds of 1973 to 2286, or a whole ISO text with its zone. A service
    reads thousands a second; a column of one is a hundred times slower."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value).timestamp() if _ISO.fullmatch(value) else 0.0
    return float(value) if _LONG_AGO < value < _NINES[_TEN] else None


def exact_seconds(times: pl.Series) -> pl.Series:
    """Times as seconds since 1970 (UTC), float64, with their fractions; null where a value is no time."""
    return read_times(times).seconds


def epoch_seconds(times: pl.Series, near: tuple[float, float] | None = None) -> pl.Series:
    """Times as whole seconds since 1970 (UTC), int64, fractions cut off; null where a value is no time."""
    return read_times(times, near).seconds.floor().cast(pl.Int64)


def date_text(seconds: float) -> str:
    """A time for people.

    >>> date_text(1599955200)
    '2020-09-13 00:00:00'
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"second {seconds:.0f}"


def _by_size(number: pl.Series) -> pl.Series:
    """Seconds of numbers whose unit their size tells."""
    size = number.abs()
    unit = pl.when(size >= 1e17).then(1e9).when(size >= 1e14).then(1e6).when(size >= 1e11).then(1e3).otherwise(1.0)
    return pl.select(number / unit).to_series()


def _as_dates(number: pl.Series) -> pl.Series | None:
    """Seconds of numbers that are years or dates; None where they are not."""
    told = number.filter(~_marker(number) & number.is_not_null())
    if not len(told):
        return None
    if told.is_between(_FIRST_YEAR, _LAST_YEAR).all() and (told == told.floor()).all():
        return pl.select(
            pl.datetime(number.clip(1, 9999).cast(pl.Int64), 1, 1).dt.epoch("s").cast(pl.Float64)
        ).to_series()
    likely = sum(int(_in_range(told, digits).sum()) for digits in _DIGITS)
    if 2 * likely <= len(told):
        return None
    text = number.cast(pl.Int64, strict=False).cast(pl.String)
    each = []
    for digits in _DIGITS:
        fits = pl.when(_in_range(number, digits) & (number == number.floor())).then(text)
        padded = fits + "0" * (14 - digits)
        each.append(padded.str.to_datetime("%Y%m%d%H%M%S", strict=False).dt.epoch("s").cast(pl.Float64))
    found = pl.select(pl.coalesce(each)).to_series()
    return found if 2 * (len(found) - found.null_count()) > len(told) else None


def _in_range(number: pl.Series, digits: int) -> pl.Series:
    """Whether the numbers, written with so many digits, begin with a year."""
    unit = 10.0 ** (digits - 4)
    return number.is_between(_FIRST_YEAR * unit, (_LAST_YEAR + 1) * unit)


def _nearer(dates: pl.Series, seconds: pl.Series, near: tuple[float, float]) -> bool:
    """Whether the dates are nearer to the log than the seconds."""
    first, last = near

    def away(found: pl.Series) -> float:
        middle = found.median()
        return max(first - middle, middle - last, 0.0) if isinstance(middle, float) else float("inf")

    return away(dates) <= away(seconds)


def _marker(number: pl.Series) -> pl.Series:
    return number.is_in([-1.0, 0.0, *_NINES]).fill_null(False)


def _without_markers(seconds: pl.Series, number: pl.Series, near: tuple[float, float] | None, as_dates: bool) -> Times:
    """Take out what says that a time is not known, where it can be no time."""
    marked = _marker(number) | seconds.is_in([-1.0, 0.0]).fill_null(False)
    rest = seconds.filter(~marked).min()
    late = as_dates or (near is not None and near[0] > _LONG_AGO) or (isinstance(rest, float) and rest > _LONG_AGO)
    unknown = (marked & late) | (seconds >= _NO_TIME).fill_null(False)
    return Times(pl.select(pl.when(~unknown).then(seconds)).to_series().alias(seconds.name), unknown, as_dates)


def _by_iso(text: pl.Expr) -> list[pl.Expr]:
    """Seconds by each of the ISO forms; null where a text has not that form."""
    plain = text.str.replace(r"^(\d{4})/(\d{1,2})/(\d{1,2})", "${1}-${2}-${3}")
    plain = plain.str.replace(r"(\d)T(\d)", "${1} ${2}").str.replace(r"\s*(Z|UTC)$", "+0000")
    plain = plain.str.replace(r"^(\d{4}-\d{1,2}-\d{1,2})$", "${1} 00:00")
    plain = plain.str.replace(r"(:\d\d.*?)\s*([+-]\d\d)$", "${1}${2}00")
    zoned = pl.when(plain.str.contains(r":\d\d.*[+-]\d\d:?\d\d$")).then(plain).otherwise(plain + "+0000")
    forms = ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z")
    return [zoned.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("us") / 1e6 for form in forms]

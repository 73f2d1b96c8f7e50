"""Ids as text, by one rule for text files, Parquet and databases."""

import polars as pl

_EXACT = {"Float32": 2**24, "Float64": 2**53}
"""From here on floats cannot tell neighbouring whole numbers apart."""
_WHOLE, _WITH_ZEROS = r"^[+-]?\d+(\.0*)?$", r"^([+-]?\d+)\.0*$"


def id_text(ids: pl.Series) -> pl.Series:
    """Ids as text without blanks around them. Whole numbers lose their `.0` in numbers of any type, and in text where
    all of the column are whole numbers, as a column with gaps is written by pandas.

    >>> id_text(pl.Series(["1001", "1001.0"])).to_list()
    ['1001', '1001']
    >>> id_text(pl.Series(["1.0", "1.0.1"])).to_list()
    ['1.0', '1.0.1']
    >>> id_text(pl.Series([108.0, 123.5])).to_list()
    ['108', '123.5']
    """
    if ids.dtype.is_float():
        ids = ids.fill_nan(None)
        whole = ids.cast(pl.Int64, strict=False)
        shown = pl.when(whole == ids).then(whole.cast(pl.String)).otherwise(ids.cast(pl.String))
        return pl.select(shown.alias(ids.name)).to_series()
    if ids.dtype.is_decimal():
        return ids.cast(pl.String).str.replace(r"(\.\d*?)0+$", "${1}").str.strip_suffix(".")
    text = ids.cast(pl.String).str.strip_chars()
    if text.str.contains(_WITH_ZEROS).any() and text.drop_nulls().str.contains(_WHOLE).all():
        return text.str.replace(_WITH_ZEROS, "${1}")
    return text


def id_warnings(ids: pl.Series, table: str) -> list[str]:
    """What may be wrong with the ids of a column, for whoever wrote them."""
    said = []
    if ids.dtype.is_float():
        largest, exact = ids.abs().max(), _EXACT[str(ids.dtype)]
        if isinstance(largest, float) and largest > exact:
            said.append(
                f"{table}: {ids.name} holds {ids.dtype} numbers up to {largest:.0f}; beyond {exact} "
                "neighbouring ids are the same number: write ids as whole numbers or as text"
            )
    elif ids.dtype == pl.String:
        blank = ids.filter(ids.str.strip_chars() != ids)
        if len(blank):
            said.append(
                f"{table}: {len(blank):,} values of {ids.name} had blanks around them, e.g. {blank[0]!r}: cut off"
            )
        some = ids.drop_nulls().str.strip_chars()
        numbers = some.str.contains(_WITH_ZEROS)
        if numbers.any() and not some.str.contains(_WHOLE).all():
            plain = some.filter(~some.str.contains(_WHOLE))[0]
            said.append(
                f"{table}: {ids.name} holds ids like {some.filter(numbers)[0]!r} beside {plain!r}; each is taken as it "
                "is written"
            )
    return said


def examples(ids: pl.Series, several: int = 3) -> str:
    """A few ids for a message.

    >>> examples(pl.Series(["b", "a", None]))
    "'b', 'a'"
    """
    return ", ".join(repr(value) for value in ids.drop_nulls().unique(maintain_order=True).head(several))

"""Lists as people write them: with a separator, as Python or JSON write them, as Parquet holds them; and a session a
row."""

import ast
import json
from collections.abc import Sequence

import polars as pl

from corella.columns import FILE_ROW
from corella.errors import UserError

_LONGEST = 100_000
"""Characters of a written list that are looked at as such."""


def as_list(column: pl.Series, separator: str) -> pl.Series:
    """A column as lists of trimmed, non-empty strings; null becomes an empty list. Values in brackets are read as
    Python or JSON write lists, others are split.

    >>> as_list(pl.Series(["a| b|", "['a, b', 'c']", None]), "|").to_list()
    [['a', 'b'], ['a, b', 'c'], []]
    """
    if isinstance(column.dtype, pl.Array):
        return column.arr.to_list()
    if isinstance(column.dtype, pl.List):
        return column
    text = column.cast(pl.String).str.strip_chars()
    split = pl.select(split_list(pl.lit(text), separator)).to_series()
    bracketed = text.str.contains(r"^\[.*\]$").fill_null(False)
    if not bracketed.any():
        return split.alias(column.name)
    known = {value: written_list(value, separator) for value in text.filter(bracketed).unique()}
    read = pl.Series([known.get(value) for value in text], dtype=pl.List(pl.String))
    return pl.select(pl.coalesce(read, split)).to_series().alias(column.name)


def written_list(text: str, separator: str = ",") -> list[str]:
    """A list in brackets.

    >>> written_list("['green', 'light']"), written_list('["a", 2]'), written_list("[green, light]")
    (['green', 'light'], ['a', '2'], ['green', 'light'])
    """
    found: object = None
    if len(text) <= _LONGEST:
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(text)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    if isinstance(found, list):
        parts = [str(part).strip() for part in found if part is not None]
    else:
        inside = text[1:-1]
        parts = [part.strip().strip("'\"") for part in inside.split(separator if separator in inside else ",")]
    return [part for part in parts if part]


def split_list(column: pl.Expr, separator: str) -> pl.Expr:
    """Split text into a list of trimmed, non-empty strings; null becomes an empty list."""
    parts = column.fill_null("").str.split(separator).list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter(pl.element() != ""))


def exploded(frame: pl.DataFrame, key: str, beside: Sequence[str], table: str) -> tuple[pl.DataFrame, list[str]]:
    """A row for each entry of the lists in column `key` (a session a row), and what was done. Of the columns `beside`,
    those that hold lists are taken apart with it; the others hold for the whole session."""
    if key not in frame.columns or not isinstance(frame.schema[key], pl.List):
        return frame, []
    lists = [key, *(name for name in beside if isinstance(frame.schema.get(name), pl.List))]
    for name in lists[1:]:
        uneven = frame.filter(pl.col(name).list.len() != pl.col(key).list.len())
        if uneven.height:
            row = uneven.row(0, named=True)
            raise UserError(
                f"{table}, row {row[FILE_ROW]}: {len(row[key])} entries in '{key}', {len(row[name])} in '{name}': one "
                "of each for every interaction"
            )
    rows = frame.filter(pl.col(key).list.len() > 0).explode(lists)
    said = f"{table}: a row holds a list of {key}: {frame.height:,} rows are read as {rows.height:,} interactions"
    return rows, [said]

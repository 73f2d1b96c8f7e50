"""Spellings of nothing: what exports write where a value is missing."""

from collections.abc import Sequence

import polars as pl

from corella.columns import FILE_ROW


def without_missing(frame: pl.DataFrame, spellings: Sequence[str], table: str) -> tuple[pl.DataFrame, list[str]]:
    """Make null of the spellings, in any text column, with or without blanks around them; and say where they stood."""
    said = []
    for name, dtype in frame.schema.items():
        if dtype != pl.String or not spellings:
            continue
        found = frame[name].str.strip_chars().is_in(list(spellings)).fill_null(False)
        if not found.any():
            continue
        first = frame.filter(found).row(0, named=True)
        said.append(
            f"{table}: column {name}: {int(found.sum()):,} values like {first[name]!r} (row {first[FILE_ROW]}) are "
            "read as missing; if that is a name, write `missing: []` beside the path"
        )
        frame = frame.with_columns(pl.when(~found).then(pl.col(name)).alias(name))
    return frame, said

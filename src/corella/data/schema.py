"""Names of the columns, and the raw tables that every source yields. Column names exist only here."""

from dataclasses import dataclass, field

import polars as pl

USER = "user_id"
ITEM = "item_id"
RATING = "rating"
TIME = "timestamp"
LABEL = "label"
SPLIT = "split"
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

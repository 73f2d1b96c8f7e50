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
DRAWN = "drawn"
"""True for a negative that was drawn for a click: a sample, and no event."""
EXACT_TIME = "_exact_time"
"""The time with its fraction of a second, until the log is ordered."""
FILE = "_file"
"""The file of a row, where a table is read from several; for messages."""
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
    warnings: list[str] = field(default_factory=list)
    """What reading found that may be wrong."""


def long_texts(items: pl.DataFrame) -> list[str]:
    """What an encoder reads of each item: its text and, where there is one, its longer text."""
    if DESCRIPTION not in items.columns:
        return items["text"].to_list()
    both = pl.concat_str(
        pl.col("text"), pl.when(pl.col(DESCRIPTION) != "").then(DESCRIPTION), separator=". ", ignore_nulls=True
    )
    return items.select(both).to_series().to_list()

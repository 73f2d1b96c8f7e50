"""A category of Amazon 2014 in the 5-core (Beauty, Toys, Sports), on the rows of P5, S3-Rec and TIGER.

Knows a category's folder: `user_sequence.txt` (a line for each user: the id, then items in the order of time; no times)
and `item_generative_indexing_phase_0.txt` (a line for each item: the id, then five or six words). What stands there was
bought or rated, so that every label is 1.
"""

from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW, ITEM, RawTables
from corella.data.builtin.amazon_scientific import likes_in_order
from corella.errors import UserError

_SEQUENCES, _ITEMS = "user_sequence.txt", "item_generative_indexing_phase_0.txt"


def load(path: Path | None) -> RawTables:
    """Read both files; items have `words`. Raises `UserError` where a file is missing, or names the line that is
    broken."""
    folder = Path(path or ".")
    sequences = {user: items.split() for _, user, items in _lines(folder / _SEQUENCES, least=2)}
    # The files name an item without words here and there; it stays, for the published rows hold it.
    rows = [(line, item, words or "unknown") for line, item, words in _lines(folder / _ITEMS)]
    schema = {FILE_ROW: pl.UInt32, ITEM: pl.String, "words": pl.String}
    items = pl.DataFrame(rows, schema=schema, orient="row")
    return RawTables(likes_in_order(sequences), None, items, {"interactions": _SEQUENCES, "items": _ITEMS})


def _lines(path: Path, least: int = 1) -> list[tuple[int, str, str]]:
    """Of every line its number, its first word, and the rest; `least` words stand on it, and no first word comes
    twice."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; data.path must be the folder of a category, e.g. Beauty")
    found: dict[str, tuple[int, str, str]] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        key, _, rest = line.strip().partition(" ")
        if len(line.split()) < least:
            raise UserError(f"{path}, line {number}: {line!r} must begin with an id{', items behind it' * (least > 1)}")
        if key in found:
            raise UserError(f"{path}, line {number}: {key!r} stands on line {found[key][0]} already")
        found[key] = (number, key, rest.strip())
    return list(found.values())

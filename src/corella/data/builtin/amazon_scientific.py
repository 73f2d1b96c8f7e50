"""Amazon Industrial & Scientific, 2018, in the 5-core: 8,317 users, 4,344 items with descriptions, 58,492 interactions.

Knows the folder: `Scientific.inter.json` (user -> items in the order of time; no times) and `Scientific.item.json`
(item -> title, brand, categories, description). What stands there was bought or rated, so that every label is 1.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW, ITEM, LABEL, USER, RawTables
from corella.errors import UserError

_INTERACTIONS, _ITEMS = "Scientific.inter.json", "Scientific.item.json"
_TEXTS = ("title", "brand", "categories", "description")


def load(path: Path | None) -> RawTables:
    """Read both files; items have `category` too, the list of their categories. Raises `UserError` where a file is
    missing or broken."""
    folder = Path(path or ".")
    histories = {
        user: _ids(folder / _INTERACTIONS, user, asked) for user, asked in _read(folder / _INTERACTIONS).items()
    }
    described = _read(folder / _ITEMS)
    rows = [_item(folder / _ITEMS, item, texts) for item, texts in described.items()]
    schema = pl.Schema({ITEM: pl.String(), **dict.fromkeys(_TEXTS, pl.String()), "category": pl.List(pl.String)})
    items = pl.DataFrame(rows, schema=schema, orient="row").with_row_index(FILE_ROW, offset=1)
    names = {"interactions": _INTERACTIONS, "items": _ITEMS}
    return RawTables(likes_in_order(histories), None, items, names)


def _ids(path: Path, user: str, asked: object) -> list[str]:
    if not isinstance(asked, list) or not all(isinstance(item, int | str) for item in asked):
        raise UserError(f"{path}: user {user!r} has no list of item ids")
    return [str(item) for item in asked]


def likes_in_order(histories: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """The log of what users liked, user by user: user_id, item_id, a label of 1, and the row's number for messages."""
    pairs = [(user, item) for user, asked in histories.items() for item in asked]
    log = pl.DataFrame(pairs, schema={USER: pl.String, ITEM: pl.String}, orient="row")
    return log.with_columns(pl.lit(1, pl.Int8).alias(LABEL)).with_row_index(FILE_ROW, offset=1)


def _item(path: Path, item: str, texts: object) -> tuple[object, ...]:
    if not isinstance(texts, dict):
        raise UserError(f"{path}: item {item!r} is no object with {', '.join(_TEXTS)}")
    values = [" ".join(str(texts.get(name) or "").split()) or None for name in _TEXTS]
    # Commas within a category's name are followed by a space.
    return item, *values, re.split(r",(?! )", values[2]) if values[2] else []


def _read(path: Path) -> dict[str, object]:
    if not path.is_file():
        raise UserError(f"{path} does not exist; data.path must be the folder of the dataset's raw files")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold one JSON object")
    return found

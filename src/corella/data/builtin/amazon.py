"""Any category of the Amazon reviews of 2014 or 2018 (Beauty, Toys, Sports, ...), from the two files as published.

One folder holds `meta_*.json.gz` and the reviews (`reviews_Beauty_5.json.gz`, `Beauty.json.gz`, ...). The metadata of
2014 are Python literals, not JSON; they are read as literals and never executed. What the reviews say is kept in the
column `review`.
"""

import ast
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from corella.columns import FILE_ROW, ITEM, RATING, REVIEW, TIME, USER, RawTables
from corella.data.builtin.amazon_files import chunks, find
from corella.errors import UserError

_REVIEWS = pl.Schema({
    "reviewerID": pl.String(), "asin": pl.String(), "overall": pl.Float32(), "unixReviewTime": pl.Int64(),
    "reviewText": pl.String(),
})  # fmt: skip
_OURS = {"reviewerID": USER, "asin": ITEM, "overall": RATING, "unixReviewTime": TIME, "reviewText": REVIEW}
_ITEMS = pl.Schema({
    ITEM: pl.String(), "title": pl.String(), "brand": pl.String(), "category": pl.List(pl.String),
    "description": pl.String(), FILE_ROW: pl.UInt32(),
})  # fmt: skip


def load(path: Path | None) -> RawTables:
    """Read both files. Raises `UserError` where one is missing or broken."""
    folder = Path(path or ".")
    meta = find(folder, "meta_*.json.gz", "metadata")
    reviews = find(folder, "*.json.gz", "reviews", without="meta_")
    parts = [chunk.rename(_OURS) for chunk in chunks(reviews, _REVIEWS)]
    if not parts:
        raise UserError(f"{reviews} is empty")
    log = pl.concat(parts)
    asked = set(log[ITEM])
    items = pl.DataFrame(list(_items(meta, asked)), schema=_ITEMS, orient="row")
    items = items.unique(ITEM, keep="first", maintain_order=True)
    log = log.join(items, on=ITEM, how="semi", maintain_order="left")
    return RawTables(log, None, items, {"interactions": reviews.name, "items": meta.name})


def _items(path: Path, asked: set[str]) -> Iterator[tuple[Any, ...]]:
    """A row for every item that has reviews and a title."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            for number, line in enumerate(handle, start=1):
                item = _parse(line)
                title = _text(item.get("title"))
                if item.get("asin") in asked and title:
                    categories = item.get("category") or [name for row in item.get("categories") or [] for name in row]
                    distinct = list(dict.fromkeys(map(str, categories)))[1:]  # the first names the whole collection
                    brand = _text(item.get("brand")) or None
                    yield item["asin"], title, brand, distinct, _text(item.get("description")), number
    except (OSError, EOFError, zlib.error, ValueError, SyntaxError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read after line {max(number - 1, 0)}: {str(error).splitlines()[0]}"
        ) from None


def _parse(line: str) -> Any:
    """One line: JSON (2018), or a Python literal (2014)."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return ast.literal_eval(line)


def _text(value: Any) -> str:
    """A text, or the texts of a list, with white space collapsed."""
    parts = value if isinstance(value, list) else [value or ""]
    return " ".join(" ".join(map(str, parts)).split())

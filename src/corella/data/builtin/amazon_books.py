"""Amazon Books, 2018 reviews and metadata, from the files as published: lines of JSON, gzipped.

Follows the paper as far as it is public: rating 5 is positive, users with 60 ratings and books with 40 at
least (repeated until both hold), brand and category as fields, titles cut to 150 characters, split by time
8:1:1. Leaving out books without a usable title and repeated ratings of a pair before that filter, and asking
for five earlier answers, are [ours].
"""

from pathlib import Path

import polars as pl

from corella.columns import ITEM, RATING, TIME, USER, RawTables
from corella.data.builtin.amazon_files import chunks, find

_TITLE = 150
_REVIEW = pl.Schema(
    {"reviewerID": pl.String(), "asin": pl.String(), "overall": pl.Float32(), "unixReviewTime": pl.Int64()}
)
_BOOK = pl.Schema({"asin": pl.String(), "title": pl.String(), "brand": pl.String(), "category": pl.List(pl.String)})


def load(path: Path | None, user_core: int = 60, item_core: int = 40) -> RawTables:
    """Stream both files, keep the core. Raises `UserError` where a file is missing or broken."""
    folder = Path(path or ".")
    meta = find(folder, "meta_*Books*.json.gz", "metadata")
    reviews = find(folder, "*Books*.json.gz", "reviews", without="meta_")
    books = pl.concat(_books(chunk) for chunk in chunks(meta, _BOOK))
    books = books.unique(ITEM, keep="first", maintain_order=True)
    log = pl.concat(_reviews(chunk, books) for chunk in chunks(reviews, _REVIEW))
    log = log.unique([USER, ITEM], keep="first", maintain_order=True)
    log = core(log, user_core, item_core)
    books = books.join(log, on=ITEM, how="semi", maintain_order="left")
    return RawTables(log, None, books, {"interactions": reviews.name, "items": meta.name})


def core(log: pl.DataFrame, user_core: int, item_core: int) -> pl.DataFrame:
    """Rows of users with `user_core` rows and items with `item_core` at least, repeated until both hold."""
    while True:
        smaller = log.filter(pl.len().over(USER) >= user_core).filter(pl.len().over(ITEM) >= item_core)
        if smaller.height == log.height:
            return log
        log = smaller


def _reviews(chunk: pl.DataFrame, books: pl.DataFrame) -> pl.DataFrame:
    ours = {"reviewerID": USER, "asin": ITEM, "overall": RATING, "unixReviewTime": TIME}
    return chunk.rename(ours).join(books, on=ITEM, how="semi", maintain_order="left")


def _books(chunk: pl.DataFrame) -> pl.DataFrame:
    """item_id, title, brand, category; rows whose title is empty or a piece of script are left out."""
    books = chunk.rename({"asin": ITEM}).filter(
        pl.col("title").str.strip_chars() != "", ~pl.col("title").str.contains("getTime", literal=True)
    )
    brand = pl.col("brand").str.replace(r"^Visit Amazon's (.*) Page$", "$1").str.strip_chars()
    return books.with_columns(
        title=pl.col("title").str.slice(0, _TITLE),
        brand=pl.when(brand != "").then(brand),
        category=pl.col("category").fill_null([]).list.eval(pl.element().filter(pl.element() != "Books")),
    )

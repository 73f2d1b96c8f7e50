"""Any folder of GroupLens as it is published, and those written like them (MovieTweetings).

Knows its forms: `u.data` and `u.item` (ml-100k), `ratings.dat` and `movies.dat` (ml-1m, ml-10m), `ratings.csv` and
`movies.csv` (ml-20m, ml-25m, ml-32m, ml-latest-small).
"""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW, ITEM, RATING, TIME, USER, RawTables
from corella.config import TableConfig
from corella.data.tables.delimited import read_delimited
from corella.data.tables.lists import split_list
from corella.data.tables.read import read_files
from corella.errors import UserError

_LOG = [USER, ITEM, RATING, TIME]
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The flags of `u.item`, in order."""
_YEAR = r"\s*\((\d{4})\)\s*$"


def load(path: Path | None) -> RawTables:
    """Read a folder. Raises `UserError` where it has none of the forms."""
    folder = Path(path or ".")
    for log, items, read in _FORMS:
        if (folder / log).is_file():
            if not (folder / items).is_file():
                raise UserError(f"{folder} has {log} but no {items}, where the titles are")
            ratings, movies = read(folder / log, folder / items)
            titled = movies.with_columns(
                title=pl.col("title").str.replace(_YEAR, "").str.strip_chars(), year=pl.col("title").str.extract(_YEAR)
            )
            return RawTables(ratings, None, titled, {"interactions": log, "items": items})
    wanted = "; ".join(f"{log} and {items}" for log, items, _ in _FORMS)
    raise UserError(f"{folder} is no folder of GroupLens: it has none of {wanted}")


def is_grouplens(folder: Path) -> bool:
    """Whether a folder has one of the forms."""
    return any((folder / log).is_file() and (folder / items).is_file() for log, items, _ in _FORMS)


def _tabs(log: Path, items: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    names = [ITEM, "title", "released", "video_released", "url", *_GENRES]
    flags = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _GENRES]
    movies = _read(items, "|", names, "latin-1").with_columns(genres=pl.concat_list(flags).list.drop_nulls())
    return _read(log, "\t", _LOG), movies.select(ITEM, "title", "genres", FILE_ROW)


def _colons(log: Path, items: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    movies = _read(items, "::", [ITEM, "title", "genres"], _encoding(items))
    return _read(log, "::", _LOG), movies.with_columns(genres=split_list(pl.col("genres"), "|"))


def _commas(log: Path, items: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    ours = {"userId": USER, "movieId": ITEM}
    ratings, movies = (read_files(TableConfig(path=path)).frame for path in (log, items))
    movies = movies.rename(ours, strict=False).with_columns(
        genres=split_list(pl.col("genres").replace("(no genres listed)", None), "|")
    )
    return ratings.rename(ours, strict=False), movies


def _read(path: Path, separator: str, names: list[str], encoding: str = "utf-8") -> pl.DataFrame:
    return read_delimited(
        path,
        TableConfig(path=path.with_suffix(".dat"), separator=separator, header=names, encoding=encoding, quote="none"),
    )[0]


def _encoding(path: Path) -> str:
    """ml-1m is Latin-1; ml-10m and MovieTweetings are UTF-8."""
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


_FORMS: tuple[tuple[str, str, Callable[[Path, Path], tuple[pl.DataFrame, pl.DataFrame]]], ...] = (
    ("u.data", "u.item", _tabs), ("ratings.dat", "movies.dat", _colons), ("ratings.csv", "movies.csv", _commas),
)  # fmt: skip

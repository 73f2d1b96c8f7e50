"""MovieLens-100K, read from the installed wheel `recbole==1.2.1`, of which only files are used.

943 users, 1,682 items, 100,000 ratings. Titles, years and genres are in the item file, age, gender and
occupation in the user file. The wheel is found through its metadata and never imported.
"""

import importlib.metadata
from pathlib import Path

import polars as pl

from corella.columns import RawTables
from corella.data.tables.delimited import read_atomic
from corella.data.tables.lists import split_list
from corella.errors import UserError

_AGES = [18, 25, 35, 45, 50, 56]


def age_group(age: pl.Expr) -> pl.Expr:
    """The age groups of MovieLens-1M, as text: under 18, 18-24, 25-34, 35-44, 45-49, 50-55, 56 or more."""
    labels = ["under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "over 55"]
    return age.cast(pl.Int64).cut(_AGES, labels=labels, left_closed=True).cast(pl.String)


def person(gender: pl.Expr) -> pl.Expr:
    """M and F as words."""
    return gender.replace_strict({"M": "man", "F": "woman"}, default="person")


def bundled_files() -> dict[str, Path]:
    """The three atomic files by their names. Raises `UserError` where the wheel is not installed."""
    try:
        files = importlib.metadata.files("recbole") or []
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            "MovieLens-100K lies inside the wheel recbole 1.2.1: pip install --no-deps recbole==1.2.1"
        ) from None
    found = {f.name: Path(str(f.locate())) for f in files if "dataset_example/ml-100k/" in f.as_posix()}
    missing = {"ml-100k.inter", "ml-100k.user", "ml-100k.item"} - found.keys()
    if missing:
        raise UserError(
            f"the installed recbole lacks {', '.join(sorted(missing))}; again: pip install --no-deps recbole==1.2.1"
        )
    return found


def load(path: Path | None) -> RawTables:
    """Read the three atomic files. Raises `UserError` where the wheel is not installed."""
    del path
    found = bundled_files()
    users = read_atomic(found["ml-100k.user"]).with_columns(
        age_group=age_group(pl.col("age")), person=person(pl.col("gender"))
    )
    items = read_atomic(found["ml-100k.item"]).rename({"movie_title": "title", "release_year": "year"})
    items = items.with_columns(genres=split_list(pl.col("class"), " ")).drop("class")
    return RawTables(
        read_atomic(found["ml-100k.inter"]),
        users,
        items,
        names={k: f"ml-100k.{k[:-1]}" for k in ("users", "items")},
    )

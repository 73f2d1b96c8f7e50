"""MovieLens-1M, from the folder that GroupLens publishes: `ratings.dat`, `users.dat`, `movies.dat`.

6,040 users, 3,706 rated movies, 1,000,209 ratings. Knows the `::`-separated format, the code lists of its
documentation, and the protocol of ReLLa: a rating above 3 is positive, order (timestamp, user, movie), five
earlier answers at least, 8:1:1.
"""

from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW, ITEM, RATING, TIME, USER, RawTables
from corella.data.builtin.ml_100k import age_group, person
from corella.data.tables.lists import split_list
from corella.errors import UserError

_OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer",
    "programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer",
    "tradesman/craftsman", "unemployed", "writer",
)  # fmt: skip


def load(path: Path | None) -> RawTables:
    """Read the three files. Raises `UserError` where one is missing."""
    folder = Path(path or ".")
    ratings = read_dat(folder / "ratings.dat", [USER, ITEM, RATING, TIME])
    # Ids are text from here on, so the numeric order of ties is made now; the order by timestamp keeps it.
    ratings = ratings.sort(
        [pl.col(name).cast(pl.Int64, strict=False) for name in (TIME, USER, ITEM)], maintain_order=True
    )
    names = {"interactions": "ratings.dat", "users": "users.dat", "items": "movies.dat"}
    return RawTables(ratings, read_users(folder / "users.dat"), read_movies(folder / "movies.dat"), names)


def read_dat(path: Path, columns: list[str]) -> pl.DataFrame:
    """Read a `::`-separated Latin-1 file without header, every value as text."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; data.path must be the folder of the dataset's raw files")
    text = path.read_text(encoding="latin-1").split("\n")
    lines = pl.DataFrame({"line": text}).with_row_index(FILE_ROW, offset=1).filter(pl.col("line") != "")
    parts = pl.col("line").str.splitn("::", len(columns)).struct.rename_fields(columns)
    return lines.select(FILE_ROW, parts).unnest("line")


def read_users(path: Path) -> pl.DataFrame:
    """user_id, gender, age_group, occupation (in words), zip, and `person` for the user text."""
    users = read_dat(path, [USER, "gender", "age", "occupation", "zip"])
    occupations = {str(code): name for code, name in enumerate(_OCCUPATIONS)}
    return users.with_columns(
        age_group=age_group(pl.col("age")),
        person=person(pl.col("gender")),
        occupation=pl.col("occupation").replace_strict(occupations, default="other"),
    ).drop("age")


def read_movies(path: Path) -> pl.DataFrame:
    """item_id, title without its year, year, and the list of genres."""
    movies = read_dat(path, [ITEM, "title", "genres"])
    year = r"\s*\((\d{4})\)\s*$"
    return movies.with_columns(
        title=pl.col("title").str.replace(year, ""),
        year=pl.col("title").str.extract(year),
        genres=split_list(pl.col("genres"), "|"),
    )

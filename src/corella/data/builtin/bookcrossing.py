"""BookCrossing under ReLLa's protocol: one target for each of 17,714 users, the other ratings as history.

Knows the raw files (`BX-Books.csv`, `BX-Users.csv`, `BX-Book-Ratings.csv`, or `bookcrossing.zip` with the
three: cp1252, `;`-separated, quoted, escaped by backslashes) and the protocol: books whose ISBN is ASCII
letters and digits; users with more than five ratings of such books; each user's ratings shuffled with seed
42, the last one the target; the targets shuffled with seed 42, the first 90 % for training. There are no
timestamps: the log is laid out so that histories precede their targets. The last tenth of the training
targets is the validation set. [ours]
"""

import random
import zipfile
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW, ITEM, RATING, SPLIT, USER, RawTables
from corella.data.builtin.ml_100k import age_group
from corella.errors import UserError

_ARCHIVE = "bookcrossing.zip"
_SEED, _LEAST, _HISTORY, _TRAIN, _FIT = 42, 6, 60, 0.9, 0.9


def load(path: Path | None) -> RawTables:
    """Read the three tables and lay out the log. Raises `UserError` where a file is missing or broken."""
    folder = Path(path or ".")
    users = _users(_read(folder, "BX-Users.csv", {USER: "User-ID", "location": "Location", "age": "Age"}))
    books = _books(_read(folder, "BX-Books.csv", {
        ITEM: "ISBN", "title": "Book-Title", "author": "Book-Author", "year": "Year-Of-Publication",
        "publisher": "Publisher",
    }))  # fmt: skip
    ratings = _read(folder, "BX-Book-Ratings.csv", {USER: "User-ID", ITEM: "ISBN", RATING: "Book-Rating"})
    known = ratings.join(users, on=USER, how="semi", maintain_order="left")
    known = known.join(books, on=ITEM, how="semi", maintain_order="left")
    names = {"interactions": "BX-Book-Ratings.csv", "users": "BX-Users.csv", "items": "BX-Books.csv"}
    return RawTables(layout(known), users, books, names)


def layout(ratings: pl.DataFrame) -> pl.DataFrame:
    """The log of the protocol, from ratings in the file's order; adds `split`.

    Histories of training and validation users (in order of the users' first appearance), training targets,
    validation targets, histories of test users, test targets.
    """
    ratings = ratings.with_columns(
        size=pl.len().over(USER).cast(pl.Int64), position=pl.int_range(pl.len()).over(USER)
    ).filter(pl.col("size") >= _LEAST)
    if ratings.height == 0:
        raise UserError(f"BX-Book-Ratings.csv: no user has {_LEAST} ratings of books in BX-Books.csv")
    # A shuffle with a fixed seed depends on the length alone: one permutation serves all users of that many
    # ratings.
    moves = pl.concat(_move(size) for size in ratings["size"].unique())
    ratings = ratings.join(moves, on=["size", "position"], how="left", maintain_order="left")
    users = ratings.select(USER).unique(maintain_order=True)
    train = int(users.height * _TRAIN)
    fit = int(train * _FIT)
    places = pl.DataFrame({"number": _shuffled(users.height)}).with_row_index("place").with_columns(
        part=pl.when(pl.col("place") < fit).then(pl.lit("train"))
        .when(pl.col("place") < train).then(pl.lit("valid")).otherwise(pl.lit("test"))
    )  # fmt: skip
    users = users.with_columns(number=pl.int_range(pl.len())).join(places, on="number")
    log = ratings.join(users, on=USER).with_columns(before=pl.col("size") - 1 - pl.col("to"))
    target = pl.col("before") == 0
    # Histories stand in the order of the file's users, targets in that of the protocol.
    turn = pl.when(target).then("place").otherwise("number")
    log = log.filter(pl.col("before") <= _HISTORY).sort(pl.col("part") == "test", target, turn, "to")
    split = pl.when(target).then("part").otherwise(pl.lit("history")).alias(SPLIT)
    return log.select(USER, ITEM, RATING, split, FILE_ROW)


def _shuffled(size: int) -> list[int]:
    """0 to size-1 as `random.shuffle` with the protocol's seed leaves them."""
    order = list(range(size))
    random.Random(_SEED).shuffle(order)  # noqa: S311 (the protocol names this generator)
    return order


def _move(size: int) -> pl.DataFrame:
    """Where the shuffle of a list of this size takes each position."""
    return pl.DataFrame({"size": [size] * size, "position": _shuffled(size), "to": range(size)})


def _read(folder: Path, name: str, columns: dict[str, str]) -> pl.DataFrame:
    """One table as text, with our column names."""
    plain, archive = folder / name, folder / _ARCHIVE
    try:
        if plain.is_file():
            data = plain.read_bytes()
        elif archive.is_file():
            with zipfile.ZipFile(archive) as handle:
                data = handle.read(name)
        else:
            raise UserError(f"{folder} holds neither {name} nor {_ARCHIVE}; set data.path to their folder")
        text = data.decode("cp1252")
        # Backslash escapes become doubled quotes, the dialect that polars reads.
        text = text.replace("\\\\", "\0").replace('\\"', '""').replace("\0", "\\")
        frame = pl.read_csv(text.encode(), separator=";", infer_schema=False, columns=list(columns.values()))
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{folder}: {name} cannot be read: {str(error).splitlines()[0]}") from None
    return frame.rename({theirs: ours for ours, theirs in columns.items()}).with_row_index(FILE_ROW, offset=2)


def _users(users: pl.DataFrame) -> pl.DataFrame:
    """user_id, country (the last part of the location) and age group; impossible ages are unknown."""
    age = pl.col("age").cast(pl.Int64, strict=False)
    country = pl.col("location").str.split(",").list.last().str.strip_chars(' "')
    return users.select(
        USER,
        FILE_ROW,
        country=pl.when(country.is_in(["", "n/a"])).then(None).otherwise(country),
        age_group=age_group(pl.when(age.is_between(5, 100)).then(age)),
    )


def _books(books: pl.DataFrame) -> pl.DataFrame:
    """Books whose ISBN is ASCII letters and digits; the few HTML entities in texts become characters."""
    texts = pl.col("title", "author", "publisher").str.replace_all("&amp;", "&", literal=True)
    year = pl.when(pl.col("year").cast(pl.Int64, strict=False) > 0).then("year")
    return books.filter(pl.col(ITEM).str.contains(r"^[A-Za-z0-9]+$")).with_columns(texts, year=year)

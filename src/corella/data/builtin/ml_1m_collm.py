"""The MovieLens-1M slice of the CoLLM paper: the last 20 months, split by time into 10, 5 and 5 months.

33,891 training, 10,401 validation and 7,331 test rows of 838 users and 3,255 movies; a rating above 3 is
positive. Knows the folder: `interactions.csv.zip` (with `collm_ml1m.csv`, whose ids are MovieLens-1M's own),
`users.dat` and `movies.dat`.
"""

import zipfile
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW, ITEM, LABEL, RATING, SPLIT, TIME, USER, RawTables
from corella.data.builtin.ml_1m import read_movies, read_users
from corella.errors import UserError

_ARCHIVE, _MEMBER = "interactions.csv.zip", "collm_ml1m.csv"


def load(path: Path | None) -> RawTables:
    """Read the archive and the two MovieLens files. Raises `UserError` where one is missing or broken."""
    folder = Path(path or ".")
    interactions = _read_interactions(folder / _ARCHIVE)
    names = {"interactions": _MEMBER, "users": "users.dat", "items": "movies.dat"}
    return RawTables(interactions, read_users(folder / "users.dat"), read_movies(folder / "movies.dat"), names)


def _read_interactions(path: Path) -> pl.DataFrame:
    columns = [SPLIT, USER, "movie_id", LABEL, RATING, TIME]
    try:
        with zipfile.ZipFile(path) as archive:
            frame = pl.read_csv(archive.read(_MEMBER), infer_schema=False, columns=columns)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; data.path must be the folder of the dataset's raw files") from None
    except (zipfile.BadZipFile, KeyError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} must hold {_MEMBER} with the columns {', '.join(columns)}: {reason}") from None
    return frame.rename({"movie_id": ITEM}).with_row_index(FILE_ROW, offset=2)

"""Files of the Amazon review collections: lines of JSON, gzipped, read a bounded part at a time."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW
from corella.errors import UserError

CHUNK = 64 * 2**20
"""Bytes of JSON held at a time."""


def find(folder: Path, pattern: str, what: str, without: str = "\0") -> Path:
    """The one file of a folder that matches and does not begin with `without`."""
    found = [p for p in sorted(folder.glob(pattern)) if not p.name.startswith(without)]
    if len(found) != 1:
        problem = f"{len(found)} files match" if found else "no file matches"
        raise UserError(f"{folder}: {problem} {pattern} (the {what}); set data.path to a folder with one")
    return found[0]


def chunks(path: Path, schema: pl.Schema) -> Iterator[pl.DataFrame]:
    """The columns of `schema`, a bounded number of bytes at a time; adds `FILE_ROW`."""
    row = 1
    try:
        with gzip.open(path) as handle:
            while lines := handle.readlines(CHUNK):
                frame = pl.read_ndjson(io.BytesIO(b"".join(lines)), schema=schema)
                yield frame.with_row_index(FILE_ROW, offset=row)
                row += frame.height
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path} cannot be read after line {row - 1}: {str(error).splitlines()[0]}") from None

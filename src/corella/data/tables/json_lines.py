"""Files with a JSON object a line."""

import gzip
import json
from pathlib import Path

import polars as pl

from corella.errors import UserError

_SHOWN = 80


def read_json_lines(path: Path) -> pl.DataFrame:
    """Read every key as a column. Raises `UserError` for the first line that is no object."""
    source: Path | bytes = path
    if path.name.lower().endswith(".gz"):
        source = gzip.decompress(path.read_bytes())
    try:
        return pl.read_ndjson(source, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        lines = source.splitlines() if isinstance(source, bytes) else path.read_bytes().splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                known = json.loads(line or b"{}")
            except ValueError as problem:
                raise UserError(f"{path}, line {number}: no JSON: {problem}: {line[:_SHOWN]!r}") from None
            if not isinstance(known, dict):
                raise UserError(f"{path}, line {number}: no JSON object: {line[:_SHOWN]!r}") from None
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None

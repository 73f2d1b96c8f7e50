"""Read one table from Parquet, CSV, TSV, a RecBole atomic file, or a database.

Knows file formats; knows nothing of what the columns mean. Text files are read as strings, so that a value
that does not parse is found, counted and named later instead of stopping the reader.
"""

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW
from corella.config import TableConfig
from corella.errors import UserError, suggest

_ATOMIC = {".inter", ".user", ".item"}
_POLARS = {"utf-8": "utf8"}
"""Its own name of what it reads without a copy."""


def read_table(config: TableConfig) -> pl.DataFrame:
    """Read and rename a table; adds `FILE_ROW`. Raises `UserError` naming the file and the missing column."""
    written = (config.separator, config.encoding)
    frame = _read_uri(config) if config.path is None else read_file(config.path, *written)
    source = str(config.path or "the query")
    names = [name for name in frame.columns if name != FILE_ROW]
    for ours, theirs in config.columns.items():
        if theirs not in frame.columns:
            raise UserError(f"{source}: no column '{theirs}' (for {ours}); {suggest(theirs, names)}")
        if ours != theirs and ours in frame.columns and ours not in config.columns.values():
            frame = frame.drop(ours)
    frame = frame.rename({theirs: ours for ours, theirs in config.columns.items()})
    for name, separator in config.lists.items():
        if name not in frame.columns:
            raise UserError(f"{source}: no column '{name}' to split into a list; {suggest(name, names)}")
        if not isinstance(frame.schema[name], pl.List):
            frame = frame.with_columns(split_list(pl.col(name).cast(pl.String), separator))
    return frame


def read_file(path: Path, separator: str | None = None, encoding: str = "utf-8") -> pl.DataFrame:
    """Read a file by its suffix. `separator`, `encoding`: of a text file, see `TableConfig`."""
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file")
    try:
        if path.suffix in _ATOMIC:
            return read_atomic(path, encoding)
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        elif path.suffix in (".csv", ".tsv", ".txt"):
            between = separator or ("\t" if path.suffix == ".tsv" else ",")
            _check_separator(path, between, encoding)
            frame = pl.read_csv(path, separator=between, infer_schema=False, encoding=_POLARS.get(encoding, encoding))
        else:
            raise UserError(f"{path}: unknown format '{path.suffix}'; use .parquet, .csv, .tsv, .inter, .user, .item")
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0]
        hint = "; name its encoding, e.g. `encoding: latin-1` beside its path" if "utf-8" in said.lower() else ""
        raise UserError(f"{path} cannot be read: {said}{hint}") from None
    return _with_file_row(frame)


def _check_separator(path: Path, separator: str, encoding: str) -> None:
    """Refuse a wrong separator by the file's first line: it is not in there, and another one is."""
    with path.open(encoding=encoding, errors="replace") as file:
        header = file.readline().strip()
    for other in ";\t|,":
        if separator not in header and other in header:
            raise UserError(
                f"{path} begins with '{header}'; if {other!r} stands between its columns, write "
                f"`separator: {json.dumps(other)}` beside its path"
            )


def read_atomic(path: Path, encoding: str = "utf-8") -> pl.DataFrame:
    """Read a RecBole atomic file: tab-separated, header `name:type`; `token_seq` columns keep spaces."""
    letters = _POLARS.get(encoding, encoding)
    frame = pl.read_csv(path, separator="\t", infer_schema=False, quote_char=None, encoding=letters)
    return _with_file_row(frame.rename({name: name.split(":")[0] for name in frame.columns}))


def split_list(column: pl.Expr, separator: str) -> pl.Expr:
    """Split text into a list of trimmed, non-empty strings; null becomes an empty list."""
    parts = column.fill_null("").str.split(separator).list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter(pl.element() != ""))


def _read_uri(config: TableConfig) -> pl.DataFrame:
    if not all(find_spec(name) for name in ("connectorx", "pyarrow")):
        raise UserError("reading a database needs: pip install 'corella-rec[database]'")
    uri = _from_environment(str(config.uri))
    try:
        frame = pl.read_database_uri(str(config.query), uri)
    except Exception as error:  # every driver raises its own; its message may repeat the URI with the password
        first = str(error).splitlines()[0] if str(error) else ""
        raise UserError(f"the database query failed: {type(error).__name__}: {first.replace(uri, '<uri>')}") from None
    return _with_file_row(frame)


def _from_environment(uri: str) -> str:
    """Fill in each `${NAME}`."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UserError(f"the database URI names ${{{match[1]}}}, but that environment variable is not set")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, uri)


def _with_file_row(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop(FILE_ROW, strict=False).with_row_index(FILE_ROW, offset=2)

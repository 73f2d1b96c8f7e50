"""One table by its settings: its files or its query, its columns under our names, its lists as lists."""

import glob
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from corella.columns import FILE, FILE_ROW
from corella.config import TableConfig
from corella.data.tables.database import read_query
from corella.data.tables.delimited import read_atomic, read_delimited
from corella.data.tables.json_lines import read_json_lines
from corella.data.tables.lists import as_list
from corella.data.tables.missing import without_missing
from corella.data.tables.remote import fetched
from corella.errors import UserError, suggest

_PACKED = (".gz", ".zst")
TEXT = (".csv", ".tsv", ".txt", ".dat", ".data")
"""Text with a separator."""
ATOMIC = (".inter", ".user", ".item")
"""Of RecBole."""
_JSON = (".jsonl", ".ndjson", ".json")
SUFFIXES = (".parquet", *TEXT, *ATOMIC, *_JSON)
"""Of files that can be read, in any case; those of text may be packed, as `log.csv.gz`."""


@dataclass(frozen=True)
class Table:
    """What was read."""

    frame: pl.DataFrame
    """Every column of the file, under our names where the settings say so; adds `FILE_ROW`."""
    warnings: list[str] = field(default_factory=list)


def read_table(config: TableConfig) -> Table:
    """Read a table. Raises `UserError` that names the file, the line and the column, and says what mends it."""
    if config.uri is not None:
        table = Table(_numbered(read_query(str(config.uri), str(config.query)), 1))
        source = "the query"
    else:
        table, source = read_files(config), config.url or str(config.path)
    frame = renamed(table.frame, config, source)
    for name, separator in config.lists.items():
        if name not in frame.columns:
            raise UserError(f"{source}: no column '{name}' to split into a list; {suggest(name, _names(frame))}")
        frame = frame.with_columns(as_list(frame[name], separator))
    frame = frame.with_columns(pl.col(n).arr.to_list() for n, t in frame.schema.items() if isinstance(t, pl.Array))
    frame, missing = without_missing(frame, config.missing, Path(source).name)
    return Table(frame, [*table.warnings, *missing])


def read_files(config: TableConfig) -> Table:
    """The file of the settings, or all of them as one table; columns keep their own names."""
    files = files_of(config)
    tables = [_read_file(file, config) for file in files]
    if len(tables) == 1:
        return tables[0]
    first = _names(tables[0].frame)
    for file, table in zip(files, tables, strict=True):
        if sorted(_names(table.frame)) != sorted(first):
            other = sorted(set(_names(table.frame)) ^ set(first))
            raise UserError(f"{file}: its columns are not those of {files[0]}: '{other[0]}' is in one of them only")
    frames = [t.frame.with_columns(pl.lit(file.name).alias(FILE)) for file, t in zip(files, tables, strict=True)]
    return Table(pl.concat(frames, how="diagonal_relaxed"), [said for table in tables for said in table.warnings])


def files_of(config: TableConfig) -> list[Path]:
    """The files of a table, those of a URL as copies; none of a query."""
    return fetched(config.url) if config.url is not None else find_files(config.path or [])


def find_files(path: Path | list[Path]) -> list[Path]:
    """The files of a path, a pattern (`logs/2020-*.csv`), a folder of Parquet, or of a list of such."""
    found = []
    for each in path if isinstance(path, list) else [path]:
        if each.is_dir():
            files = sorted(p for p in each.rglob("*") if p.suffix.lower() == ".parquet")
            if not files:
                raise UserError(f"{each} is a folder without .parquet files; name its files, e.g. {each}/*.csv")
        elif any(sign in str(each) for sign in "*?[") and not each.exists():
            files = sorted(Path(name) for name in glob.glob(str(each), recursive=True))  # noqa: PTH207
            if not files:
                raise UserError(f"{each}: no file matches")
        elif each.is_file():
            files = [each]
        else:
            raise UserError(f"{each} does not exist or is not a file")
        found += files
    return found


def suffix_of(path: Path) -> str:
    """What kind of file a name says, in lower case: `.csv` of `LOG.CSV.gz`."""
    name = path.name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def _read_file(path: Path, config: TableConfig) -> Table:
    kind = suffix_of(path)
    readers: dict[str, Callable[[], Table]] = {
        **dict.fromkeys(TEXT, lambda: Table(*read_delimited(path, config))),
        **dict.fromkeys(ATOMIC, lambda: Table(read_atomic(path, config.encoding))),
        **dict.fromkeys(_JSON, lambda: Table(_numbered(read_json_lines(path), 1))),
        ".parquet": lambda: Table(_numbered(pl.read_parquet(path), 1)),
    }
    if kind not in readers:
        raise UserError(
            f"{path}: unknown format '{path.suffix}'; use {', '.join(SUFFIXES)}, or text ending in .gz, .zst"
        )
    try:
        return readers[kind]()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def renamed(frame: pl.DataFrame, config: TableConfig, source: str) -> pl.DataFrame:
    """Columns under our names. One column may serve two of them; one that has a name of ours by chance gives way."""
    for ours, theirs in config.columns.items():
        if theirs not in frame.columns:
            raise UserError(f"{source}: no column '{theirs}' (for {ours}); {suggest(theirs, _names(frame))}")
    named: list[pl.Expr] = []
    for name in frame.columns:
        found = [ours for ours, theirs in config.columns.items() if theirs == name]
        if found or name not in config.columns:
            named += [pl.col(name).alias(ours) for ours in found or [name]]
    return frame.select(named)


def _names(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name not in (FILE_ROW, FILE)]


def _numbered(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    return frame.drop(FILE_ROW, strict=False).with_row_index(FILE_ROW, offset=first)

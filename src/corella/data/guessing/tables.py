"""Which of somebody's files are interactions, users and items."""

from dataclasses import dataclass, replace
from pathlib import Path

from corella.columns import FILE_ROW
from corella.config import TableConfig
from corella.data.guessing.columns import Column, Role, guess_columns, is_header
from corella.data.tables.form import SEPARATORS, guessed_encoding, lines_of
from corella.data.tables.read import ATOMIC, SUFFIXES, TEXT, read_files, suffix_of
from corella.errors import UserError

_LOOKED_AT = 20_000
"""Rows of a table that are looked at."""


@dataclass(frozen=True)
class Guessed:
    """A file and what it may hold."""

    config: TableConfig
    columns: list[Column]
    rows: int
    distinct: dict[Role, int]
    """By role: different values of the user's and the item's column."""

    def column(self, role: Role) -> Column | None:
        """The first column of a role."""
        return next((column for column in self.columns if column.role == role), None)

    @property
    def is_log(self) -> bool:
        """Whether users and items stand together in it."""
        return self.column("user") is not None and self.column("item") is not None


def guess_tables(paths: list[Path]) -> tuple[Guessed, Guessed | None, Guessed | None]:
    """Interactions, items and users among files, or the files of a folder. Raises `UserError` where no file has users
    and items together."""
    files = [file for path in paths for file in _files(path)]
    found = [guess_table(file) for file in files]
    logs = [table for table in found if table.is_log]
    if not logs:
        shown = "; ".join(f"{t.config.path}: {', '.join(c.name for c in t.columns)}" for t in found)
        raise UserError(
            f"no file has a column of users beside one of items ({shown}); name them yourself, see the guide"
        )
    log = max(logs, key=lambda table: table.rows)
    others = [table for table in found if table is not log]
    items = [t for t in others if t.column("item") and not (t.is_log and t.column("time")) and _once(t, "item")]
    users = [t for t in others if t.column("user") and not t.column("item") and _once(t, "user")]
    best = max(
        items, key=lambda table: sum(c.role in ("text", "description", "list") for c in table.columns), default=None
    )
    return log, best, users[0] if users else None


def guess_table(path: Path) -> Guessed:
    """What one file may hold."""
    config, named = _form(path)
    frame = read_files(config).frame.drop(FILE_ROW)
    lists = _atomic_lists(path)
    columns = [
        replace(column, role="list", separator=" ") if column.name in lists and column.role != "text" else column
        for column in guess_columns(frame.head(_LOOKED_AT), named)
    ]
    distinct: dict[Role, int] = {
        column.role: frame[column.name].n_unique() for column in columns
        if column.role in ("user", "item") and not frame.schema[column.name].is_nested()
    }  # fmt: skip
    return Guessed(config, columns, frame.height, distinct)


def _atomic_lists(path: Path) -> set[str]:
    """The columns that the header of a RecBole file calls sequences."""
    if suffix_of(path) not in ATOMIC:
        return set()
    cells = next(lines_of(path, "utf-8"), "").rstrip("\r\n").split("\t")
    return {cell.split(":")[0] for cell in cells if cell.endswith(("token_seq", "float_seq"))}


def _once(table: Guessed, role: Role) -> bool:
    """Whether nearly every row is about another user or item."""
    return table.distinct.get(role, 0) >= 0.9 * table.rows


def _files(path: Path) -> list[Path]:
    place = path.expanduser()
    if not place.is_dir():
        if not place.is_file():
            raise UserError(f"{path} does not exist")
        return [place]
    found = sorted(
        p for p in place.iterdir() if p.is_file() and suffix_of(p) in SUFFIXES and not p.name.startswith(".")
    )
    if not found:
        raise UserError(f"{path} holds no table; use {', '.join(SUFFIXES)}")
    return found


def _form(path: Path) -> tuple[TableConfig, bool]:
    """How a file is written, and whether it names its columns."""
    if suffix_of(path) not in TEXT:
        return TableConfig(path=path), True
    packed = path.suffix.lower() in (".gz", ".zst")
    encoding = "utf-8" if packed else guessed_encoding(path)
    lines = lines_of(path, encoding)
    first, second = (next(lines, "").rstrip("\r\n") for _ in range(2))
    usual = "\t" if suffix_of(path) == ".tsv" else ","
    separator = next((sign for sign in SEPARATORS if sign in first and sign in second), usual)
    named = is_header(first.split(separator), second.split(separator))
    given = {} if separator == usual else {"separator": separator}
    header = {} if named else {"header": False}
    plain = {} if encoding == "utf-8" else {"encoding": encoding}
    return TableConfig.model_validate({"path": path, **given, **header, **plain}), named

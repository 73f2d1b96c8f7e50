"""How a text file is written: separator, quotes, header, encoding; by the settings and by its first line."""

import codecs
import contextlib
import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from charset_normalizer import from_bytes

from corella.config import TableConfig
from corella.errors import UserError

BETWEEN = "\x1f"
"""Stands for a separator of several characters while polars reads."""


SEPARATORS = ("::", "\t", ";", "|", ",")


_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
          codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
"""What a file begins with that says its encoding; the longer marks first."""


SHOWN = 80
"""Characters of a line that a message shows."""


_LATIN = (
    "cp1250",
    "cp1254",
    "cp1257",
    "cp1258",
    "cp775",
    "cp850",
    "cp852",
    "latin_1",
    "iso8859_2",
    "iso8859_9",
    "mac_latin2",
)
"""Hard to tell from cp1252 by a few accents."""


@dataclass(frozen=True)
class Form:
    """How a text file is written."""

    path: Path
    separator: str
    quote: str | None
    header: bool
    encoding: str

    @property
    def tabs(self) -> bool:
        """Whether the file is a .tsv, packed or not."""
        return _unpacked(self.path).endswith(".tsv")

    @property
    def first(self) -> int:
        """The line of the first row."""
        return 2 if self.header else 1


def form_of(path: Path, config: TableConfig) -> tuple[Form, list[str]]:
    """How a file is written, by the settings and by its first line; and the names of its columns."""
    encoding = _encoding(path, config.encoding)
    head = first_line(path, encoding)
    separator = config.separator or _usual(path, head)
    if config.header is True:
        _check_separator(path, head, separator)
    form = Form(path, separator, _quote(config.quote), config.header is True, encoding)
    return form, _names(form, head, config)


def first_line(path: Path, encoding: str) -> str:
    """Raises `UserError` where there is nothing in it."""
    head = next(lines_of(path, encoding), "").rstrip("\r\n")
    if not head.strip():
        raise UserError(f"{path}: its first line is empty")
    return head


def guessed_encoding(path: Path) -> str:
    """UTF-8, or what the first bytes of a file look like: a guess for messages and for `corella init`."""
    with path.open("rb") as file:
        content = file.read(1 << 20)
    whole = content[: content.rfind(b"\n") + 1]
    with contextlib.suppress(UnicodeDecodeError):
        whole.decode()
        return "utf-8"
    best = from_bytes(whole).best()
    if best is None or best.encoding in _LATIN:
        return "cp1252"  # most are
    return best.encoding


def _encoding(path: Path, given: str) -> str:
    """The encoding that a file's mark says, else the one given."""
    with path.open("rb") as file:
        begins = file.read(4)
    return next((found for mark, found in _MARKS.items() if begins.startswith(mark)), given)


def lines_of(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a file, as text; what cannot be decoded is replaced."""
    name = path.name.lower()
    if name.endswith(".zst"):
        yield from (f"{line}\n" for line in pl.read_lines(path)["line"])
        return
    opened = gzip.open if name.endswith(".gz") else open
    with opened(
        path, "rt", encoding="utf-8-sig" if encoding == "utf-8" else encoding, errors="replace", newline=""
    ) as f:
        yield from f


def _unpacked(path: Path) -> str:
    return path.name.lower().removesuffix(".gz").removesuffix(".zst")


def _usual(path: Path, head: str) -> str:
    """The separator of a file whose settings name none."""
    kind = _unpacked(path)
    if kind.endswith(".tsv"):
        return "\t"
    if kind.endswith((".dat", ".data")):
        return next((each for each in SEPARATORS if each in head), ",")
    return ","


def _quote(setting: str | None) -> str | None:
    return '"' if setting is None else None if setting == "none" else setting


def _check_separator(path: Path, head: str, separator: str) -> None:
    """Refuse a wrong separator by the file's first line: it is not in there, and another one is."""
    for other in SEPARATORS:
        if separator not in head and other in head:
            raise UserError(
                f"{path} begins with {head.strip()[:SHOWN]!r}; if {other!r} stands between its columns, write "
                f"`separator: {json.dumps(other)}` beside its path"
            )


def _names(form: Form, head: str, config: TableConfig) -> list[str]:
    """The names of the columns: from the first line, from the settings, or numbered."""
    cells = cells_of(head, form)
    if isinstance(config.header, list):
        if len(config.header) != len(cells):
            raise UserError(
                f"{form.path}: `header` names {len(config.header)} columns, the first line has {len(cells)}: "
                f"{head[:SHOWN]!r}"
            )
        return config.header
    if not form.header:
        return [f"column_{n}" for n in range(1, len(cells) + 1)]
    numbers = sum(_is_number(cell) for cell in cells)
    wanted = set(config.columns.values()) or {"user_id", "item_id"}
    if 2 * numbers > len(cells) and not wanted & set(cells):
        raise UserError(
            f"{form.path}: its first line looks like data, not like names of columns: {head[:SHOWN]!r}; write "
            "`header: [user_id, item_id, rating, timestamp]` beside its path, with a name for each column"
        )
    for name in cells:
        if cells.count(name) > 1:
            places = " and ".join(str(n) for n, cell in enumerate(cells, start=1) if cell == name)
            raise UserError(f"{form.path}, line 1: column '{name}' comes more than once (columns {places}); rename one")
    return cells


def cells_of(line: str, form: Form) -> list[str]:
    """The fields of a line, without blanks around them."""
    if len(form.separator) > 1 or form.quote is None:
        return [cell.strip() for cell in line.split(form.separator)]
    return [cell.strip() for cell in next(csv.reader([line], delimiter=form.separator, quotechar=form.quote), [])]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

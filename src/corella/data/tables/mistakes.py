"""What is wrong with a text file, by its lines."""

import csv
from itertools import islice
from pathlib import Path

import polars as pl

from corella.data.tables.form import SHOWN, Form, cells_of, guessed_encoding, lines_of
from corella.errors import UserError


def explained(form: Form, columns: int, error: Exception) -> UserError:
    """Why polars cannot read a file, by its line."""
    said = str(error).splitlines()[0]
    if "utf-8" in said.lower() or "utf8" in said.lower():
        return UserError(
            f"{form.path} cannot be read: {_undecodable(form)}; name its encoding beside its path: `encoding: "
            f"{guessed_encoding(form.path)}` may be right"
        )
    for number, line in enumerate(lines_of(form.path, form.encoding), start=1):
        text = line.rstrip("\r\n")
        cells = len(cells_of(text, form))
        if cells > columns:
            return UserError(
                f"{form.path}, line {number}: {cells} fields, the header has {columns}: {text[:SHOWN]!r}; put quotes "
                f"around a text that holds the separator {form.separator!r}, or take away a comment or a "
                "separator at the end of a line"
            )
        if form.quote is not None and _stray_quote(text, form):
            return UserError(
                f"{form.path}, line {number}: a quote within a field: {text[:SHOWN]!r}; quotes are read as marks "
                "around a field: write `quote: none` beside its path to switch that off, or double the quotes within "
                "a text"
            )
    return UserError(f"{form.path} cannot be read: {said}")


def _undecodable(form: Form) -> str:
    with form.path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number} is not UTF-8: {line[:SHOWN]!r}"
    return "it is not UTF-8"


def _stray_quote(line: str, form: Form) -> bool:
    """Whether a field begins with a quote and goes on behind the next one."""
    try:
        list(csv.reader([line], delimiter=form.separator, quotechar=form.quote, strict=True))
    except csv.Error:
        return True
    return False


def line_count(path: Path, encoding: str) -> int:
    """Lines that hold anything but white space."""
    if encoding != "utf-8" or path.name.lower().endswith((".gz", ".zst")):
        return sum(bool(line.strip()) for line in lines_of(path, encoding))
    lines = pl.read_lines(path)["line"]
    return len(lines) - int((lines.str.strip_chars() == "").sum())


def swallowed(form: Form, rows: int, lines: int) -> str:
    """Where a quoted text goes over the end of a line."""
    for number, line in enumerate(lines_of(form.path, form.encoding), start=1):
        if form.quote is not None and line.count(form.quote) % 2:
            return (
                f"{form.path.name}: {lines:,} lines hold {rows + form.first - 1:,} rows, the header included: quoted "
                f"texts run over line ends, the first in line {number}: {line.strip()[:SHOWN]!r}; if quotes mean "
                "nothing in this file, write `quote: none` beside its path"
            )
    return f"{form.path.name}: {lines:,} lines hold {rows + form.first - 1:,} rows"


def short_lines(form: Form, frame: pl.DataFrame, names: list[str]) -> list[str]:
    """Warn of lines with fewer fields than the header, as a file that was cut off has."""
    if len(names) < 2 or not frame[names[-1]].null_count():
        return []
    numbered = islice(lines_of(form.path, form.encoding), form.first - 1, None)
    short = [
        (number, text) for number, line in enumerate(numbered, start=form.first)
        if (text := line.rstrip("\r\n")).strip() and len(cells_of(text, form)) < len(names)
    ]  # fmt: skip
    if not short:
        return []
    number, text = short[0]
    return [
        f"{form.path.name}: {len(short):,} lines have fewer fields than the header's {len(names)}, the first in line "
        f"{number}: {text[:SHOWN]!r}; what is missing is taken as empty"
    ]

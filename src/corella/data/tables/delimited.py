"""Text files with a separator, of any size. Everything is read as text, so that a value that does not parse is found,
counted and named later instead of stopping the reader.
"""

import gzip
import io
from dataclasses import replace
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW
from corella.config import TableConfig
from corella.data.tables.form import BETWEEN, Form, first_line, form_of
from corella.data.tables.mistakes import explained, line_count, short_lines, swallowed
from corella.errors import UserError


def read_delimited(path: Path, config: TableConfig) -> tuple[pl.DataFrame, list[str]]:
    """Read a file and warn of what may be wrong with it. Adds `FILE_ROW`, the line of each row. Raises `UserError` that
    names the line, shows it, and says which setting mends it."""
    form, names = form_of(path, config)
    dump = replace(form, quote=None) if form.tabs and config.quote is None else None  # most such files know no quotes
    try:
        frame = _numbered(_rows(form, names).collect(), form)
    except pl.exceptions.PolarsError as error:
        if dump is None:
            raise explained(form, len(names), error) from None
        return _read_or_explain(dump, names), []
    lines = line_count(path, form.encoding)
    if form.quote is None or frame.height + form.first - 1 >= lines:
        return frame, short_lines(form, frame, names)
    if dump is not None:
        return _read_or_explain(dump, names), []
    return frame, [swallowed(form, frame.height, lines)]


def scan_delimited(path: Path, config: TableConfig) -> tuple[pl.LazyFrame, Form, list[str]]:
    """The rows of a file of any size as they are, with `FILE_ROW`; how it is written; and what to warn of."""
    form, names = form_of(path, config)
    dump, said = form.tabs and config.quote is None, []
    try:
        rows = int(_rows(form, names).filter(~pl.all_horizontal(pl.all().is_null())).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        if not dump:
            raise explained(form, len(names), error) from None
        rows = -1
    lines = line_count(path, form.encoding)
    if form.quote is not None and rows + form.first - 1 < lines:
        if dump:
            form = replace(form, quote=None)
        else:
            said = [swallowed(form, rows, lines)]
    return _rows(form, names).with_row_index(FILE_ROW, offset=form.first), form, said


def read_atomic(path: Path, encoding: str = "utf-8") -> pl.DataFrame:
    """Read a RecBole atomic file: tab-separated, header `name:type`; `token_seq` columns keep spaces."""
    head = first_line(path, encoding)
    form = Form(path, "\t", None, True, encoding)
    frame = _read_or_explain(form, head.split("\t"))
    return frame.rename({name: name.split(":")[0] for name in frame.columns})


def _rows(form: Form, names: list[str]) -> pl.LazyFrame:
    """All rows as text; polars reads them when they are asked for."""
    source: Path | bytes = form.path
    separator = form.separator
    if form.encoding != "utf-8":
        source = _decoded(form)
    if len(separator) > 1:
        lines = pl.read_lines(source if isinstance(source, Path) else io.BytesIO(source))["line"]
        text = lines.str.replace_all(separator, BETWEEN, literal=True)
        source, separator = "\n".join(text).encode(), BETWEEN
    return pl.scan_csv(
        source, separator=separator, quote_char=form.quote if len(form.separator) == 1 else None, has_header=False,
        skip_rows=1 if form.header else 0, infer_schema=False, schema=dict.fromkeys(names, pl.String),
        raise_if_empty=False, glob=False,
    )  # fmt: skip


def _decoded(form: Form) -> bytes:
    if form.path.name.lower().endswith(".zst"):
        raise UserError(f"{form.path}: a .zst file must be UTF-8; unpack it to read it as {form.encoding}")
    opened = gzip.open if form.path.name.lower().endswith(".gz") else open
    with opened(form.path, "rb") as file:
        content = file.read()
    try:
        return content.decode(form.encoding).encode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{form.path}, line {line}: its letters are not {form.encoding}: {error.reason}") from None


def _read_or_explain(form: Form, names: list[str]) -> pl.DataFrame:
    try:
        return _numbered(_rows(form, names).collect(), form)
    except pl.exceptions.PolarsError as error:
        raise explained(form, len(names), error) from None


def _numbered(frame: pl.DataFrame, form: Form) -> pl.DataFrame:
    """With the line of each row; lines that are blank are left out."""
    numbered = frame.drop(FILE_ROW, strict=False).with_row_index(FILE_ROW, offset=form.first)
    return numbered.filter(~pl.all_horizontal(pl.exclude(FILE_ROW).is_null()))

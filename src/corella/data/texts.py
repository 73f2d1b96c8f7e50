"""Texts of items and users, made of their columns."""

import string
from collections.abc import Callable
from functools import partial

import polars as pl

from corella.columns import (
    DESCRIPTION,
)
from corella.config import DataConfig
from corella.data.ledger import Ledger, list_columns, require
from corella.errors import UserError

_MANY_MISSING = 0.2
"""Share of the items from which on a column that item texts lack is worth a warning."""


def item_text(template: str, lists: list[str]) -> pl.Expr:
    """The item text: the template filled with columns, lists joined by spaces, all white space collapsed."""
    return _fill(template, lists)


def fill_users(template: str) -> pl.Expr:
    """The user text: the template filled with user columns."""
    return _fill(template, [])


def _fill(template: str, lists: list[str], missing: str = "unknown") -> pl.Expr:
    parts: list[pl.Expr] = [pl.lit("")]
    for literal, name, form, _ in string.Formatter().parse(template):
        parts.append(pl.lit(literal))
        if name:
            column = pl.col(name).list.join(" ") if name in lists else pl.col(name).cast(pl.String)
            if form:
                column = pl.col(name).map_batches(partial(_formatted, form=form), return_dtype=pl.String)
            parts.append(column.fill_null(missing))
    text = pl.concat_str(parts).str.replace_all(r"\s+", " ").str.strip_chars()
    return text.str.strip_chars(" ,")


def _formatted(column: pl.Series, form: str) -> pl.Series:
    """Values by a format of Python, such as `.2f`; each different value once. Raises `UserError` where it is none."""
    known = {value: _by_format(value, form, column.name) for value in column.unique().drop_nulls().to_list()}
    return pl.Series(column.name, [known.get(value) for value in column.to_list()], dtype=pl.String)


def _by_format(value: object, form: str, name: str) -> str:
    kinds: tuple[Callable[[object], object], ...] = (lambda it: it, lambda it: float(str(it)), lambda it: int(str(it)))
    for kind in kinds:
        try:
            return format(kind(value), form)
        except (ValueError, TypeError):
            continue
    raise UserError(f"text template: column '{name}': {value!r} cannot be written as '{{{name}:{form}}}'")


def _placeholders(template: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name]
    except ValueError as error:
        raise UserError(f"text template {template!r}: {error}; write names of columns in braces") from None


def with_texts(items: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str) -> pl.DataFrame:
    """Items with their `text` and, where the settings have one, `description`. Warns where many lack a column."""
    require(items, [*_placeholders(config.item_text), *_placeholders(config.item_description or "")], table)
    main = _placeholders(config.item_text)[:1]
    lists = list_columns(items)
    if main and main[0] not in lists:
        column = pl.col(main[0]).cast(pl.String).str.strip_chars()
        items = ledger.drop(items, column.is_null() | (column == ""), "empty item text", table, main[0])
    for name in _placeholders(config.item_text):
        value = pl.col(name) if name in lists else pl.col(name).cast(pl.String).str.strip_chars()
        blank = value.list.len() == 0 if name in lists else value == ""
        for kind, said in ((value.is_null(), "their text says 'unknown' there"), (blank, "their text lacks it")):
            missing = items.filter(kind).height / max(items.height, 1)
            if missing > _MANY_MISSING:
                ledger.warnings.append(f"{table}: {missing:.0%} of the items have no '{name}': {said}")
    if config.item_description is not None:
        items = items.with_columns(_fill(config.item_description, lists, missing="").alias(DESCRIPTION))
    return items.with_columns(item_text(config.item_text, lists).alias("text"))

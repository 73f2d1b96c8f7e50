"""Check raw tables and turn them into a clean log: casts, labels, duplicates, unknown items, empty texts.

Bad rows are dropped, counted and named by their first occurrence; what makes a dataset useless is a
`UserError`.
"""

import polars as pl

from corella.columns import (
    EXACT_TIME,
    FILE_ROW,
    ITEM,
    LABEL,
    RATING,
    SPLIT,
    SPLITS,
    TIME,
    USER,
    RawTables,
    exact_seconds,
    id_text,
)
from corella.config import DataConfig
from corella.data.ledger import Ledger, list_columns, require
from corella.data.split import sort_log
from corella.data.texts import _placeholders, with_texts
from corella.errors import UserError
from corella.features.ratings import LabelRule


def clean(raw: RawTables, config: DataConfig) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, Ledger]:
    """Return (interactions, users, items, ledger).

    Interactions have USER, ITEM (strings), LABEL (int8), and RATING (float64), TIME (int64 or float64),
    SPLIT where given, EXACT_TIME beside TIME; users and items have a row for every id in the interactions (users
    without a row get nulls).
    """
    ledger = Ledger()
    table = raw.names.get("interactions", "interactions")
    log = raw.interactions
    ledger.facts["interactions read"] = log.height
    require(log, [USER, ITEM], table)
    log = _cast_ids(log, ledger, table)
    log = _label(log, config, ledger, table)
    log = _order_columns(log, config, ledger, table)
    if config.split.by == "column":
        require(log, [SPLIT], table)
        known = pl.col(SPLIT).is_in(list(SPLITS))
        log = ledger.drop(log, ~known.fill_null(False), f"split is not one of {', '.join(SPLITS)}", table, SPLIT)
    users = _entities(raw.users, USER, log, raw.names.get("users", "users"), ledger)
    items = _entities(raw.items, ITEM, log, raw.names.get("items", "items"), ledger)
    if raw.items is None:
        raise UserError("no item table: the language model needs a text for every item; give `data.items`")
    items = _lists(items, config, raw.names.get("items", "items"))
    items = with_texts(items, config, ledger, raw.names.get("items", "items"))
    log = ledger.drop(
        log,
        ~pl.col(ITEM).is_in(items[ITEM].implode()),
        "item without a row or a text in the item table",
        table,
        ITEM,
    )
    if config.only_likes:
        log = ledger.drop(log, pl.col(LABEL) == 0, "not liked, and only likes are kept", table, LABEL)
    log = _duplicates(log, config, ledger, table)
    log = _core(log, config.core, ledger, table)
    if log.height == 0:
        raise UserError(f"{table}: no row is left; {_reasons(ledger)}")
    answers = log[LABEL].n_unique()
    if answers < 2 and not config.only_likes:
        raise UserError(f"{table}: with the label rule '{config.label}' every row has label {log[LABEL][0]}")
    counted = [key for group in config.counts.groups for key in group if key in users.columns]
    _require_plain(users, [*config.user_fields, *_placeholders(config.user_text)], raw.names.get("users", "users"))
    _require_plain(users, counted, raw.names.get("users", "users"))
    _require_plain(items, config.item_fields, raw.names.get("items", "items"))
    users = users.join(log.select(USER).unique(), on=USER, how="semi")
    if config.core:
        items = items.join(log.select(ITEM).unique(), on=ITEM, how="semi")
    return log, users.sort(USER), items.sort(ITEM), ledger


def _require_plain(frame: pl.DataFrame, columns: list[str], table: str) -> None:
    """Columns that are there and hold one value a row."""
    require(frame, columns, table)
    for name in columns:
        if frame.schema[name].is_nested():
            raise UserError(
                f"{table}: column '{name}' holds lists; only `list_fields`, item texts and counts of items do"
            )


def _cast_ids(frame: pl.DataFrame, ledger: Ledger, table: str) -> pl.DataFrame:
    for name in (USER, ITEM):
        frame = frame.with_columns(id_text(frame[name]))
        frame = ledger.drop(frame, pl.col(name).is_null() | (pl.col(name) == ""), "empty id", table, name)
    return frame


def _number(frame: pl.DataFrame, column: str, ledger: Ledger, table: str) -> pl.DataFrame:
    blank = pl.col(column).is_null()
    if frame.schema[column] == pl.String:
        blank |= pl.col(column).str.strip_chars() == ""
    frame = ledger.drop(frame, blank, f"no {column}", table, column)
    parsed = _as_number(frame[column])
    frame = frame.with_columns(parsed.alias("_number"))
    frame = ledger.drop(frame, ~pl.col("_number").is_finite().fill_null(False), "not a number", table, column)
    return frame.with_columns(pl.col("_number").alias(column)).drop("_number")


def _label(log: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str) -> pl.DataFrame:
    if config.label == LABEL:
        require(log, [LABEL], table)
        log = _number(log, LABEL, ledger, table)
        log = ledger.drop(log, ~pl.col(LABEL).is_in([0.0, 1.0]), "label is neither 0 nor 1", table, LABEL)
        return _optional_rating(log).with_columns(pl.col(LABEL).cast(pl.Int8))
    rule = LabelRule.parse(config.label)
    column = rule.column
    if column not in log.columns and LABEL in log.columns:
        raise UserError(
            f"{table}: no column '{column}', which data.label '{config.label}' needs; set data.label: {LABEL} to take "
            f"the answers from the column '{LABEL}'"
        )
    require(log, [column], table)
    log = _number(log, column, ledger, table)
    if LABEL in log.columns and column != LABEL:
        ledger.warnings.append(
            f"{table}: the column '{LABEL}' is not read, since data.label is '{config.label}'; set data.label: {LABEL} "
            "to take the answers from it"
        )
    if column != RATING:
        log = _optional_rating(log)
    return log.with_columns(rule.compare(pl.col(column), rule.bound).cast(pl.Int8).alias(LABEL))


def _optional_rating(log: pl.DataFrame) -> pl.DataFrame:
    """A rating that decides no label may be missing or no number."""
    return log.with_columns(_as_number(log[RATING])) if RATING in log.columns else log


def _as_number(column: pl.Series) -> pl.Series:
    """A column as float64, null where a value is no number; text and categories are read."""
    if column.dtype.is_nested() or column.dtype.is_temporal():
        return pl.Series(column.name, [None] * len(column), dtype=pl.Float64)
    plain = column if column.dtype.is_numeric() or column.dtype == pl.Boolean else column.cast(pl.String)
    return plain.cast(pl.Float64, strict=False)


def _order_columns(log: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str) -> pl.DataFrame:
    """Times as whole seconds and exactly; other columns of the order as numbers where most are (10 after 9)."""
    if TIME in config.order and TIME not in log.columns:
        hint = "name it in `columns`, or set data.order: [] to keep the file's order"
        raise UserError(f"{table}: no column '{TIME}' to order by; {hint}")
    _require_plain(log, config.order, table)
    for name in config.order:
        if name in (TIME, USER, ITEM):
            continue
        if log[name].dtype == pl.String and 2 * _as_number(log[name]).count() > log.height:
            log = _number(log, name, ledger, table)
        blank = pl.col(name).cast(pl.String).fill_null("") == ""
        log = ledger.drop(log, blank, "no place in the order", table, name)
    if TIME not in log.columns:
        return log
    log = log.with_columns(exact_seconds(log[TIME]).alias(EXACT_TIME))
    log = ledger.drop(log, pl.col(EXACT_TIME).is_null(), "not a time", table, TIME)
    return log.with_columns(pl.col(EXACT_TIME).floor().cast(pl.Int64).alias(TIME))


def _entities(frame: pl.DataFrame | None, key: str, log: pl.DataFrame, table: str, ledger: Ledger) -> pl.DataFrame:
    ids = log.select(key).unique()
    if frame is None:
        return ids
    require(frame, [key], table)
    frame = frame.with_columns(id_text(frame[key]))
    frame = ledger.drop(frame, pl.col(key).is_null() | (pl.col(key) == ""), "empty id", table, key)
    repeated = pl.col(key).is_duplicated() & ~pl.col(key).is_first_distinct()
    frame = ledger.drop(frame, repeated, f"{key} comes more than once; the first is kept", table, key)
    if key == USER:
        unknown = ids.join(frame, on=key, how="anti")
        if unknown.height:
            ledger.warnings.append(
                f"{unknown.height} users of the interactions have no row in {table}, "
                f"e.g. {unknown[key].min()!r}; "
                "their fields are unknown"
            )
            frame = pl.concat([frame, unknown], how="diagonal")
    return frame


def _lists(items: pl.DataFrame, config: DataConfig, table: str) -> pl.DataFrame:
    """Lists of any type become lists of strings; a list field that is none is an error."""
    require(items, config.list_fields, table)
    for name in config.list_fields:
        if not isinstance(items.schema[name], pl.List):
            raise UserError(f"{table}: column '{name}' is not a list; name its separator in data.items.lists")
    written = [*_placeholders(config.item_text), *_placeholders(config.item_description or "")]
    used = {*config.list_fields, *written, *(key for g in config.counts.groups for key in g)}
    return items.with_columns(pl.col(n).cast(pl.List(pl.String)) for n in list_columns(items) if n in used)


def _duplicates(log: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str) -> pl.DataFrame:
    """Drop repeated user-item pairs; first and last are meant in the configured order, not the file's."""
    if config.duplicates == "keep" or not log.select(pl.struct(USER, ITEM).is_duplicated().any()).item():
        return log
    log = sort_log(log, config)
    if config.duplicates == "last":
        repeated = ~pl.struct(USER, ITEM).is_last_distinct()
    else:
        repeated = ~pl.struct(USER, ITEM).is_first_distinct()
    if config.duplicates == "error" and log.select(repeated.any()).item():
        first = log.filter(repeated).row(0, named=True)
        raise UserError(
            f"{table}, row {first[FILE_ROW]}: user {first[USER]!r} and item {first[ITEM]!r} come more than "
            "once; "
            "set data.duplicates to first, last or keep"
        )
    return ledger.drop(log, repeated, f"duplicated user-item pair; the {config.duplicates} is kept", table, ITEM)


def _core(log: pl.DataFrame, least: int, ledger: Ledger, table: str) -> pl.DataFrame:
    """Only users and items with at least `least` rows among the rows that are left."""
    left = log
    while least > 1:
        few = pl.any_horizontal(pl.len().over(key) < least for key in (USER, ITEM))
        kept = left.filter(~few)
        if kept.height == left.height:
            break
        left = kept
    gone = ~pl.col(FILE_ROW).is_in(left[FILE_ROW].implode())
    return ledger.drop(log, gone, f"users or items with fewer than {least} rows", table, USER)


def _reasons(ledger: Ledger) -> str:
    return "; ".join(f"{d.rows} rows: {d.reason} ({d.first})" for d in ledger.dropped) or "the file is empty"

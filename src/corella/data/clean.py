"""Check raw tables and turn them into a clean log: casts, labels, duplicates, unknown items, empty texts.

Bad rows are dropped, counted and named by their first occurrence; what makes a dataset useless is a
`UserError`.
"""

import time

import polars as pl

from corella.columns import (
    EXACT_TIME,
    FILE_ROW,
    ITEM,
    LABEL,
    RATING,
    REVIEW,
    SPLIT,
    SPLITS,
    TIME,
    USER,
    RawTables,
)
from corella.config import DataConfig
from corella.data.ids import examples, id_text, id_warnings
from corella.data.labels import as_number, number, only_clicks, with_labels
from corella.data.ledger import Ledger, list_columns, require
from corella.data.split import sort_log
from corella.data.tables.lists import exploded
from corella.data.texts import _placeholders, with_texts
from corella.data.times import date_text, read_times
from corella.errors import UserError

UNKNOWN_ITEM = "item without a row or a text in the item table"
"""Why a row is dropped."""
_OLD = 631_152_000
"""The year 1990."""
_PARTS = {
    **{name: name for name in SPLITS}, "training": "train", "val": "valid", "validation": "valid", "dev": "valid",
    "testing": "test",
}  # fmt: skip
"""Parts of a split by what others call them."""


def clean(raw: RawTables, config: DataConfig) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, Ledger]:
    """Return (interactions, users, items, ledger).

    Interactions have USER, ITEM (strings), LABEL (int8), and RATING (float64), TIME (int64 or float64),
    SPLIT where given, EXACT_TIME beside TIME; users and items have a row for every id in the interactions (users
    without a row get nulls).
    """
    ledger = Ledger(warnings=list(raw.warnings))
    table = raw.names.get("interactions", "interactions")
    log = answers(raw.interactions, config, ledger, table)
    if config.split.by == "column":
        require(log, [SPLIT], table)
        log = _called_as_ours(log, ledger, table)
        known = pl.col(SPLIT).is_in(list(SPLITS))
        log = ledger.drop(log, ~known.fill_null(False), f"split is not one of {', '.join(SPLITS)}", table, SPLIT)
    users = described_users(raw.users, log.select(USER).unique(), config, ledger, raw.names.get("users", "users"))
    items = described_items(raw.items, log.select(ITEM).unique(), config, ledger, raw.names.get("items", "items"))
    log = with_known_items(log, items, ledger, table)
    if config.only_likes:
        log = ledger.drop(log, pl.col(LABEL) == 0, "not liked, and only likes are kept", table, LABEL)
    log = _duplicates(log, config, ledger, table)
    log = _core(log, config.core, ledger, table)
    if log.height == 0:
        raise UserError(f"{table}: no row is left; {ledger.reasons()}")
    if log[LABEL].n_unique() < 2 and not config.only_likes and not only_clicks(raw.interactions, config):
        raise UserError(
            f"{table}: with the label rule '{config.label}' every row has label {log[LABEL][0]}, and "
            f"ranking needs both; {ledger.reasons()}"
        )
    users = users.join(log.select(USER).unique(), on=USER, how="semi")
    if config.core:
        items = items.join(log.select(ITEM).unique(), on=ITEM, how="semi")
    return log, users.sort(USER), items.sort(ITEM), ledger


def answers(rows: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str) -> pl.DataFrame:
    """Rows of interactions with ids, labels and times as `clean` returns them; bad ones are dropped."""
    require(rows, [USER, ITEM], table)
    log, said = exploded(rows, ITEM, (TIME, RATING, LABEL, REVIEW), table)
    ledger.warnings += said
    ledger.facts["interactions read"] = log.height
    log = _cast_ids(log, ledger, table)
    log = with_labels(log, config, ledger, table)
    return _order_columns(log, config, ledger, table)


def described_users(
    users: pl.DataFrame | None, ids: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str
) -> pl.DataFrame:
    """A row for every user: of the user table, and of `ids` (one column, USER) where it has none."""
    users = _entities(users, USER, ids, table, ledger)
    counted = [key for group in config.counts.groups for key in group if key in users.columns]
    _require_plain(users, [*config.user_fields, *_placeholders(config.user_text), *counted], table)
    return users


def described_items(
    items: pl.DataFrame | None, ids: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str
) -> pl.DataFrame:
    """A row with a text for every item: of the item table, or of `ids` (one column, ITEM) where there is none."""
    found = _entities(items, ITEM, ids, table, ledger)
    if items is None:
        ledger.warnings.append("no item table (data.items): an item's text is its id, so that texts cannot help")
        found = found.with_columns(pl.col(ITEM).alias(name) for name in _placeholders(config.item_text)[:1])
    found = _lists(found, config, table)
    found = with_texts(found, config, ledger, table)
    _require_plain(found, config.item_fields, table)
    return found


def with_known_items(log: pl.DataFrame, items: pl.DataFrame, ledger: Ledger, table: str) -> pl.DataFrame:
    """The rows whose item has a row in the item table."""
    return ledger.drop(
        log,
        ~pl.col(ITEM).is_in(items[ITEM].implode()),
        f"{UNKNOWN_ITEM}, where ids are like {examples(items[ITEM])}",
        table,
        ITEM,
    )


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
        if frame.schema[name].is_nested():
            raise UserError(f"{table}: column '{name}' holds lists; give one id a row")
        ledger.warnings += id_warnings(frame[name], table)
        frame = frame.with_columns(id_text(frame[name]).alias(name))
        frame = ledger.drop(frame, pl.col(name).is_null() | (pl.col(name) == ""), "empty id", table, name)
    return frame


def _order_columns(log: pl.DataFrame, config: DataConfig, ledger: Ledger, table: str) -> pl.DataFrame:
    """Times as whole seconds and exactly; other columns of the order as numbers where most are (10 after 9)."""
    if TIME in config.order and TIME not in log.columns:
        hint = "name it in `columns`, or set data.order: [] to keep the file's order"
        raise UserError(f"{table}: no column '{TIME}' to order by; {hint}")
    _require_plain(log, config.order, table)
    for name in config.order:
        if name in (TIME, USER, ITEM):
            continue
        if log[name].dtype == pl.String and 2 * as_number(log[name]).count() > log.height:
            log = number(log, name, ledger, table)
        blank = pl.col(name).cast(pl.String).fill_null("") == ""
        log = ledger.drop(log, blank, "no place in the order", table, name)
    if TIME not in log.columns:
        return log
    times = read_times(log[TIME])
    log = log.with_columns(times.seconds.alias(EXACT_TIME), times.unknown.alias("_unknown"))
    log = ledger.drop(log, pl.col("_unknown"), "the time says that it is not known", table, TIME)
    log = ledger.drop(log, pl.col(EXACT_TIME).is_null(), "not a time", table, TIME).drop("_unknown")
    ledger.warnings += _strange_times(log, table)
    return log.with_columns(pl.col(EXACT_TIME).floor().cast(pl.Int64).alias(TIME))


def _strange_times(log: pl.DataFrame, table: str) -> list[str]:
    """Warn of times before 1990 and after today: most are numbers of another kind."""
    said, today = [], time.time() + 86_400
    for strange, what in ((pl.col(EXACT_TIME) < _OLD, "before 1990"), (pl.col(EXACT_TIME) > today, "after today")):
        found = log.filter(strange)
        if found.height:
            said.append(
                f"{table}: {found.height:,} of {log.height:,} times lie {what}, the first in row {found[FILE_ROW][0]}: "
                f"{found[TIME][0]!r} is read as {date_text(found[EXACT_TIME][0])}"
            )
    return said


def _called_as_ours(log: pl.DataFrame, ledger: Ledger, table: str) -> pl.DataFrame:
    """The parts of a split by their usual other names, in any case."""
    text = pl.col(SPLIT).cast(pl.String).str.strip_chars()
    known = text.str.to_lowercase().replace_strict(_PARTS, default=None)
    others = log.filter(known.is_not_null() & (known != text)).select(text).to_series().unique(maintain_order=True)
    if len(others):
        told = ", ".join(f"{value!r} as {_PARTS[value.lower()]}" for value in others.head(4))
        ledger.warnings.append(f"{table}: column {SPLIT}: {told}")
    return log.with_columns(pl.coalesce(known, text).alias(SPLIT))


def _entities(frame: pl.DataFrame | None, key: str, ids: pl.DataFrame, table: str, ledger: Ledger) -> pl.DataFrame:
    if frame is None:
        return ids
    require(frame, [key], table)
    ledger.warnings += id_warnings(frame[key], table)
    frame = frame.with_columns(id_text(frame[key]).alias(key))
    frame = ledger.drop(frame, pl.col(key).is_null() | (pl.col(key) == ""), "empty id", table, key)
    repeated = pl.col(key).is_duplicated() & ~pl.col(key).is_first_distinct()
    frame = ledger.drop(frame, repeated, f"{key} comes more than once; the first is kept", table, key)
    if key == USER:
        unknown = ids.join(frame, on=key, how="anti")
        if unknown.height:
            ledger.warnings.append(
                f"{unknown.height} users of the interactions have no row in {table}, "
                f"e.g. {unknown[key].min()!r} (ids there are like {examples(frame[key])}); their fields are unknown"
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
    gone = ~pl.all_horizontal(pl.col(key).is_in(left[key].unique().implode()) for key in (USER, ITEM))
    return ledger.drop(log, gone, f"users or items with fewer than {least} rows", table, USER)

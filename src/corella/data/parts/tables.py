"""The tables of items and of users, whose rows give the codes."""

from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from corella.columns import FILE, FILE_ROW, ITEM, USER
from corella.config import TableConfig
from corella.data.clean import described_items, described_users
from corella.data.ids import id_text
from corella.data.ledger import Ledger
from corella.data.parts.frames import Desk
from corella.data.tables.read import read_table
from corella.data.texts import fill_users
from corella.errors import UserError
from corella.tasks.once import Facts


@dataclass(frozen=True)
class Entities:
    """Where ids come from."""

    desk: Desk
    files: tuple[Path, ...]
    """Of interactions: for items those of the settings, for users what was read of them."""


def items_table(task: Entities, target: Path) -> Facts:
    """Write the items with their texts; where there is no table of them, those of the interactions."""
    config, ledger = task.desk.config(), Ledger()
    if config.items is not None:
        raw, source = _read(config.items, ledger), str(config.items.path)
        items = described_items(raw, pl.DataFrame(), config, ledger, source)
    else:
        assert config.interactions is not None  # noqa: S101
        ids = id_text(_unique(task.files, config.interactions.columns.get(ITEM, ITEM)).alias(ITEM)).drop_nulls()
        items = described_items(None, ids.unique().to_frame(), config, ledger, "items")
    items.drop(FILE_ROW, FILE, strict=False).sort(ITEM).write_parquet(target)
    return asdict(ledger)


def users_table(task: Entities, target: Path) -> Facts:
    """Write the users of the interactions with their texts."""
    config, ledger = task.desk.config(), Ledger()
    ids = _unique(task.files, USER).to_frame()
    raw = None if config.users is None else _read(config.users, ledger)
    users = described_users(raw, ids, config, ledger, "users" if config.users is None else str(config.users.path))
    users = users.join(ids, on=USER, how="semi").sort(USER)
    users = users.with_columns(fill_users(config.user_text).alias("text")).drop(FILE_ROW, FILE, strict=False)
    users.write_parquet(target)
    return asdict(ledger)


def height_of(file: Path) -> int:
    """Rows of a Parquet file. Raises `UserError` where it cannot be read."""
    try:
        return int(pl.scan_parquet(file, glob=False).select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def _read(config: TableConfig, ledger: Ledger) -> pl.DataFrame:
    table = read_table(config)
    ledger.warnings += table.warnings
    return table.frame


def _unique(files: tuple[Path, ...], column: str) -> pl.Series:
    try:
        found = pl.scan_parquet(list(files), glob=False).select(pl.col(column).unique()).collect(engine="streaming")
    except pl.exceptions.ColumnNotFoundError:
        raise UserError(f"{files[0]}: no column '{column}'") from None
    return found.to_series()

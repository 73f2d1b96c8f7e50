"""Stage one: a part of a file is read, checked, and dealt out by users."""

from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from corella.columns import EXACT_TIME, FILE, FILE_ROW, ITEM, LABEL, RATING, TIME, USER
from corella.config import DataConfig
from corella.data.clean import answers, with_known_items
from corella.data.labels import only_clicks
from corella.data.ledger import Ledger
from corella.data.parts.frames import CROWD, ROW, Desk, write_sorted
from corella.data.tables.missing import without_missing
from corella.data.tables.read import renamed
from corella.errors import UserError
from corella.tasks.once import Facts

KEY = "key"
"""What orders the log: the exact time, or the place in the files."""
_POINTS = 256
"""Times told of a part, evenly spaced among its rows."""


@dataclass(frozen=True)
class Reading:
    """Rows of a file."""

    desk: Desk
    file: Path
    table: str
    """What messages call the table."""
    first: int
    """Row of the file, from 0 on."""
    rows: int
    before: int
    """Rows in the files before this one."""


def read_rows(task: Reading, target: Path) -> Facts:
    """Write ids, item codes, answers and times of the rows that are kept."""
    ledger, crowds = Ledger(), task.desk.cut.crowds
    log = kept_rows(task, task.desk.config(), pl.read_parquet(task.desk.items, columns=[ITEM]), ledger)
    write_sorted(log.with_columns(crowd_of(pl.col(USER), crowds).alias(CROWD)), CROWD, crowds, target)
    points = log[KEY].sort().gather_every(max(log.height // _POINTS, 1)).to_list()
    return {**asdict(ledger), "kept": log.height, "points": points}


def kept_rows(task: Reading, config: DataConfig, items: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """The rows with their place, USER, the code among `items`, LABEL, RATING and TIME where there are any, and KEY."""
    raw = _raw(task, config, ledger)
    if only_clicks(raw, config):
        raise UserError(f"{task.table}: a log of clicks is ranked against items that are drawn, which needs it whole")
    log = answers(raw, config, ledger, task.table)
    codes = items.select(ITEM).with_row_index("item")
    log = with_known_items(log, codes, ledger, task.table).join(codes, on=ITEM, how="left", maintain_order="left")
    log = log.with_columns((pl.col(FILE_ROW).cast(pl.Int64) - 1 + task.before).alias(ROW))
    kept = [name for name in (ROW, USER, "item", LABEL, RATING, TIME) if name in log.columns]
    key = EXACT_TIME if TIME in config.order else ROW
    return log.select(*kept, pl.col(key).cast(pl.Float64).alias(KEY))


def crowd_of(user: pl.Expr, crowds: int) -> pl.Expr:
    """The part of a user, by the id; the same in every process."""
    return (user.hash(seed=0) % crowds).cast(pl.Int32)


def _raw(task: Reading, config: DataConfig, ledger: Ledger) -> pl.DataFrame:
    table = config.interactions
    assert table is not None  # noqa: S101
    try:
        frame = pl.scan_parquet(task.file, glob=False).slice(task.first, task.rows).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{task.file} cannot be read: {str(error).splitlines()[0]}") from None
    frame = frame.drop(FILE_ROW, strict=False).with_row_index(FILE_ROW, offset=task.first + 1)
    frame = renamed(frame, table, str(task.file)).with_columns(pl.lit(task.file.name).alias(FILE))
    frame, said = without_missing(frame, table.missing, task.file.name)
    ledger.warnings += said
    return frame

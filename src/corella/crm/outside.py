"""Any conventional model made elsewhere: a table with its probability for every sample, joined onto the log.

Whatever trained it, here it is a column of numbers: it can be calibrated, blended and routed, but not trained
jointly.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import FILE_ROW, ITEM, TIME, USER
from corella.config import TableConfig
from corella.data.dataset import Dataset
from corella.data.ids import id_text
from corella.data.samples import Samples
from corella.data.tables.read import read_files
from corella.data.times import epoch_seconds
from corella.errors import UserError, suggest

PROBABILITY = "probability"
_CLIP = 1e-6


def outside_logits(table: pl.DataFrame | Path, dataset: Dataset, samples: Samples) -> npt.NDArray[np.float32]:
    """Logits of samples (rows of the log) from a table of user_id, item_id and probability, float32 [n].

    Where a pair of user and item comes more than once, in the table or in the log, the join needs the column
    timestamp too. Probabilities are kept 1e-6 away from 0 and 1. Raises `UserError` for a column, a row or a
    value that is wrong.
    """
    frame = read_files(TableConfig(path=table)).frame if isinstance(table, Path) else table
    source = str(table) if isinstance(table, Path) else "the table of probabilities"
    if FILE_ROW not in frame.columns:
        frame = frame.with_row_index(FILE_ROW, offset=1)
    _require(frame, [USER, ITEM, PROBABILITY], source)
    frame = _probabilities(frame, source).with_columns(id_text(frame[USER]), id_text(frame[ITEM]))
    if (samples.row < 0).any():
        raise UserError("outside probabilities are known for rows of the log only, not for new rows")
    keys = [USER, ITEM]
    if _repeated(frame, keys).height or _repeated(dataset.log, keys).height:
        keys = [*keys, TIME]
        _require(dataset.log, [TIME], "the log (a pair of user and item comes more than once)")
        _require(frame, [TIME], f"{source} (a pair of user and item comes more than once)")
        frame = frame.with_columns(epoch_seconds(frame[TIME]))
    again = _repeated(frame, keys)
    if again.height:
        raise UserError(
            f"{source}: {again.height} rows repeat an earlier {', '.join(keys)}; the first: {_show(again, keys)}"
        )
    wanted = dataset.log[samples.row].select(keys)
    found = wanted.join(frame, on=keys, how="left", maintain_order="left")
    missing = found.filter(pl.col(PROBABILITY).is_null())
    if missing.height:
        raise UserError(
            f"{source}: no probability for {missing.height} of {found.height} samples; "
            f"the first: {_show(missing, keys)}"
        )
    p = np.clip(found[PROBABILITY].to_numpy(), _CLIP, 1 - _CLIP)
    result: npt.NDArray[np.float32] = (np.log(p) - np.log1p(-p)).astype(np.float32)
    return result


def _require(frame: pl.DataFrame, columns: list[str], source: str) -> None:
    for name in columns:
        if name not in frame.columns:
            shown = [c for c in frame.columns if c != FILE_ROW]
            raise UserError(f"{source}: no column '{name}'; {suggest(name, shown)}")


def _probabilities(frame: pl.DataFrame, source: str) -> pl.DataFrame:
    parsed = frame.with_columns(pl.col(PROBABILITY).cast(pl.Float64, strict=False).alias("_parsed"))
    bad = parsed.filter(~pl.col("_parsed").is_between(0, 1).fill_null(False))
    if bad.height:
        raise UserError(
            f"{source}: {bad.height} rows have no {PROBABILITY} between 0 and 1; the first: "
            f"{_show(bad, [USER, ITEM, PROBABILITY])}"
        )
    return frame.with_columns(parsed["_parsed"].alias(PROBABILITY))


def _repeated(frame: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    return frame.filter(~pl.struct(keys).is_first_distinct())


def _show(frame: pl.DataFrame, columns: list[str]) -> str:
    first = frame.row(0, named=True)
    row = first.get(FILE_ROW)
    values = ", ".join(f"{name} {first[name]!r}" for name in columns)
    return values if row is None else f"row {row}, {values}"

"""What cleaning drops and warns of, row by row."""

from dataclasses import dataclass, field

import polars as pl

from corella.columns import FILE, FILE_ROW
from corella.data.preparation import Dropped
from corella.errors import UserError, suggest

_MANY_TIES = 0.01
"""Share of the rows from which on ties are worth a warning."""


@dataclass
class Ledger:
    """What was read, kept and dropped, and why; printed by `corella prepare` and kept with the dataset."""

    facts: dict[str, int] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def drop(self, frame: pl.DataFrame, bad: pl.Expr, reason: str, table: str, column: str) -> pl.DataFrame:
        """Return `frame` without the rows where `bad` holds; note their number and the first of them."""
        marked = frame.filter(bad)
        if marked.height == 0:
            return frame
        first = marked.row(0, named=True)
        where = f"row {first[FILE_ROW]}, column {column}: {first.get(column)!r}"
        self.dropped.append(Dropped(reason, marked.height, f"{first.get(FILE, table)}, {where}"))
        return frame.filter(~bad)

    def warn_of_ties(self, share: float) -> None:
        """Warn where many interactions, a share from 0 to 1, have the time of another one of the same user."""
        if share > _MANY_TIES:
            self.warnings.append(
                f"{share:.0%} of the interactions have the time of another one of the same user; they stand in the "
                "file's order, and where that tells anything of the answers, histories tell it too: data.strict_time: "
                "true hides answers of the same second from each other"
            )

    def reasons(self) -> str:
        """What was dropped and why, and what may be wrong, for a message."""
        if self.facts.get("interactions read") == 0:
            return "the file has no rows"
        told = [f"{d.rows:,} rows dropped: {d.reason} ({d.first})" for d in self.dropped] or ["nothing was dropped"]
        return "; ".join([*told, *self.warnings])


def require(frame: pl.DataFrame, columns: list[str], table: str) -> None:
    """Raise `UserError` where a table lacks one of the columns."""
    for name in columns:
        if name not in frame.columns:
            shown = [c for c in frame.columns if c != FILE_ROW]
            raise UserError(f"{table}: no column '{name}'; {suggest(name, shown)}")


def list_columns(frame: pl.DataFrame) -> list[str]:
    """Names of the columns that hold lists."""
    return [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]

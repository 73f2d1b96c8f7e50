"""What a page is made of, so that any part of it can be measured anew: the main runs, all conventional models, a
variant. Each has its rows, comparisons and the commit that it was measured at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]

MAIN_FACTS = ("seeds", "cost", "groups", "figures")


@dataclass
class Parts:
    """The parts of a ranking benchmark's page."""

    main: Row = field(default_factory=dict)
    """What is told of the main runs alone, see `MAIN_FACTS`; empty before they are measured."""
    commits: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    differences: list[Row] = field(default_factory=list)

    def put(self, part: str, commit: str, rows: Sequence[Row], differences: Sequence[Row] = ()) -> None:
        """Put a part in, in place of what was there of it."""
        self.commits[part] = commit
        self.rows = [row for row in self.rows if row["part"] != part] + [{"part": part, **row} for row in rows]
        others = [found for found in self.differences if found["part"] != part]
        self.differences = others + [{"part": part, **found} for found in differences]

    def ordered(self, order: Sequence[str]) -> "Parts":
        """The same, in the order of their names."""
        rows, differences = (
            sorted(found, key=lambda row: order.index(row["part"])) for found in (self.rows, self.differences)
        )
        return Parts(self.main, {part: self.commits[part] for part in order if part in self.commits}, rows, differences)


def kept_parts(result: Row, shape: Row, known: Sequence[str]) -> Parts:
    """The parts of an earlier result, where it was measured in the same shape (form, settings, overrides)."""
    if any(result.get(name) != value for name, value in shape.items()):
        return Parts()
    rows, differences = ([row for row in result[name] if row["part"] in known] for name in ("rows", "differences"))
    main = {name: result[name] for name in MAIN_FACTS}
    return Parts(
        main, {part: result["commits"][part] for part in known if part in result["commits"]}, rows, differences
    )

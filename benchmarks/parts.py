"""What a page is made of, so that any part of it can be measured anew: the main runs, all conventional models, a
variant."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Row = dict[str, Any]

OF_MAIN = "of_main"
"""Marks a row of another part that the main runs have a share in."""

_FACTS = ("seeds", "machine", "cost", "groups", "figures")


@dataclass
class Part:
    """What was measured at once, and the commits it was measured at."""

    commit: str
    rows: Sequence[Row]
    differences: Sequence[Row] = ()
    facts: Row = field(default_factory=dict)
    """Of the main runs alone: seeds, machine, cost, groups, figures."""


def kept_parts(result: Row, shape: Row, main: str) -> dict[str, Part]:
    """The parts of an earlier result, where it was measured in the same shape (form, settings, overrides)."""
    if any(result.get(name) != value for name, value in shape.items()):
        return {}
    facts = {name: result[name] for name in _FACTS}
    return {
        part: Part(commit, _own(result["rows"], part), _own(result["differences"], part), facts if part == main else {})
        for part, commit in result["commits"].items()
    }


def without_stale(kept: dict[str, Part], measured: Collection[str], against: Mapping[str, str]) -> dict[str, Part]:
    """The kept parts without what rests on parts that are measured anew, which was with other runs: comparisons, and
    rows marked with `OF_MAIN`; comparisons within a part stay. `against`: the part that another one is compared with.
    """
    stale = {name for name, other in against.items() if name not in measured and other in measured}
    return {name: _without(part, name) if name in stale else part for name, part in kept.items()}


def _without(part: Part, name: str) -> Part:
    rows = [row for row in part.rows if not row.get(OF_MAIN)]
    return replace(part, rows=rows, differences=[d for d in part.differences if _is_own(name, d)])


def _is_own(part: str, difference: Row) -> bool:
    return all(difference[end].startswith(f"{part}: ") for end in ("a", "b"))


def _own(rows: Sequence[Row], part: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "part"} for row in rows if row["part"] == part]

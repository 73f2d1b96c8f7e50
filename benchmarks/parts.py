"""What a page is made of, so that any part of it can be measured anew: the main runs, all conventional models, a
variant."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Row = dict[str, Any]

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
    """The kept parts without their comparisons with parts that are measured anew, which were with other runs; those
    within a part stay. `against`: the part that another one is compared with."""
    stale = {name for name, other in against.items() if name not in measured and other in measured}
    return {
        name: replace(part, differences=[d for d in part.differences if name not in stale or _is_own(name, d)])
        for name, part in kept.items()
    }


def _is_own(part: str, difference: Row) -> bool:
    return all(difference[end].startswith(f"{part}: ") for end in ("a", "b"))


def _own(rows: Sequence[Row], part: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "part"} for row in rows if row["part"] == part]

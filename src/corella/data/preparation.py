"""What a preparation read, kept and dropped: printed by `corella prepare`, kept with the dataset, told by reports."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SplitFacts:
    """A part of the log."""

    split: str
    rows: int
    users: int
    items: int
    positive: float
    """Share of the rows with label 1, 0 to 1."""


@dataclass(frozen=True)
class Dropped:
    """Rows that were left out."""

    reason: str
    rows: int
    first: str
    """Table, row, column and value of the first of them."""


@dataclass(frozen=True)
class Preparation:
    """How a dataset was made."""

    facts: dict[str, int] = field(default_factory=dict)
    """Counts by what they count: interactions read and kept, users, items."""
    splits: list[SplitFacts] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    text_seconds: float = 0.0
    """What the text encoder took."""
    fingerprint: str = ""
    """Of the settings and the files that it was made from."""

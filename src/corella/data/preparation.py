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
    first: str = ""
    """When its first row was, as a date (UTC); empty where the log has no times."""
    last: str = ""


@dataclass(frozen=True)
class Dropped:
    """Rows that were left out."""

    reason: str
    rows: int
    first: str
    """Table, row, column and value of the first of them."""


@dataclass(frozen=True)
class Extremes:
    """Where mistakes show: the ends of the ratings, and who and what comes most often."""

    ratings: str = ""
    """The least and the greatest rating and how often each occurs; empty where there are none."""
    busiest_user: str = ""
    busiest_item: str = ""
    """The id, and how many rows it has."""


@dataclass(frozen=True)
class SourceFile:
    """A file as it was read."""

    bytes: int
    changed: int
    """When it was written last, in nanoseconds since 1970."""
    sha256: str


@dataclass(frozen=True)
class Preparation:
    """How a dataset was made."""

    facts: dict[str, int] = field(default_factory=dict)
    """Counts by what they count: interactions read and kept, users, items."""
    splits: list[SplitFacts] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    extremes: Extremes = field(default_factory=Extremes)
    text_seconds: float = 0.0
    """What the text encoder took."""
    files: dict[str, SourceFile] = field(default_factory=dict)
    """By path: what it was made from."""
    fingerprint: str = ""
    """Of the settings and the files that it was made from."""

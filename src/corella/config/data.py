"""Settings of the data: tables, splits, count features, and what a sample is."""

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from corella.config.section import Section
from corella.config.tables import TableConfig
from corella.config.text import TextConfig

CLICKS = "clicks"
"""The label rule of a log in which every row is a click."""
_FRACTIONS = (0.8, 0.1, 0.1)
_FOLDS = 5


class SplitConfig(Section):
    """How rows become training, validation and test samples."""

    advanced: ClassVar = frozenset({
        "within", "folds", "fold", "newest", "created", "min_history", "learn_history",
    })  # fmt: skip

    by: Literal["time", "user", "each-user", "leave-last-out", "new-items", "column"] = "time"
    """`time`: in the dataset's order; `user`: whole users; `each-user`: at random within each user, at least one for
    validation and for test (CLLM4Rec); `leave-last-out`: each user's last row is test, the one before it validation;
    `new-items`: whole items, so that training knows no interaction with a test item; `column`: a column `split` says
    train, valid, test or history (context only)."""
    fractions: tuple[float, float, float] = _FRACTIONS
    """Shares of train, validation and test rows (or users, or items)."""
    within: str | None = None
    """With `by: time` and `by: new-items`: an item column; each of its values is split by itself. Training rows stand
    first in the log then, validation rows next, test rows last, each in the dataset's order."""
    folds: int = Field(default=_FOLDS, ge=3)
    """With `by: new-items`: into how many parts of one size the items are dealt at random."""
    fold: int = Field(default=0, ge=0)
    """Which of them is test, from 0 on; the next one is validation, the one after the last being the first."""
    newest: bool = False
    """With `by: new-items`: the newest items are test, those before them validation, by `fractions`; no folds."""
    created: str | None = None
    """With `newest`: the item column that tells when an item was made (a number or a time; items without one count as
    the oldest). Unset: when the first interaction with it came."""
    dates: tuple[str, str] | None = None
    """With `by: time`: ISO dates (UTC) at which validation and test begin, instead of fractions."""
    min_history: int = Field(default=0, ge=0)
    """Rows with fewer earlier interactions of the user become history only, before the fractions are taken."""
    learn_history: bool = False
    """With `by: column`: a history row becomes a training row, if the user's next sample is one and at least
    `min_history` rows of the user stand before it. Its answer is as known as that one's. [ours]"""

    @field_validator("dates", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """YAML reads an unquoted date as a date."""
        dates = value if isinstance(value, (list, tuple)) else []
        return [date.isoformat() for date in dates] if all(hasattr(d, "isoformat") for d in dates) and dates else value

    @field_validator("dates")
    @classmethod
    def _iso_in_order(cls, value: tuple[str, str] | None) -> tuple[str, str] | None:
        if value is None:
            return None
        for date in value:
            try:
                datetime.fromisoformat(date)
            except ValueError:
                raise ValueError(f"'{date}' is not an ISO date like 1998-04-01") from None
        first, second = (datetime.fromisoformat(date) for date in value)
        if (first.tzinfo is None) != (second.tzinfo is None):
            raise ValueError("give both dates with a time zone, or neither")
        if not first < second:
            raise ValueError("validation must begin before test: the first date before the second")
        return value

    @model_validator(mode="after")
    def _settings_apply(self) -> "SplitConfig":
        if self.by == "each-user" and self.min_history:
            raise ValueError("min_history means nothing where each user's rows are split at random")
        if self.by != "column" and self.learn_history:
            raise ValueError("learn_history belongs to `by: column`: elsewhere history rows are few")
        if self.by == "column" and self.min_history and not self.learn_history:
            raise ValueError("with `by: column`, min_history belongs to learn_history: the column says what is history")
        if self.by != "time" and self.dates is not None:
            raise ValueError("dates belong to `by: time`")
        if self.within is not None and (self.by not in ("time", "new-items") or self.dates is not None):
            raise ValueError("within belongs to `by: time` with fractions, and to `by: new-items`")
        self._new_items_apply()
        return self

    def _new_items_apply(self) -> None:
        new, drawn = self.by == "new-items", (self.folds, self.fold) != (_FOLDS, 0)
        if self.newest and not new:
            raise ValueError("newest belongs to `by: new-items`")
        if self.created is not None and not self.newest:
            raise ValueError("created belongs to `newest: true`")
        if drawn and (not new or self.newest):
            raise ValueError("folds and fold belong to `by: new-items` without newest")
        if self.fold >= self.folds:
            raise ValueError(f"there are {self.folds} folds, from 0 to {self.folds - 1}: no fold {self.fold}")
        if new and not self.newest and self.fractions != _FRACTIONS:
            raise ValueError("with `by: new-items`, fractions belong to `newest: true`; folds are of one size")
        if new and self.min_history:
            raise ValueError("min_history means nothing for new items: a row with a test item would become context")

    @property
    def in_parts(self) -> bool:
        """Whether the split puts training rows first, validation rows next and test rows last, whatever their times."""
        return self.by == "new-items" or self.within is not None

    @field_validator("fractions")
    @classmethod
    def _sums_to_one(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(value) - 1) > 1e-6 or min(value) <= 0:
            raise ValueError("three positive fractions that sum to 1 are needed")
        return value


class CountsConfig(Section):
    """Count features: what was known of a user, an item or a category before each sample."""

    advanced: ClassVar = frozenset({
        "last", "neighbours", "smoothing", "frozen", "clicks",
    })  # fmt: skip

    groups: list[list[str]] = [["user"], ["item"]]
    """Each group is a list of keys: `user`, `item`, or a user or item column (at most one list column)."""
    last: list[Annotated[int, Field(ge=1)]] = [5, 15]
    """Shares of positives among the user's last k answers, one feature for each k."""
    ratings: bool = True
    """Where the interactions have ratings, take the means of those beside the shares of positives. Not for data where a
    rating of 0 means that none was given. [ours]"""
    neighbours: int = Field(default=50, ge=0)
    """How many of the user's last answers speak for an item by how the same users answered both (item-based nearest
    neighbours, learned from pairs of answers as near in training rows); 0: none, for instance where a log is so large
    that some 20 bytes for every pair of items that anybody answered are too much."""
    smoothing: float = Field(default=5.0, gt=0)
    """How many answers at the running average every mean starts with. [ours]"""
    frozen: bool | None = None
    """Freeze everything but the user's own counts at the end of training. Unset: only where the split is not in the
    order of time (by user, within each user, leave-last-out, a column that mixes them), since a test row may stand
    before a training row there; and for new items, whose interactions are hidden then, from their users' other rows
    too. false there: they count as they come."""

    clicks: bool = False
    """Whether every answer is a click. Then no average of answers and no bias of a user is taken off: a click speaks
    the louder, the fewer clicks its item has. Set where `data.label` is `clicks`. [ours]"""

    @field_validator("groups")
    @classmethod
    def _each_once(cls, value: list[list[str]]) -> list[list[str]]:
        for group in value:
            if value.count(group) > 1:
                raise ValueError(f"the group {group} comes more than once")
        return value


class DataConfig(Section):
    """Which interactions, and what a sample is."""

    advanced: ClassVar = frozenset({
        "only_likes", "core", "duplicates", "history_length", "history_answers", "strict_time", "max_rows", "negatives",
        "memory",
    })  # fmt: skip

    source: Literal[
        "ml-100k", "ml-1m", "ml-1m-collm", "bookcrossing", "amazon", "amazon-books", "amazon-scientific", "amazon-p5",
        "polis", "movielens", "tables",
    ] = "ml-100k"  # fmt: skip
    """A built-in dataset, or `tables` for your own."""
    path: Path | None = None
    """Folder of the raw files of a built-in dataset (not needed for `ml-100k`)."""
    interactions: TableConfig | None = None
    """Your interactions: user_id, item_id, rating or label (or both); timestamp and review (a text) where there are
    any."""
    users: TableConfig | None = None
    """Your users: user_id and any fields."""
    items: TableConfig | None = None
    """Your items: item_id and any fields; the item text is made from them."""
    label: str = "rating >= 4"
    """The positive answer: a column, a comparison (>=, >, <=, <, ==), and a number; `label` for a column of 0/1 (or
    true/false, yes/no, 1/-1); `clicks`: every row is one, as in a log that holds nothing but users, items and times."""
    order: list[str] = ["timestamp"]
    """Columns that order the log; ties keep the file's row order. Empty: the file's row order alone."""
    only_likes: bool = False
    """Drop the negative answers first of all. What is left can be retrieved from, but not ranked."""
    core: int = Field(default=0, ge=0)
    """Drop users and items with fewer interactions, again and again until none is left (k-core)."""
    duplicates: Literal["first", "last", "keep", "error"] = "first"
    """What to do with a user-item pair that comes more than once."""
    split: SplitConfig = SplitConfig()
    """How the log is split."""
    user_fields: list[str] = []
    """Categorical user columns for the conventional model."""
    item_fields: list[str] = []
    """Categorical item columns for the conventional model."""
    list_fields: list[str] = []
    """Item columns that are lists (genres, authors)."""
    item_text: str = "{title}"
    """How an item is written for the language model; names in braces are item columns."""
    item_description: str | None = None
    """A longer text of an item, e.g. `{categories}. {description}`: the text encoder reads it behind `item_text`, and
    the retrieval's content part does; names in braces are item columns, and what is missing is left out."""
    user_text: str = "A user. Likes it?"
    """How a user is introduced to the language model; names in braces are user columns."""
    history_length: int = Field(default=30, ge=1)
    """How many of the user's last answers the conventional model reads."""
    history_answers: Literal["all", "likes"] = "all"
    """Whether the history holds dislikes too."""
    strict_time: bool = False
    """Hide answers of the same second from histories and counts (several answers may share a time). Unset: the log's
    order tells what came before."""
    counts: CountsConfig = CountsConfig()
    """Count features."""
    text: TextConfig = TextConfig()
    """What reads the items' texts, once an item."""
    negatives: int = Field(default=1, ge=1, le=20)
    """For a log of clicks: how many items that were not clicked are drawn for every click, to rank against."""
    max_rows: int | None = Field(default=None, ge=1)
    """Keep only the first rows of the ordered log (for a quick try)."""
    memory: float | None = Field(default=None, gt=0)
    """GiB that preparing may take. Set, a log of Parquet files is prepared in parts on disk, to the same dataset;
    unset, it is held in memory."""

    @field_validator("path")
    @classmethod
    def _home(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser()

    @field_validator("label")
    @classmethod
    def _label_rule(cls, value: str) -> str:
        if not re.fullmatch(r"\w+\s*(>=|<=|==|>|<)\s*-?\d+(\.\d+)?|label|clicks", value.strip()):
            raise ValueError("write a label rule like `rating >= 4`, or `label`, or `clicks`")
        return value.strip()

    @model_validator(mode="after")
    def _source_complete(self) -> "DataConfig":
        if self.source == "tables" and self.interactions is None:
            raise ValueError("source `tables` needs `data.interactions`")
        if self.source != "tables" and any((self.interactions, self.users, self.items)):
            raise ValueError(f"tables are given, but `data.source` is `{self.source}`: set it to `tables`")
        if self.source not in ("tables", "ml-100k") and self.path is None:
            raise ValueError(f"source `{self.source}` needs `data.path`, the folder of its raw files")
        return self

    @model_validator(mode="after")
    def _time_is_the_order(self) -> "DataConfig":
        if self.strict_time and self.split.in_parts:
            raise ValueError("strict_time needs a log in the order of time, and this split puts test rows last")
        return self

"""Polis: people agree or disagree with short statements of others, in eleven English conversations.

Knows the folder: `votes.parquet` (user, item, conversation, timestamp_ms, vote: 1 agree, -1 disagree, 0 pass),
`statements.parquet` (item, text, created_ms) and `topics.json` (conversation -> what it is about). A person's last vote
on a statement counts, and where that is a pass, the pair is left out. The conversation london.youth.policing is left
out, as the protocols ask: 128,643 votes remain.
"""

import json
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW, ITEM, LABEL, TIME, USER, RawTables
from corella.config import TableConfig
from corella.data.tables.read import read_files
from corella.errors import UserError

_VOTES, _STATEMENTS, _TOPICS = "votes.parquet", "statements.parquet", "topics.json"
_LEFT_OUT = "london.youth.policing"


def load(path: Path | None) -> RawTables:
    """Read the three files: interactions with `label`, users and items with `conversation` and `topic`, items with
    `statement` and `created` (milliseconds). Raises `UserError` where a file is missing or broken."""
    folder = Path(path or ".")
    votes = _read(folder / _VOTES, ["user", "item", "conversation", "timestamp_ms", "vote"])
    statements = _read(folder / _STATEMENTS, ["item", "text", "created_ms"])
    topics = _topics(folder / _TOPICS)
    kept = pl.col("conversation") != _LEFT_OUT
    votes = votes.rename({"user": USER, "item": ITEM, "timestamp_ms": TIME}).filter(kept)
    for name in votes["conversation"].unique(maintain_order=True):
        if name not in topics["conversation"]:
            raise UserError(f"{folder / _TOPICS}: no topic of the conversation {name!r}, which {_VOTES} names")
    log = votes.sort(TIME, maintain_order=True).unique([USER, ITEM], keep="last", maintain_order=True)
    log = log.filter(pl.col("vote") != 0).with_columns((pl.col("vote") > 0).cast(pl.Int8).alias(LABEL))
    users = log.select(USER, "conversation", FILE_ROW).unique(USER, keep="first", maintain_order=True)
    items = statements.rename({"item": ITEM, "text": "statement", "created_ms": "created"}).with_columns(
        conversation=pl.col(ITEM).str.replace(r":[^:]*$", "")
    )
    items = items.filter(kept)
    users, items = (
        table.join(topics, on="conversation", how="left", maintain_order="left") for table in (users, items)
    )
    names = {"interactions": _VOTES, "users": _VOTES, "items": _STATEMENTS}
    return RawTables(log.select(USER, ITEM, TIME, LABEL, FILE_ROW), users, items, names)


def _read(path: Path, columns: list[str]) -> pl.DataFrame:
    frame = read_files(TableConfig(path=path)).frame
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; it must hold {', '.join(columns)}")
    return frame.select(*columns, FILE_ROW)


def _topics(path: Path) -> pl.DataFrame:
    """conversation, topic."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; data.path must be the folder of the dataset's raw files")
    try:
        topics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(topics, dict) or not all(isinstance(topic, str) for topic in topics.values()):
        raise UserError(f"{path} must map every conversation to its topic, a text")
    schema = {"conversation": pl.String, "topic": pl.String}
    return pl.DataFrame(list(topics.items()), schema=schema, orient="row")

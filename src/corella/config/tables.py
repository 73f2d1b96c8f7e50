"""Settings of one table: where it is read from, how it is written, what its columns are called."""

import codecs
import re
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from corella.config.section import Section

_NO_TEXT, _ATOMIC = (".parquet", ".jsonl", ".ndjson", ".json"), (".inter", ".user", ".item")


class TableConfig(Section):
    """Where one table is read from, and how its columns are called."""

    advanced: ClassVar = frozenset({
        "separator", "encoding", "header", "quote", "missing", "url",
    })  # fmt: skip

    path: Path | list[Path] | None = None
    """A file: .parquet, .csv, .tsv, .txt, .dat, .jsonl, or RecBole's .inter, .user and .item; text may be packed
    (.csv.gz, .csv.zst). A pattern (`logs/2020-*.csv`), a folder of Parquet files or a list of paths is read as one
    table."""
    url: str | None = None
    """In place of `path`: files in an object store, e.g. `s3://bucket/log/*.parquet`; a file, a pattern, or a folder of
    Parquet files, at any URL that fsspec reads (s3 needs the extra `cloud`). They are copied into the cache, and again
    where they changed. Keys come from the environment."""
    uri: str | None = None
    """A database URI that polars can read (needs the extra `database`), used with `query`. Secrets stay outside: write
    `postgresql://${DB_USER}:${DB_PASSWORD}@host/name`, and they are taken from the environment."""
    query: str | None = None
    """The SQL query to run at `uri`."""
    separator: str | None = Field(default=None, min_length=1, max_length=8, pattern=r"^[\x01-\x7f]+$")
    """What stands between the columns of a text file, e.g. ";" or "::". Unset: a tab in .tsv; in .dat what its first
    line has; else a comma."""
    encoding: str = "utf-8"
    """How a text file writes its letters, e.g. latin-1. A mark at the file's beginning is recognised."""
    header: bool | list[str] = True
    """Whether the first line of a text file names the columns. For a file without such a line give the names here, in
    order: `header: [user_id, item_id, rating, timestamp]`; with false they are called column_1, column_2, ..."""
    quote: str | None = Field(default=None, pattern=r"^([\x01-\x7f]|none)$")
    """The character around texts that hold a separator or a line end; `none`: quotes mean nothing. Unset: ", but in a
    .tsv that would not be read with it."""
    missing: list[str] = ["nan", "NaN", "NAN", "None", "NONE", "null", "NULL", "Null", "<NA>", "\\N"]
    """Values of text columns that stand for nothing, as exports write them; []: these are names."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our column name -> the column's name in the file; columns not named keep their own."""
    lists: dict[str, str] = Field(default_factory=dict)
    """Columns to split into lists, each with its separator, e.g. `genres: "|"`."""

    @field_validator("path")
    @classmethod
    def _home(cls, value: Path | list[Path] | None) -> Path | list[Path] | None:
        if isinstance(value, list):
            return [path.expanduser() for path in value]
        return None if value is None else value.expanduser()

    @field_validator("separator", mode="before")
    @classmethod
    def _tab(cls, value: Any) -> Any:
        """A tab, as it is written in single quotes."""
        return "\t" if value == "\\t" else value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
            return codecs.lookup(value).name
        except LookupError:
            raise ValueError("no encoding of texts; utf-8, latin-1 and cp1252 are common ones") from None

    @field_validator("url")
    @classmethod
    def _scheme(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"[a-z][a-z0-9+.-]*://[^@]+$", value):
            raise ValueError("write a URL like s3://bucket/log/*.parquet; keys of the store come from the environment")
        return value

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, value: str | None) -> str | None:
        if value is not None and re.search(r"://[^/@]*:(?!\$\{\w+\}@)[^@]*@|(?i:password|pwd|token)=(?!\$\{)", value):
            raise ValueError("a password stands in the URI; write ${DB_PASSWORD} and set that environment variable")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> "TableConfig":
        if sum(source is not None for source in (self.path, self.url, self.uri)) != 1:
            raise ValueError("give exactly one of `path`, `url` and `uri`")
        if (self.uri is None) != (self.query is None):
            raise ValueError("`uri` and `query` belong together")
        source = Path(self.url) if self.url is not None else self.path
        suffix = source.suffix.lower() if isinstance(source, Path) else ".csv"
        given = {"separator": self.separator, "quote": self.quote, "header": None if self.header is True else 1}
        for name, value in {**given, "encoding": None if self.encoding == "utf-8" else 1}.items():
            fixed = (*_NO_TEXT, *(() if name == "encoding" else _ATOMIC))
            if value is not None and (source is None or suffix in fixed):
                raise ValueError(f"`{name}` belongs to text files, such as .csv, .tsv and .txt")
        return self

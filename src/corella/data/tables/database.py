"""The answer of a database to a query."""

import os
import re
from importlib.util import find_spec

import polars as pl

from corella.errors import UserError


def read_query(uri: str, query: str) -> pl.DataFrame:
    """Run a query. Raises `UserError`, without the password, for what the database refuses."""
    if not all(find_spec(name) for name in ("connectorx", "pyarrow")):
        raise UserError("reading a database needs: pip install 'corella-rec[database]'")
    uri = from_environment(uri)
    try:
        return pl.read_database_uri(query, uri)
    except Exception as error:  # every driver raises its own; its message may repeat the URI with the password
        first = str(error).splitlines()[0] if str(error) else ""
        raise UserError(f"the database query failed: {type(error).__name__}: {first.replace(uri, '<uri>')}") from None


def from_environment(uri: str) -> str:
    """Fill in each `${NAME}`."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UserError(f"the database URI names ${{{match[1]}}}, but that environment variable is not set")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, uri)

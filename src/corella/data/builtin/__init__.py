"""The built-in datasets: each module has a `load(path)` that yields raw tables; `corella.config.presets` has their
settings.
"""

from pathlib import Path
from typing import Any

from corella.columns import RawTables
from corella.data.builtin import (
    amazon,
    amazon_books,
    amazon_p5,
    amazon_scientific,
    bookcrossing,
    ml_1m,
    ml_1m_collm,
    ml_100k,
    polis,
)

_MODULES: dict[str, Any] = {
    "ml-100k": ml_100k,
    "ml-1m": ml_1m,
    "ml-1m-collm": ml_1m_collm,
    "bookcrossing": bookcrossing,
    "amazon": amazon,
    "amazon-books": amazon_books,
    "amazon-scientific": amazon_scientific,
    "amazon-p5": amazon_p5,
    "polis": polis,
}


def load_builtin(source: str, path: Path | None) -> RawTables:
    """Raw tables of a built-in dataset from the folder `path` (not used by `ml-100k`)."""
    tables: RawTables = _MODULES[source].load(path)
    return tables

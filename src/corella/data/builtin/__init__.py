"""The built-in datasets: each module has a `load(path)` that yields raw tables; `corella.config.presets` has their
settings.
"""

from collections.abc import Callable
from pathlib import Path

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
    movielens,
    polis,
)

_LOAD: dict[str, Callable[[Path | None], RawTables]] = {
    "ml-100k": ml_100k.load,
    "ml-1m": ml_1m.load,
    "ml-1m-collm": ml_1m_collm.load,
    "movielens": movielens.load,
    "bookcrossing": bookcrossing.load,
    "amazon": amazon.load,
    "amazon-books": amazon_books.load,
    "amazon-scientific": amazon_scientific.load,
    "amazon-p5": amazon_p5.load,
    "polis": polis.load,
}


def load_builtin(source: str, path: Path | None) -> RawTables:
    """Raw tables of a built-in dataset from the folder `path` (not used by `ml-100k`)."""
    return _LOAD[source](path)

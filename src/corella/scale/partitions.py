"""Which files are the partitions of a table, and what each file made from one is called."""

import os
from collections.abc import Sequence
from pathlib import Path

from corella.data.tables.read import find_files
from corella.errors import UserError

_SIGNS = "*?["


def is_partitioned(source: Path) -> bool:
    """Whether a path names several files: a folder, or a pattern."""
    return source.is_dir() or (any(sign in str(source) for sign in _SIGNS) and not source.exists())


def common_root(source: Path, files: Sequence[Path]) -> Path:
    """The folder below which the files of a path lie."""
    return (
        source.absolute() if source.is_dir() else Path(os.path.commonpath([file.absolute().parent for file in files]))
    )


def partitions(source: Path, out: Path) -> dict[str, Path]:
    """The Parquet files of a folder, a pattern or a single file, by the name that a file made from each has: where it
    lies below the folder (`day=1/part-0.parquet`). In the order of these names.

    Raises `UserError` where a file is no Parquet, or where `out` would lie among the input.
    """
    files = [file.absolute() for file in find_files(source)]
    for file in files:
        if file.suffix.lower() != ".parquet":
            raise UserError(f"{file}: partitions are .parquet files; a text file is scored alone, into one file")
    root, target = common_root(source, files), out.absolute()
    if any(file.is_relative_to(target) for file in files) or (source.is_dir() and target.is_relative_to(root)):
        raise UserError(f"{out} lies among the input, where the next run would read it; give another folder")
    return {str(file.relative_to(root)): file for file in sorted(files)}

"""What a dataset was made from: its settings and files, and whether they are still the same."""

import hashlib
import json
from pathlib import Path

from corella.config import DataConfig, TableConfig
from corella.data.preparation import Preparation, SourceFile
from corella.data.store import FORMAT
from corella.data.tables.read import files_of
from corella.errors import UserError
from corella.files import sha256


def tables_of(config: DataConfig) -> list[TableConfig]:
    """The tables that the settings name."""
    return [t for t in (config.interactions, config.users, config.items) if t is not None]


def fingerprint(config: DataConfig, seed: int) -> str:
    """Hash of the data settings, the seed (for a split that draws), and size and time of every input file."""
    drawn = seed if config.split.by in ("user", "each-user", "new-items") else 0
    settings = json.dumps([FORMAT, drawn, config.model_dump(mode="json", exclude={"memory"})])
    stamps = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in _files(config)]
    return hashlib.sha256((settings + repr(stamps)).encode()).hexdigest()[:12]


def source_files(config: DataConfig) -> dict[str, SourceFile]:
    """Every input file as it is now, by its path."""
    return {str(f): SourceFile(f.stat().st_size, f.stat().st_mtime_ns, sha256(f)) for f in _files(config)}


def changed_since(config: DataConfig, made: Preparation) -> list[str]:
    """The input files whose content is another than when the dataset was made, or that were not there then. Empty where
    the settings' files are no longer there at all."""
    try:
        files = _files(config)
    except UserError:
        return []
    changed = []
    for file in files:
        then, now = made.files.get(str(file)), file.stat()
        same = then is not None and (then.bytes, then.changed) == (now.st_size, now.st_mtime_ns)
        if then is None or not (same or then.sha256 == sha256(file)):
            changed.append(str(file))
    return changed


def _files(config: DataConfig) -> list[Path]:
    folder = [] if config.path is None else sorted(config.path.rglob("*")) if config.path.is_dir() else [config.path]
    tables = [file for table in tables_of(config) for file in files_of(table)]
    return [file for file in [*folder, *tables] if file.is_file()]

"""Files on disk: atomic writes, JSON, and folders whose manifest holds a SHA-256 of every file.

Knows nothing of what the files mean. Every write goes to a temporary name in the same folder, is flushed to
the disk, and is renamed, so that a kill leaves the old file or the new one and never half of either.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from corella.errors import UserError

T = TypeVar("T")

_ROOM = 64 * 1024
"""Bytes; a disk with less is full."""


def cache_folder() -> Path:
    """Where prepared datasets and converted models are kept."""
    return Path(os.environ.get("CORELLA_CACHE", Path.home() / ".cache" / "corella"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except Exception as error:
        refused = refusal(error, path)
        if refused is None:
            raise
        raise UserError(refused) from None
    finally:
        temporary.unlink(missing_ok=True)


def refusal(error: Exception, path: Path) -> str | None:
    """Why the system refuses to write a file, for the user; None where it does not. Writers that hide the cause of an
    error are asked by the room that is left."""
    if isinstance(error, UserError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return f"{path}: {error.strerror}"
    hidden = re.search(r"(No space left on device|Disk quota exceeded|Read-only file system)", str(error))
    if hidden is not None:
        return f"{path}: {hidden[1]}"
    if shutil.disk_usage(_existing(path)).free < _ROOM:
        return f"{path}: {os.strerror(errno.ENOSPC)}"
    return None


def _existing(path: Path) -> Path:
    return next(folder for folder in path.absolute().parents if folder.is_dir())


@contextmanager
def alone(folder: Path, work: str) -> Iterator[None]:
    """Let no second process do the same `work` in `folder` at the same time. Raises `UserError` where one does. A
    killed process lets go of it; where the system has no such locks, nobody is kept out."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{work}.lock").open("w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is at work here; wait for it, or stop it") from None
        except (ImportError, OSError):
            pass
        yield


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success it takes the place of `folder`."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(partial, ignore_errors=True)
    _put_back(folder)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.replace(old)
        partial.replace(folder)
    except Exception as error:
        refused = refusal(error, folder)
        if refused is None:
            raise
        raise UserError(refused) from None
    finally:
        if old.exists() and not folder.exists():
            old.replace(folder)  # the second renaming failed: what was there comes back
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)


def _put_back(folder: Path) -> None:
    """Undo what a kill left between the two renamings of `new_folder`."""
    for old in folder.parent.glob(f".{folder.name}.*.old"):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.replace(folder)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given, numbers as they are."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_value(path: Path, value: object) -> None:
    """Write a dataclass as JSON, atomically."""
    write_text(path, TypeAdapter(type(value)).dump_json(value, indent=1).decode() + "\n")


def read_value(path: Path, kind: type[T]) -> T:
    """Read what `write_value` wrote. Raises `UserError` for a file that is missing or holds something else."""
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path} holds no {kind.__name__}: {error.errors()[0]['msg']}") from None


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is a `UserError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds."""

    format: int
    """Raised when the files of such a folder change their meaning."""
    files: dict[str, str]
    """SHA-256 by path within the folder."""


def write_manifest(folder: Path, form: int, known: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write `manifest.json`: the folder's format, and the SHA-256 of every other file in it (recursively). `known`: of
    files that nobody touched, by their names."""
    files = {
        str(p.relative_to(folder)): known.get(str(p.relative_to(folder))) or sha256(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p != folder / "manifest.json" and not p.name.endswith(".tmp")
    }
    write_value(folder / "manifest.json", Manifest(form, files))


def is_whole(folder: Path) -> bool:
    """Whether a folder has the files that its manifest names, and no others; what is in them is not looked at."""
    told = read_value(folder / "manifest.json", Manifest).files
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")}
    return there - {"manifest.json"} == set(told)


def verify_manifest(folder: Path) -> Manifest:
    """Return the manifest of `folder` after checking every hash in it; a mismatch is a `UserError`."""
    manifest = read_value(folder / "manifest.json", Manifest)
    root = folder.resolve()
    for name, expected in manifest.files.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(root):
            raise UserError(f"{folder}/manifest.json names a file outside the folder: {name}")
        if not path.is_file():
            raise UserError(f"{folder}: {name} is in the manifest but not on disk; make the folder again")
        if sha256(path) != expected:
            raise UserError(f"{folder}: {name} differs from its SHA-256 in the manifest; make the folder again")
    return manifest

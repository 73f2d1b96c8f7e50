"""Files in an object store, or wherever else `fsspec` reaches: copied here once, and again where they changed.

Keys of stores are found as their own tools find them (environment, profiles, roles); none is written in a URL.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from corella.errors import UserError
from corella.files import Manifest, atomic_path, cache_folder, read_value, write_value

_INDEX = ".index.json"


@dataclass(frozen=True)
class _Index:
    """By name below the folder, what tells whether a file changed."""

    files: dict[str, str] = field(default_factory=dict)


def fetched(url: str, folder: Path | None = None) -> list[Path]:
    """Copies of the files that a URL names, in the order of their names: a file, a pattern (`s3://bucket/log/*.parquet`)
    or a folder of Parquet files. Raises `UserError` where there is none, or where the store refuses.

    `folder`: where they lie; unset: under `$CORELLA_CACHE`.
    """
    folder = folder or cache_folder() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:12]
    index = folder / _INDEX
    known = read_value(index, _Index).files if index.is_file() else {}
    now: dict[str, str] = {}
    with _store(url) as (store, root):
        for path, name in _named(store, root, url).items():
            info = store.info(path)
            stamp = f"{info.get('size')} {info.get('ETag') or info.get('mtime') or info.get('LastModified') or ''}"
            if known.get(name) != stamp or not (folder / name).is_file():
                with atomic_path(folder / name) as temporary:
                    store.get_file(path, str(temporary))
            now[name] = stamp
    for name in set(known) - set(now):
        (folder / name).unlink(missing_ok=True)
    if now != known:
        write_value(index, _Index(now))
    return [folder / name for name in sorted(now)]


def sent(folder: Path, url: str) -> int:
    """Copy a prepared folder to a URL, its manifest last; returns how many files were not there yet as they are."""
    manifest = read_value(folder / "manifest.json", Manifest)
    with _store(url) as (store, root):
        there = f"{root}/manifest.json"
        known = {}
        if store.exists(there):
            with atomic_path(folder / ".remote-manifest.tmp") as temporary:
                store.get_file(there, str(temporary))
                known = read_value(temporary, Manifest).files
            (folder / ".remote-manifest.tmp").unlink()
        new = [name for name, sha in manifest.files.items() if known.get(name) != sha]
        for name in [*new, "manifest.json"]:
            store.makedirs(f"{root}/{PurePosixPath(name).parent}", exist_ok=True)
            store.put_file(str(folder / name), f"{root}/{name}")
        for name in set(known) - set(manifest.files):
            store.rm_file(f"{root}/{name}")
    return len(new)


def _named(store: Any, root: str, url: str) -> dict[str, str]:
    """The files by path, each with its name below the folder that they have in common."""
    if any(sign in root for sign in "*?["):
        found = sorted(store.glob(root))
        start = root[: min(root.find(sign) for sign in "*?[" if sign in root)].rpartition("/")[0]
    elif store.isdir(root):
        found, start = sorted(p for p in store.find(root) if p.lower().endswith(".parquet")), root
    else:
        found, start = [root] if store.exists(root) else [], root.rpartition("/")[0]
    if not found:
        raise UserError(f"{url}: no file there")
    return {path: path.removeprefix(start).lstrip("/") for path in found}


@contextmanager
def _store(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL, and the path in it; what goes wrong there is told."""
    try:
        import fsspec
    except ImportError:
        raise UserError(f"{url}: reading it needs fsspec: pip install corella-rec[cloud]") from None
    try:
        store, root = fsspec.core.url_to_fs(url)
        store.invalidate_cache()
        yield store, root.rstrip("/")
    except ImportError as error:
        raise UserError(f"{url}: {error}") from None
    except UserError:
        raise
    except Exception as error:  # every store has errors of its own
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{url}: {told}") from None

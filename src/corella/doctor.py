"""What this machine has, what is missing, and the command that mends it."""

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from corella.errors import UserError
from corella.files import cache_folder

EXTRAS = {
    "report": ("altair", "vl_convert"), "serve": ("fastapi", "uvicorn", "prometheus_client"), "gguf": ("gguf",),
    "database": ("connectorx",), "stores": ("psycopg", "redis"), "tuning": ("optuna",),
}  # fmt: skip
"""Extras, and the modules that each brings."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    said: str
    mend: str = ""
    """The command that mends it; empty where nothing is wrong."""
    needed: bool = False
    """Whether nothing works without it."""


def examine() -> Iterator[Finding]:
    """Look at everything, the cheap things first.

    >>> next(examine()).what
    'corella'
    """
    yield Finding("corella", f"{importlib.metadata.version('corella-rec')}, Python {platform.python_version()}")
    yield from _machine()
    yield _cache()
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        said = f"not installed: {', '.join(missing)}" if missing else "installed"
        yield Finding(f"extra {extra}", said, f"pip install 'corella-rec[{extra}]'" if missing else "")
    yield from _weights()


def _machine() -> Iterator[Finding]:
    import torch

    from corella.threads import usable_threads
    from corella.weights import choose_dtype

    yield Finding("processor", f"{usable_threads()} usable, torch {torch.__version__}")
    native = choose_dtype("auto") == torch.bfloat16
    slow = "not native: language models compute in float32, about four times slower"
    yield Finding("bfloat16", "native" if native else slow)
    yield _memory()
    yield Finding("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none (none is needed)")


def _memory() -> Finding:
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "unknown")
    few = whole < 4
    return Finding("memory", f"{whole:.1f} GiB", "the demo needs 4 GiB: use a machine with more" if few else "")


def _cache() -> Finding:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        mend = "export CORELLA_CACHE=FOLDER, one that you may write"
        return Finding("cache", f"{folder}: {error.strerror}", mend, needed=True)
    return Finding("cache", str(folder))


def _weights() -> Iterator[Finding]:
    from corella.data.builtin.ml_100k import bundled_files
    from corella.weights import BUNDLED, bundled_file

    for name in BUNDLED:
        yield _found(f"weights {name}", partial(bundled_file, name))
    yield _found("data ml-100k", bundled_files)


def _found(what: str, look: Callable[[], object]) -> Finding:
    try:
        look()
    except UserError as error:
        said, _, mend = str(error).rpartition(": ")
        return Finding(what, said, mend)
    return Finding(what, "installed")

"""A prepared dataset on disk: Parquet, safetensors and JSON, and a manifest of hashes."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from corella.config import DataConfig
from corella.data.dataset import Dataset
from corella.data.on_disk import Features, OnDisk, Parts, held
from corella.data.preparation import Preparation
from corella.errors import UserError
from corella.features.text.items import ItemTexts
from corella.features.text.space import TextSpace
from corella.files import atomic_path, read_value, verify_manifest, write_manifest, write_value

FORMAT = 8
"""Raised when the files of a prepared dataset change their meaning."""


LOG = "log"
"""Folder of Parquet files, the parts of the log in their order."""
STATE, TOTALS, TAUGHT = "state.json", "totals.safetensors", "taught"
"""What a dataset prepared in parts keeps so that days may be added, see `parts.newer`; the last one is a folder."""
TEXTS, SPACE = "texts.safetensors", "space.safetensors"


_SHOWN = ["item_answers", "item_likes"]
_GIB = 1 << 30
_SHARE = 0.25
"""Part of `data.memory` that features of rows may take which stay on disk."""


SETTINGS, PREPARATION = "settings.json", "preparation.json"


def load_prepared(folder: Path, features: bool = True) -> Dataset:
    """Read a folder that `prepare` wrote, after checking its hashes. `features`: whether the rows' features are read
    too; who trains nothing and asks for no samples of the log needs none."""
    kept = verify_manifest(folder).format
    if kept != FORMAT:
        raise UserError(
            f"{folder} was prepared in format {kept}, this version reads {FORMAT}; prepare it again, "
            "or train the model again that it belongs to"
        )
    config = read_value(folder / SETTINGS, DataConfig)
    log = sorted((folder / LOG).glob("*.parquet"))
    columns = list(pl.read_parquet_schema(log[0]))
    counted, texts = ([c for c in columns if c.startswith(kind)] for kind in ("count:", "text:"))
    plain = [c for c in columns if c not in (*counted, *texts, *_SHOWN) and not c.startswith("above ")]
    read = partial(pl.read_parquet, log)

    def rows_features(names: list[str]) -> Features:
        if not features or config.memory is None:
            return read(columns=names if features else []).to_numpy().astype(np.float32)
        parts = Parts(log, names, config.memory * _GIB * _SHARE)
        return OnDisk(parts, np.arange(parts.start[-1]))

    counts = rows_features(counted)
    popularity = read(columns=_SHOWN).to_numpy().astype(np.int64)
    return Dataset(
        read(columns=plain),
        pl.read_parquet(folder / "users.parquet"),
        pl.read_parquet(folder / "items.parquet"),
        config,
        counts,
        popularity,
        read_value(folder / PREPARATION, Preparation),
        ItemTexts.load(folder / TEXTS, config.text) if (folder / TEXTS).is_file() else None,
        TextSpace.load(folder / SPACE) if (folder / SPACE).is_file() else None,
        rows_features(texts) if texts and features else None,
    )


def load_told(folder: Path) -> tuple[Preparation, pl.Series, pl.Series]:
    """How a dataset was prepared, and the texts of its items and users; the log is not read."""
    items, users = (
        pl.read_parquet(folder / f"{name}.parquet", columns=["text"])["text"] for name in ("items", "users")
    )
    return read_value(folder / PREPARATION, Preparation), items, users


def without_features(dataset: Dataset) -> Dataset:
    """The same for a model that does not read the features of the log's rows."""
    return replace(dataset, counts=np.zeros((dataset.log.height, 0), np.float32), text=None)


def write_dataset(dataset: Dataset, folder: Path) -> None:
    """Write a prepared dataset: Parquet, safetensors and JSON, the manifest last; replaces one that is there."""
    if isinstance(dataset.counts, OnDisk):
        return _link(dataset.counts.parts.folder.parent, folder)
    _make_room(folder)
    features = [pl.DataFrame(dataset.popularity, schema=_SHOWN)]
    if dataset.counts.shape[1]:
        features.append(pl.DataFrame(held(dataset.counts), schema=[f"count:{name}" for name in dataset.count_names]))
    if dataset.text is not None:
        features.append(pl.DataFrame(held(dataset.text), schema=[f"text:{name}" for name in dataset.text_names]))
    tables = {f"{LOG}/00000": pl.concat([dataset.log, *features], how="horizontal"), "users": dataset.users}
    for name, table in {**tables, "items": dataset.items}.items():
        with atomic_path(folder / f"{name}.parquet") as path:
            table.write_parquet(path)
    if dataset.texts is not None and dataset.space is not None:
        dataset.texts.save(folder / TEXTS)
        dataset.space.save(folder / SPACE)
    write_value(folder / SETTINGS, dataset.config)
    write_value(folder / PREPARATION, dataset.preparation)
    write_manifest(folder, FORMAT)


def _link(prepared: Path, folder: Path) -> None:
    """The same files at another place; copied where it is on another disk."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    _make_room(folder)
    shutil.copytree(prepared, folder, copy_function=link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))


def adopt_parts(
    moved: Mapping[str, Path], users: pl.DataFrame, items: pl.DataFrame, config: DataConfig, preparation: Preparation,
    folder: Path,
) -> None:  # fmt: skip
    """Make a prepared dataset of files and folders that move, by their names in it, and of tables; replaces one that
    is there."""
    _make_room(folder)
    for name, path in moved.items():
        path.replace(folder / name)
    for name, table in {"users": users, "items": items}.items():
        with atomic_path(folder / f"{name}.parquet") as path:
            table.write_parquet(path)
    write_value(folder / SETTINGS, config)
    write_value(folder / PREPARATION, preparation)
    write_manifest(folder, FORMAT)


def _make_room(folder: Path) -> None:
    """Remove an earlier preparation, its manifest first; a folder that holds anything else is not touched."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = ("users.parquet", "items.parquet")
    names = ("manifest.json", *tables, TEXTS, SPACE, SETTINGS, PREPARATION, STATE, TOTALS)
    ours = [folder / name for name in names]
    for inner in (folder / LOG, folder / TAUGHT):
        ours += [*inner.glob("*.parquet"), *([inner] if inner.is_dir() else [])]
    other = sorted(p.name for p in folder.iterdir() if p not in ours and not p.name.endswith(".tmp"))
    if other:
        raise UserError(f"{folder} holds {other[0]}, which is no prepared dataset's; give a new or empty folder")
    for path in ours:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)

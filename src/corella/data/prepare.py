"""Prepare a dataset once: read, clean, order, split, count, and write Parquet plus a manifest.

`load_dataset` is the front door: it prepares into a cache folder named by a hash of the settings and the
input files, so that the same settings never prepare twice.
"""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import polars as pl

from corella.columns import FILE_ROW, ITEM, LABEL, RATING, REVIEW, SPLIT, TIME, USER, RawTables, long_texts
from corella.config import Config, DataConfig, TableConfig
from corella.config.loading import load_config
from corella.data.builtin import load_builtin
from corella.data.clean import clean
from corella.data.dataset import (
    FORMAT,
    PREPARATION,
    SETTINGS,
    SPACE,
    TEXTS,
    Dataset,
    load_prepared,
    make_dataset,
)
from corella.data.ledger import Ledger
from corella.data.preparation import Preparation, SplitFacts
from corella.data.rows import ITEM_CODE, USER_CODE
from corella.data.sources import read_table
from corella.data.split import order_log, split_log, tied_share
from corella.data.texts import fill_users
from corella.errors import UserError
from corella.features.text.items import read_items
from corella.files import atomic_path, cache_folder, read_value, write_manifest, write_value
from corella.progress import Reporter

_MANY_TIES = 0.01
"""Share of the rows from which on ties are worth a warning."""


def load_dataset(
    config: Config | str | Path = "ml-100k", folder: Path | str | None = None, reporter: Reporter | None = None
) -> Dataset:
    """The prepared dataset of a configuration, a built-in name, or a YAML file; prepared on first use.

    `folder`: where to keep it; unset: a cache folder under `$CORELLA_CACHE` or `~/.cache/corella`. What lies there is
    prepared again where settings or files are no longer those it was made from.
    """
    folder = None if folder is None else Path(folder)
    if isinstance(config, str) and not config.endswith((".yaml", ".yml")):
        config = load_config(settings={"data": {"source": config}})
    elif not isinstance(config, Config):
        config = load_config(Path(config))
    fingerprint = _fingerprint(config.data, config.seed)
    folder = folder or cache_folder() / "prepared" / f"{config.data.source}-{fingerprint}"
    whole = (folder / "manifest.json").is_file() and (folder / PREPARATION).is_file()
    known = read_value(folder / PREPARATION, Preparation).fingerprint if whole else None
    # What a database holds cannot be part of the fingerprint, so it is read each time.
    if any(table.uri for table in _tables(config.data)) or known != fingerprint:
        prepare(config.data, config.seed, folder, reporter)
    return load_prepared(folder)


def prepare(config: DataConfig, seed: int, folder: Path, reporter: Reporter | None = None) -> Dataset:
    """Prepare into `folder`, replacing a dataset that is there. Raises `UserError` for bad input.

    `reporter`: is told how far the text encoder is.
    """
    raw = read_raw(config)
    log, users, items, ledger = clean(raw, config)
    log = order_log(log, config)
    ledger.facts["interactions kept"] = log.height
    tied = tied_share(log, config) if TIME in config.order and not config.strict_time else 0.0
    if tied > _MANY_TIES:
        ledger.warnings.append(
            f"{tied:.0%} of the interactions have the time of another one of the same user; they stand in the file's "
            "order, and where that tells anything of the answers, histories tell it too: data.strict_time: true hides "
            "answers of the same second from each other"
        )
    log = split_log(log, config.split, seed, config.only_likes, items)
    keep = [c for c in (USER, ITEM, LABEL, SPLIT, RATING, TIME, REVIEW) if c in log.columns]
    if REVIEW in keep:
        log = log.with_columns(pl.col(REVIEW).cast(pl.String))
    users = users.with_columns(fill_users(config.user_text).alias("text")).drop(FILE_ROW, strict=False)
    items = items.drop(FILE_ROW, strict=False)
    began = time.monotonic()
    texts = read_items(long_texts(items), config.text, reporter)
    seconds = time.monotonic() - began
    dataset = make_dataset(log.select(keep), users, items, config, texts)
    made = replace(dataset, preparation=_preparation(dataset, ledger, seconds, _fingerprint(config, seed)))
    write_dataset(made, folder)
    return made


def read_raw(config: DataConfig) -> RawTables:
    """The raw tables of a built-in source or of the user's files."""
    if config.source != "tables":
        return load_builtin(config.source, config.path)
    parts = {"interactions": config.interactions, "users": config.users, "items": config.items}
    frames = {name: read_table(table) for name, table in parts.items() if table is not None}
    names = {name: str(table.path or name) for name, table in parts.items() if table is not None}
    return RawTables(frames["interactions"], frames.get("users"), frames.get("items"), names)


def _preparation(dataset: Dataset, ledger: Ledger, text_seconds: float, fingerprint: str) -> Preparation:
    log = dataset.log
    parts = log.group_by(SPLIT).agg(
        rows=pl.len(),
        users=pl.col(USER_CODE).n_unique(),
        items=pl.col(ITEM_CODE).n_unique(),
        positive=pl.col(LABEL).mean(),
    )
    order = {"train": 0, "valid": 1, "test": 2, "history": 3}
    return Preparation(
        {**ledger.facts, "users": dataset.users.height, "items": dataset.items.height},
        sorted((SplitFacts(**part) for part in parts.to_dicts()), key=lambda part: order[part.split]),
        ledger.dropped, ledger.warnings, text_seconds, fingerprint,
    )  # fmt: skip


def write_dataset(dataset: Dataset, folder: Path) -> None:
    """Write a prepared dataset: Parquet, safetensors and JSON, the manifest last; replaces one that is there."""
    _make_room(folder)
    counts = pl.DataFrame(dataset.counts, schema=[f"count:{name}" for name in dataset.count_names])
    popularity = pl.DataFrame(dataset.popularity, schema=["item_answers", "item_likes"])
    features = [counts, popularity]
    if dataset.text is not None:
        features.append(pl.DataFrame(dataset.text, schema=[f"text:{name}" for name in dataset.text_names]))
    tables = {"log": pl.concat([dataset.log, *features], how="horizontal"), "users": dataset.users}
    for name, table in {**tables, "items": dataset.items}.items():
        with atomic_path(folder / f"{name}.parquet") as path:
            table.write_parquet(path)
    if dataset.texts is not None and dataset.space is not None:
        dataset.texts.save(folder / TEXTS)
        dataset.space.save(folder / SPACE)
    write_value(folder / SETTINGS, dataset.config)
    write_value(folder / PREPARATION, dataset.preparation)
    write_manifest(folder, FORMAT)


def _make_room(folder: Path) -> None:
    """Remove an earlier preparation, its manifest first; a folder that holds anything else is not touched."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = ("log.parquet", "users.parquet", "items.parquet")
    ours = [folder / name for name in ("manifest.json", *tables, TEXTS, SPACE, SETTINGS, PREPARATION)]
    other = sorted(p.name for p in folder.iterdir() if p not in ours and not p.name.endswith(".tmp"))
    if other:
        raise UserError(f"{folder} holds {other[0]}, which is no prepared dataset's; give a new or empty folder")
    for path in ours:
        path.unlink(missing_ok=True)


def _tables(config: DataConfig) -> list[TableConfig]:
    return [t for t in (config.interactions, config.users, config.items) if t is not None]


def _fingerprint(config: DataConfig, seed: int) -> str:
    """Hash of the data settings, the seed (for a split that draws), and size and time of every input file."""
    drawn = seed if config.split.by in ("user", "each-user", "new-items") else 0
    settings = json.dumps([FORMAT, drawn, config.model_dump(mode="json")])
    paths = [config.path, *(table.path for table in _tables(config))]
    files = [f for p in paths if p is not None for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()]
    stamps = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256((settings + repr(stamps)).encode()).hexdigest()[:12]

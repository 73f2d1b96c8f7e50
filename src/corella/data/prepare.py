"""Prepare a dataset once: read, clean, order, split, count, and write Parquet plus a manifest.

`load_dataset` is the front door: it prepares into a cache folder named by a hash of the settings and the
input files, so that the same settings never prepare twice.
"""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import polars as pl

from corella.columns import DRAWN, FILE, FILE_ROW, ITEM, LABEL, RATING, REVIEW, SPLIT, TIME, USER, RawTables, long_texts
from corella.config import Config, DataConfig, TableConfig
from corella.config.loading import load_config
from corella.data.builtin import load_builtin
from corella.data.clean import clean
from corella.data.dataset import Dataset, make_dataset
from corella.data.facts import extremes, split_facts
from corella.data.labels import as_clicks, only_clicks
from corella.data.ledger import Ledger
from corella.data.negatives import with_negatives
from corella.data.origin import fingerprint, source_files, tables_of
from corella.data.parts.newer import continued
from corella.data.parts.prepare import prepare_parts
from corella.data.parts.tables import height_of
from corella.data.preparation import Preparation
from corella.data.split import order_log, split_log, tied_share
from corella.data.store import FORMAT, LOG, PREPARATION, SETTINGS, TAUGHT, adopt_parts, load_prepared, write_dataset
from corella.data.tables.read import read_table
from corella.data.texts import fill_users
from corella.features.text.items import read_items
from corella.files import Manifest, cache_folder, read_value, write_manifest, write_value
from corella.progress import Reporter
from corella.tasks.running import Workers


def load_dataset(
    config: Config | str | Path = "ml-100k", folder: Path | str | None = None, reporter: Reporter | None = None
) -> Dataset:
    """The prepared dataset of a configuration, a built-in name, or a YAML file; prepared on first use, see
    `prepared_folder`."""
    return load_prepared(prepared_folder(config, folder, reporter))


def prepared_folder(
    config: Config | str | Path, folder: Path | str | None, reporter: Reporter | None, workers: Workers = Workers()
) -> Path:
    """The folder of a prepared dataset, which is made where it is not there yet.

    `workers`: who prepares, where `data.memory` is set; one process where it is not.
    `folder`: where to keep it; unset: a cache folder under `$CORELLA_CACHE` or `~/.cache/corella`. What lies there is
    prepared again where settings or files are no longer those it was made from.
    """
    folder = None if folder is None else Path(folder)
    if isinstance(config, str) and not config.endswith((".yaml", ".yml")):
        config = load_config(settings={"data": {"source": config}})
    elif not isinstance(config, Config):
        config = load_config(Path(config))
    now = fingerprint(config.data, config.seed)
    folder = folder or cache_folder() / "prepared" / f"{config.data.source}-{now}"
    whole = (folder / "manifest.json").is_file() and (folder / PREPARATION).is_file()
    known = read_value(folder / PREPARATION, Preparation).fingerprint if whole else None
    # What a database holds cannot be part of the fingerprint, so it is read each time.
    if any(table.uri for table in tables_of(config.data)) or known != now:
        if config.data.memory is not None:
            prepare_in_parts(config.data, config.seed, folder, workers, reporter)
        else:
            prepare(config.data, config.seed, folder, reporter)
    return folder


def prepare(config: DataConfig, seed: int, folder: Path, reporter: Reporter | None = None) -> Dataset:
    """Prepare into `folder`, replacing a dataset that is there. Raises `UserError` for bad input.

    `reporter`: is told how far the text encoder is.
    """
    raw, asked = read_raw(config), config
    log, users, items, ledger = clean(raw, config)
    clicks = only_clicks(raw.interactions, config)
    log = order_log(log, config)
    ledger.facts["interactions kept"] = log.height
    if TIME in config.order and not config.strict_time:
        ledger.warn_of_ties(tied_share(log, config))
    config = as_clicks(config) if clicks else config
    log = split_log(log, config.split, seed, config.only_likes or clicks, items, ledger.reasons())
    if clicks and not config.only_likes:
        log = with_negatives(log, config.negatives, seed)
        ledger.warnings.append(
            f"for every click {config.negatives} of the items that the user had not clicked by then is drawn as "
            "not liked (half of them by popularity, half evenly): figures of a ranking say how well it tells clicks "
            "from these"
        )
    keep = [c for c in (USER, ITEM, LABEL, SPLIT, RATING, TIME, REVIEW, DRAWN) if c in log.columns]
    if REVIEW in keep:
        log = log.with_columns(pl.col(REVIEW).cast(pl.String))
    users = users.with_columns(fill_users(config.user_text).alias("text")).drop(FILE_ROW, FILE, strict=False)
    items = items.drop(FILE_ROW, FILE, strict=False)
    began = time.monotonic()
    texts = read_items(long_texts(items), config.text, reporter)
    seconds = time.monotonic() - began
    dataset = make_dataset(log.select(keep), users, items, config, texts)
    told = _preparation(dataset.log.lazy(), users.height, items.height, asked, ledger, seed, seconds)
    made = replace(dataset, preparation=told)
    write_dataset(made, folder)
    return made


def prepare_in_parts(
    config: DataConfig, seed: int, folder: Path, workers: Workers = Workers(), reporter: Reporter | None = None
) -> None:
    """The same in parts on disk, within `data.memory`; killed at any moment, it goes on where it was."""
    if _with_a_day_more(config, seed, folder):
        return
    work = folder.with_name(f".{folder.name}.parts")
    parts = prepare_parts(config, work, fingerprint(config, seed), workers, reporter)
    told = _preparation(_parts_of(parts.log), parts.users.height, parts.items.height, config, parts.ledger, seed)
    adopt_parts({LOG: parts.log, **parts.others}, parts.users, parts.items, config, told, folder)
    shutil.rmtree(work)


def _with_a_day_more(config: DataConfig, seed: int, folder: Path) -> bool:
    """Add files that came since to the dataset in `folder`, see `parts.newer`; whether that was all there was to do."""
    more = continued(config, folder)
    if more is None:
        return False
    before = read_value(folder / PREPARATION, Preparation)
    facts = {name: before.facts.get(name, 0) + rows for name, rows in more.facts.items()}
    warnings = [*before.warnings, *(said for said in more.warnings if said not in before.warnings)]
    ledger = Ledger(facts, [*before.dropped, *more.dropped], warnings)
    users, items = (height_of(folder / f"{name}.parquet") for name in ("users", "items"))
    write_value(folder / SETTINGS, config)
    write_value(folder / PREPARATION, _preparation(_parts_of(folder / LOG), users, items, config, ledger, seed))
    kept = read_value(folder / "manifest.json", Manifest).files
    write_manifest(folder, FORMAT, {name: sha for name, sha in kept.items() if name.startswith((LOG, TAUGHT))})
    return True


def _parts_of(folder: Path) -> pl.LazyFrame:
    return pl.scan_parquet(sorted(folder.glob("*.parquet")), glob=False)


def read_raw(config: DataConfig) -> RawTables:
    """The raw tables of a built-in source or of the user's files."""
    if config.source != "tables":
        return load_builtin(config.source, config.path)
    parts = {"interactions": config.interactions, "users": config.users, "items": config.items}
    tables = {name: read_table(table) for name, table in parts.items() if table is not None}
    names = {name: _source(table, name) for name, table in parts.items() if table is not None}
    frames = {name: table.frame for name, table in tables.items()}
    said = [warning for table in tables.values() for warning in table.warnings]
    return RawTables(frames["interactions"], frames.get("users"), frames.get("items"), names, said)


def _source(table: TableConfig, name: str) -> str:
    """What a table is called in messages."""
    if isinstance(table.path, list):
        return f"{table.path[0]} and {len(table.path) - 1} more"
    return table.url or str(table.path or name)


def _preparation(
    log: pl.LazyFrame, users: int, items: int, asked: DataConfig, ledger: Ledger, seed: int, text_seconds: float = 0.0
) -> Preparation:
    return Preparation(
        {**ledger.facts, "users": users, "items": items}, split_facts(log), ledger.dropped, ledger.warnings,
        extremes(log), text_seconds, source_files(asked), fingerprint(asked, seed),
    )  # fmt: skip

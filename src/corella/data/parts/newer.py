"""A day more: files that came since are added to a dataset that was prepared in parts, in time proportional to them.

What is needed of the past is kept with the dataset: what all had said by its end, what answers were above the expected,
and what pairs of items had taught. So new rows get the features that preparing everything again would give them, to the
last bit. New users and items are numbered behind the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from corella.columns import FILE, FILE_ROW, ITEM, LABEL, RATING, SPLIT, TIME, USER
from corella.config import DataConfig
from corella.data.clean import UNKNOWN_ITEM, described_items, described_users
from corella.data.ledger import Ledger
from corella.data.parts.counting import ABOVE, FEATURE, SHOWN
from corella.data.parts.cut import Cut, parquet_only
from corella.data.parts.frames import ROW, Desk, State, load_totals, save_totals
from corella.data.parts.reading import KEY, Reading, kept_rows
from corella.data.parts.tables import height_of
from corella.data.preparation import Dropped, Preparation
from corella.data.rows import group_keys, times_of
from corella.data.split import seconds_of
from corella.data.store import LOG, PREPARATION, SETTINGS, STATE, TAUGHT, TOTALS
from corella.data.tables.read import files_of, read_table
from corella.data.texts import fill_users
from corella.features.counts import feature_names, own, own_answers
from corella.features.everyone import Heard, Totals, heard
from corella.features.log import Log
from corella.features.neighbours import NAMES, PairTable, pair_keys
from corella.features.ratings import RatingScale, answer_values
from corella.files import atomic_path, is_whole, read_value, write_value


@dataclass(frozen=True)
class Day:
    """What came since."""

    rows: pl.DataFrame
    """Of `kept_rows`, in order, with codes of users and items."""
    users: pl.DataFrame
    items: pl.DataFrame
    ledger: Ledger


def continued(config: DataConfig, folder: Path) -> Preparation | None:
    """Add the files of the settings that the dataset in `folder` does not have. Returns what is told of the rows that
    were added; None, and nothing is done, where the past would change: other settings, files that are gone or changed,
    rows that are older, that training rows would be learned from, or that replace others.
    """
    files = _new_files(config, folder)
    if files is None:
        return None
    state = read_value(folder / STATE, State)
    day = _day(config, folder, files, state)
    if day is None:
        return None
    made, totals = _counted(config, folder, day, state)
    part = len(list((folder / LOG).glob("*.parquet")))
    for name, frame in {f"{LOG}/{part:05d}": made, "users": day.users, "items": day.items}.items():
        with atomic_path(folder / f"{name}.parquet") as path:
            frame.write_parquet(path)
    with atomic_path(folder / TOTALS) as path:
        save_totals(totals, path)
    last = float(day.rows[KEY].max()) if day.rows.height else state.last  # type: ignore[arg-type]
    write_value(folder / STATE, replace(state, rows=state.rows + made.height, last=last))
    facts = {**day.ledger.facts, "interactions kept": made.height}
    return Preparation(facts, dropped=day.ledger.dropped, warnings=day.ledger.warnings)


def _new_files(config: DataConfig, folder: Path) -> list[Path] | None:
    """The files of interactions that are new; None where something else is new too."""
    if not all((folder / name).is_file() for name in ("manifest.json", STATE, SETTINGS, PREPARATION)):
        return None
    if not is_whole(folder):
        return None  # a day was being added when it was killed
    before = read_value(folder / SETTINGS, DataConfig)
    if before.model_copy(update={"memory": config.memory}) != config or config.text.encoder != "none":
        return None
    assert config.interactions is not None  # noqa: S101
    made = read_value(folder / PREPARATION, Preparation).files
    files = files_of(config.interactions)
    known = [file for file in files if str(file) in made]
    tables = {str(f) for table in (config.users, config.items) if table is not None for f in files_of(table)}
    if len(known) != sum(name not in tables for name in made) or files[: len(known)] != known:
        return None  # one is gone, or a new one comes before others
    for file in known:
        then, now = made[str(file)], file.stat()
        if (then.bytes, then.changed) != (now.st_size, now.st_mtime_ns):
            return None
    new = files[len(known) :]
    parquet_only(new)
    return new or None


def _day(config: DataConfig, folder: Path, files: Sequence[Path], state: State) -> Day | None:
    """The new rows that are kept, and all users and items; None where the past would change."""
    ledger = Ledger()
    items = _items(config, folder, files, ledger)
    if items is None or config.duplicates not in ("first", "keep") or config.split.dates is None:
        return None
    desk = Desk(folder / SETTINGS, folder / "users.parquet", folder / "items.parquet", Cut(1, 1, 1, 1, 1))
    frames, before = [], 0
    for file in files:
        height = height_of(file)
        frames.append(kept_rows(Reading(desk, file, str(file), 0, height, before), config, items, ledger))
        before += height
    rows = pl.concat(frames, how="diagonal").sort(KEY, ROW)
    if rows.height and (rows[KEY][0] < state.last or rows[TIME][0] < seconds_of(config.split.dates[0])):
        return None
    users = _users(config, folder, rows, ledger)
    if users is None:
        return None
    rows = rows.join(users.select(USER).with_row_index("user"), on=USER, how="left", maintain_order="left")
    return Day(rows, users, items, ledger)


def _items(config: DataConfig, folder: Path, files: Sequence[Path], ledger: Ledger) -> pl.DataFrame | None:
    """The items, new ones behind the others; None where one that was there is another now, or where new ones would
    change the numbers of keys that all rows count."""
    old = pl.read_parquet(folder / "items.parquet")
    if config.items is not None:
        table = read_table(config.items)
        found = described_items(table.frame, pl.DataFrame(), config, ledger, str(config.items.path))
        found = found.drop(FILE_ROW, FILE, strict=False).sort(ITEM)
        if not found.join(old.select(ITEM), on=ITEM, how="semi").sort(ITEM).equals(old.sort(ITEM)):
            return None
    else:
        assert config.interactions is not None  # noqa: S101
        column = config.interactions.columns.get(ITEM, ITEM)
        ids = pl.scan_parquet(list(files), glob=False).select(pl.col(column).unique().cast(pl.String)).collect()
        found = described_items(None, ids.rename({column: ITEM}).drop_nulls(), config, Ledger(), "items").sort(ITEM)
    new = found.join(old, on=ITEM, how="anti", maintain_order="left")
    lost = any(drop.reason.startswith(UNKNOWN_ITEM) for drop in read_value(folder / PREPARATION, Preparation).dropped)
    if new.height and (lost or not _stable(config)):  # rows with these items may have been dropped
        return None
    return pl.concat([old, new.select(old.columns)])


def _stable(config: DataConfig) -> bool:
    """Whether new users and items leave the keys of all rows as they are."""
    return all("user" in group or group == ["item"] for group in config.counts.groups)


def _users(config: DataConfig, folder: Path, rows: pl.DataFrame, ledger: Ledger) -> pl.DataFrame | None:
    old = pl.read_parquet(folder / "users.parquet")
    new = rows.select(USER).unique().join(old, on=USER, how="anti")
    raw = None
    if config.users is not None:
        raw = read_table(config.users).frame
        described = described_users(raw, old.select(USER), config, Ledger(), str(config.users.path))
        plain = old.drop("text")
        if not described.join(old, on=USER, how="semi").select(plain.columns).sort(USER).equals(plain.sort(USER)):
            return None
    if new.height and not _stable(config):
        return None
    source = "users" if config.users is None else str(config.users.path)
    found = described_users(raw, new, config, ledger, source).join(new, on=USER, how="semi").sort(USER)
    found = found.with_columns(fill_users(config.user_text).alias("text"))
    return pl.concat([old, found.select(old.columns)])


def _counted(config: DataConfig, folder: Path, day: Day, state: State) -> tuple[pl.DataFrame, Totals]:
    """The day's part of the log, and what all had said by its end."""
    past = _past(folder, day.rows["user"])
    rows = day.rows
    if config.duplicates == "first":
        rows = _not_repeated(rows, past, day.ledger)
    known = past.group_by("user").len("known").with_columns(pl.col("user").cast(rows["user"].dtype))
    ordinal = pl.int_range(pl.len()).over("user") + pl.col("known").fill_null(0).cast(pl.Int64)
    assert config.split.dates is not None  # noqa: S101
    part = pl.when(pl.col(TIME) < seconds_of(config.split.dates[1])).then(pl.lit("valid")).otherwise(pl.lit("test"))
    rows = rows.join(known, on="user", how="left", maintain_order="left").with_columns(
        pl.when(ordinal >= config.split.min_history).then(part).otherwise(pl.lit("history")).alias(SPLIT)
    )
    earlier = load_totals(folder / TOTALS)
    log = _log(rows, state.scale)
    keys = group_keys(log.user, log.item, day.users, day.items, config)
    others = heard(log, [group for group in keys if not group.by_user], config.counts, earlier)
    features = others.columns | _own(config, day, past, rows, others, state.scale, folder)
    shown = [pl.Series(name, column) for name, column in zip(SHOWN, others.popularity.T, strict=True)]
    names = feature_names(config.counts, state.scale is not None)
    above = [pl.Series(f"{ABOVE} {n}", column) for n, column in enumerate(others.above.T)]
    made = rows.select(
        USER, day.items[ITEM].gather(rows["item"]), *(c for c in (LABEL, SPLIT, RATING, TIME) if c in rows.columns),
        pl.col("user", "item").cast(pl.Int64),
    ).with_columns(*shown, *(pl.Series(f"{FEATURE}{name}", features[name]) for name in names), *above)  # fmt: skip
    return made, earlier.then(Totals.of(log, [group for group in keys if not group.by_user]))


def _past(folder: Path, users: pl.Series) -> pl.DataFrame:
    """What the users said before, in the order of the log."""
    log = pl.scan_parquet(sorted((folder / LOG).glob("*.parquet")), glob=False)
    schema = log.collect_schema()
    read = [name for name in (LABEL, SPLIT, RATING, TIME, "user", "item") if name in schema]
    read += [name for name in schema if name.startswith(ABOVE)]
    wanted = users.unique().cast(pl.Int64).to_frame("user").lazy()
    rows = log.select(read).with_row_index(ROW).join(wanted, on="user", how="semi")
    return rows.collect(engine="streaming").sort(ROW)


def _not_repeated(rows: pl.DataFrame, past: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    known = past.select(pl.col("user", "item").cast(pl.Int64)).unique()
    pairs = rows.with_columns(pl.col("user", "item").cast(pl.Int64))
    again = ~pl.struct("user", "item").is_first_distinct()
    first = pairs.filter(~again).join(known, on=["user", "item"], how="anti", maintain_order="left")
    if first.height < rows.height:
        ledger.dropped.append(
            Dropped("duplicated user-item pair; the first is kept", rows.height - first.height, "rows that came since")
        )
    return first


def _own(
    config: DataConfig, day: Day, past: pl.DataFrame, rows: pl.DataFrame, others: Heard, scale: RatingScale | None,
    folder: Path,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Features of what the day's users had said, and of what neighbours say."""
    before, log = _log(past, scale), _log(rows, scale)
    both = Log(*(np.concatenate([getattr(each, name) for each in (before, log)]) for name in Log.__dataclass_fields__))
    above = past.select(pl.col(f"^{ABOVE} .*$")).to_numpy().astype(np.float64).reshape(past.height, log.values.shape[1])
    above = np.concatenate([above, others.above])
    average = np.concatenate([np.zeros(before.values.shape), others.average])  # of earlier rows nobody asks
    keys = [group for group in group_keys(both.user, both.item, day.users, day.items, config) if group.by_user]
    found = own(both, keys, config.counts, Heard({}, average, above, np.zeros((0, 2), np.int64)))
    features = {name: column[past.height :] for name, column in found.items()}
    if config.counts.neighbours:
        told, late = own_answers(both, config.counts, above[:, -1]), np.arange(past.height, len(both.user))
        size, last = day.items.height, config.counts.neighbours
        table = _taught(folder, pair_keys(told, late, last, size), size)
        near = table.rows(told, late, last, config.counts.smoothing).astype(np.float32)
        features |= dict(zip(NAMES, near.T, strict=True))
    return features


def _taught(folder: Path, keys: np.ndarray, size: int) -> PairTable:
    """What pairs of items taught, of those that are asked about."""
    schema = {"low": pl.Int32, "high": pl.Int32, "count": pl.Float64, "product": pl.Float64}
    files = sorted((folder / TAUGHT).glob("*.parquet"))
    wanted = pl.LazyFrame({"low": (keys // size).astype(np.int32), "high": (keys % size).astype(np.int32)})
    table = pl.scan_parquet(files, glob=False) if files else pl.LazyFrame(schema=schema)
    found = table.join(wanted, on=["low", "high"], how="semi").collect(engine="streaming").sort("low", "high")
    key = found["low"].to_numpy().astype(np.int64) * size + found["high"].to_numpy()
    return PairTable(size, key, found["count"].to_numpy(), found["product"].to_numpy())


def _log(frame: pl.DataFrame, scale: RatingScale | None) -> Log:
    """All rows known, none learned from any more."""
    ones = np.ones(frame.height, np.int64)
    user, item = (frame[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    return Log(user, item, times_of(frame), answer_values(frame, scale), ones, ones, np.zeros_like(ones))

"""A log prepared in parts: the stages in their order.

    files -> read_rows -> by_user -> in_order -> totals -> all_said -> own_said -> pair_up -> gather -> join -> log/

Every stage is tasks that read the files of earlier ones and write one each, once; see `tasks.once`. So a killed
preparation goes on where it was, and processes or Ray share the tasks. What is kept in this process is of the size of
the catalogue and of the list of users.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from corella.columns import LABEL, RATING, SPLITS, TIME
from corella.config import DataConfig
from corella.data.ledger import Ledger
from corella.data.parts.counting import Own, Part, all_said, own_said, totals, with_split
from corella.data.parts.cut import cut, parquet_only, refuse
from corella.data.parts.frames import Desk, State, load_totals, save_totals
from corella.data.parts.joining import Joining, join
from corella.data.parts.ordering import Crowd, Slot, by_user, in_order
from corella.data.parts.pairing import Gathering, Pairing, gather, pair_up, teach
from corella.data.parts.reading import Reading, read_rows
from corella.data.parts.tables import Entities, height_of, items_table, users_table
from corella.data.parts.texts import EverybodysTexts, Telling, read_texts
from corella.data.preparation import Dropped
from corella.data.split import cuts_of, seconds_of
from corella.data.store import SPACE, STATE, TAUGHT, TEXTS, TOTALS
from corella.data.tables.read import files_of
from corella.errors import UserError
from corella.features.grids import VALUE, on_grid
from corella.features.ratings import RatingScale, scale_of
from corella.files import read_value, write_value
from corella.progress import Reporter
from corella.tasks.once import FINISHED, Entry, Facts, Origin, Output, output_folder
from corella.tasks.running import Workers, kept


@dataclass(frozen=True)
class Parts:
    """What is there once all stages are through."""

    log: Path
    """Folder of the parts."""
    users: pl.DataFrame
    items: pl.DataFrame
    ledger: Ledger
    others: dict[str, Path]
    """What else is kept: by the name that it has in a prepared dataset."""


@dataclass(frozen=True)
class _Run:
    """A preparation at work."""

    config: DataConfig
    output: Output
    desk: Desk
    workers: Workers
    reporter: Reporter | None

    def stage(
        self, name: str, function: Callable[[Any, Path], Facts], tasks: Sequence[Any]
    ) -> tuple[tuple[Path, ...], list[Entry]]:
        """Run a stage; its files, and what is told of each, in the order of the tasks."""
        named: Mapping[str, Any] = {f"{n:05d}.parquet": task for n, task in enumerate(tasks)}
        made = self.output.make(name, function, named, self.workers, self.reporter)
        return tuple(self.output.place(name) / file for file in named), list(made.values())


def prepare_parts(
    config: DataConfig, folder: Path, origin: str, workers: Workers, reporter: Reporter | None = None
) -> Parts:
    """Prepare the log into files below `folder`, or go on where that was killed. `origin`: what tells these settings
    and input files from others. Raises `UserError` for bad input and for settings that need the whole log."""
    refuse(config)
    assert config.interactions is not None  # noqa: S101
    files = files_of(config.interactions)
    parquet_only(files)
    sizes = [height_of(file) for file in files]
    sized = cut(sum(sizes), config, workers.processes)
    made_from = Origin({}, {"settings and files": origin, "parts": repr(sized)})
    _clear_others(folder, made_from)
    with output_folder(folder / "log", made_from) as output, kept(workers):
        users, items = (output.place(name) / "00000.parquet" for name in ("users", "items"))
        desk = Desk(folder / "settings.json", users, items, sized)
        write_value(desk.settings, config)
        run = _Run(config, output, desk, workers, reporter)
        return _stages(run, files, sizes)


def _clear_others(folder: Path, origin: Origin) -> None:
    """Remove what was begun of other settings or files."""
    kept_origin = folder / "log.manifest" / "origin.json"
    if folder.exists() and not (kept_origin.is_file() and read_value(kept_origin, Origin) == origin):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _stages(run: _Run, files: Sequence[Path], sizes: Sequence[int]) -> Parts:
    config, desk, output = run.config, run.desk, run.output
    ledger, table = Ledger(), _named(files)
    _, told = run.stage("items", items_table, [Entities(desk, tuple(files))])
    _merge(ledger, [entry.facts for entry in told])
    readings = [
        Reading(desk, file, table, first, min(desk.cut.rows, size - first), before)
        for file, size, before in zip(files, sizes, accumulate(sizes, initial=0), strict=False)
        for first in range(0, size, desk.cut.rows)
    ]
    read, told = run.stage("read", read_rows, readings)
    _merge(ledger, [entry.facts for entry in told])
    if not sum(entry.facts["kept"] for entry in told):
        raise UserError(f"{table}: no row is left; {ledger.reasons()}")
    _, told_users = run.stage("users", users_table, [Entities(desk, read)])
    _merge(ledger, [entry.facts for entry in told_users])
    crowds = [Crowd(desk, read, n, _cuts(told, desk.cut.parts)) for n in range(desk.cut.crowds)]
    crowded, found = run.stage("by user", by_user, crowds)
    _note_repeated(config, ledger, found, files, sizes)
    ordered, slots = run.stage("in order", in_order, [Slot(crowded, n) for n in range(desk.cut.parts)])
    output.forget("read")
    output.forget("by user")
    parts = _parts(run, ordered, [entry.facts for entry in slots])
    _, _ = run.stage("totals", totals, parts)
    before = _before(output, len(parts))
    said, told = run.stage(
        "all said",
        all_said,
        [replace(part, earlier=path) for part, path in zip(parts, [None, *before[:-1]], strict=True)],
    )
    _check_split(told, config, ledger)
    items = pl.read_parquet(desk.items)
    space = read_texts(items, config, output.manifest, run.reporter)
    own, _ = run.stage("own said", own_said, [Own(desk, said, n, space) for n in range(desk.cut.crowds)])
    near: tuple[Path, ...] = ()
    later: dict[str, Path] = {}
    if config.split.dates is not None:
        ends_at = max(entry.facts["last"] for entry in slots if entry.facts["rows"])
        kept_rows = sum(entry.facts["rows"] for entry in slots)
        later = {STATE: output.manifest / STATE, TOTALS: before[-1]}
        write_value(later[STATE], State(kept_rows, ends_at, parts[0].scale))
    if config.counts.neighbours:
        pairings = [Pairing(desk, file, n, items.height) for file in own for n in range(desk.cut.slices)]
        paired, _ = run.stage("pairs", pair_up, pairings)
        gathered = [Gathering(desk, paired, n, items.height) for n in range(desk.cut.pairs)]
        near, _ = run.stage("neighbours", gather, gathered)
        if config.split.dates is not None:
            taught, _ = run.stage(TAUGHT, teach, gathered)
            later[TAUGHT] = taught[0].parent
        output.forget("pairs")
    ends = [*(part.start for part in parts[1:]), sum(entry.facts["rows"] for entry in slots)]
    texts: list[Path | None] = [None] * len(parts)
    if space is not None:
        texts = [*_everybodys(run, said, own, parts, ends, space)]
        later |= {name: output.manifest / name for name in (TEXTS, SPACE)}
    rated = parts[0].scale is not None
    run.stage(FINISHED, join, [
        Joining(desk, file, own, near, part.start, end, rated, text)
        for file, part, end, text in zip(said, parts, ends, texts, strict=True)
    ])  # fmt: skip
    return Parts(output.folder, pl.read_parquet(desk.users), items, ledger, later)


def _everybodys(
    run: _Run, said: Sequence[Path], own: tuple[Path, ...], parts: Sequence[Part], ends: Sequence[int], space: Path
) -> Sequence[Path]:
    """Text features of what everybody had said, part after part in this process."""
    asked = [Telling(run.desk, f, own, part.start, end) for f, part, end in zip(said, parts, ends, strict=True)]
    everybody = EverybodysTexts(asked, space, height_of(run.desk.users), run.config)
    return replace(run, workers=Workers()).stage("texts", everybody.write, asked)[0]


def _named(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _merge(ledger: Ledger, parts: Sequence[Facts]) -> None:
    """One account of what the parts read, dropped and warned of."""
    for part in parts:
        for name, rows in part["facts"].items():
            ledger.facts[name] = ledger.facts.get(name, 0) + rows
        ledger.warnings += [said for said in part["warnings"] if said not in ledger.warnings]
        for drop in part["dropped"]:
            place = next((n for n, known in enumerate(ledger.dropped) if known.reason == drop["reason"]), None)
            if place is None:
                ledger.dropped.append(Dropped(**drop))
            else:
                known = ledger.dropped[place]
                ledger.dropped[place] = replace(known, rows=known.rows + drop["rows"])


def _note_repeated(
    config: DataConfig, ledger: Ledger, told: Sequence[Entry], files: Sequence[Path], sizes: Sequence[int]
) -> None:
    rows, tied, repeated = (sum(entry.facts[name] for entry in told) for name in ("rows", "tied", "repeated"))
    ledger.facts["interactions kept"] = rows
    if repeated:
        first = min(entry.facts["first"] for entry in told if entry.facts["repeated"])
        starts = list(accumulate(sizes, initial=0))
        place = int(np.searchsorted(starts, first, side="right")) - 1
        where = f"{files[place]}, row {first - starts[place] + 1}"
        if config.duplicates == "error":
            raise UserError(
                f"{where}: this user and this item come more than once; set data.duplicates to first, last or keep"
            )
        reason = f"duplicated user-item pair; the {config.duplicates} is kept"
        ledger.dropped.append(Dropped(reason, repeated, where))
    if TIME in config.order:
        ledger.warn_of_ties(tied / rows)


def _cuts(told: Sequence[Entry], parts: int) -> tuple[float, ...]:
    """Where the parts of the log begin but the first, evenly by what orders it."""
    points = np.concatenate([np.array(entry.facts["points"]) for entry in told])
    kept_rows = [entry.facts["kept"] / max(len(entry.facts["points"]), 1) for entry in told]
    weight = np.repeat(kept_rows, [len(entry.facts["points"]) for entry in told])
    order = np.argsort(points, kind="stable")
    until = np.cumsum(weight[order])
    place = np.searchsorted(until, until[-1] * np.arange(1, parts) / parts)
    return tuple(points[order][place].tolist())


def _parts(run: _Run, ordered: Sequence[Path], facts: Sequence[Facts]) -> list[Part]:
    """The parts of the log with their places, where the split cuts them, and the scale of the ratings."""
    config, by_seconds = run.config, run.config.split.dates is not None
    starts, samples = (list(accumulate((f[name] for f in facts), initial=0)) for name in ("rows", "samples"))
    dates = config.split.dates
    cuts = cuts_of(samples[-1], config.split) if dates is None else tuple(seconds_of(date) for date in dates)
    parts = [
        Part(run.desk, file, None, start, sample, (float(cuts[0]), float(cuts[1])), by_seconds)
        for file, start, sample in zip(ordered, starts, samples, strict=False)
    ]
    scale = _scale(config, parts)
    return [replace(part, scale=scale) for part in parts]


def _scale(config: DataConfig, parts: Sequence[Part]) -> RatingScale | None:
    """See `rating_scale`."""
    if not config.counts.ratings or RATING not in pl.read_parquet_schema(parts[0].file):
        return None

    def trained(part: Part) -> pl.DataFrame:
        names = [LABEL, RATING, "sample", *([TIME] if part.by_seconds else [])]
        frame = with_split(pl.read_parquet(part.file, columns=names), part)
        return frame.filter((pl.col("split") == "train") & pl.col(RATING).is_finite()).select(LABEL, RATING)

    ends = [
        trained(part).group_by(LABEL).agg(pl.min(RATING).alias("low"), pl.max(RATING).alias("high")) for part in parts
    ]
    whole = pl.concat(ends)
    if whole[LABEL].n_unique() < 2 or whole["low"].min() == whole["high"].max():
        return None
    low, high = float(whole["low"].min()), float(whole["high"].max())  # type: ignore[arg-type]
    sums = np.zeros((2, 2))
    for part in parts:
        frame = trained(part)
        label, rating = frame[LABEL].to_numpy(), frame[RATING].to_numpy()
        scaled = on_grid((rating - low) / (high - low), VALUE)
        sums += np.stack([np.bincount(label, weights=scaled, minlength=2), np.bincount(label, minlength=2)], axis=1)
    return scale_of(low, high, [(float(total), int(rows)) for total, rows in sums])


def _before(output: Output, parts: int) -> list[Path]:
    """Write the totals before each part, and behind the last: those of the parts before it, one after the other."""
    before: list[Path] = []
    folder = output.place("before")
    folder.mkdir(parents=True, exist_ok=True)
    whole = None
    for n in range(parts):
        alone = load_totals(output.place("totals") / f"{n:05d}.parquet")
        whole = alone if whole is None else whole.then(alone)
        path = folder / f"{n:05d}.safetensors"
        save_totals(whole, path)
        before.append(path)
    return before


def _check_split(told: Sequence[Entry], config: DataConfig, ledger: Ledger) -> None:
    """Raise `UserError` where a part of the split has no rows, or one class only."""
    for name in SPLITS[:3]:
        rows, liked = (sum(entry.facts[kind].get(name, 0) for entry in told) for kind in ("rows", "liked"))
        if not rows or liked in (0, rows):
            what = f"no {name} rows" if not rows else f"all {rows:,} {name} rows have label {int(liked > 0)}"
            raise UserError(f"split by {config.split.by}: {what}; change data.split; {ledger.reasons()}")

"""Score a table of new rows with a trained run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from corella.calibration import probability
from corella.columns import FILE_ROW, ITEM, TIME, USER
from corella.config import TableConfig
from corella.data.dataset import Dataset
from corella.data.ids import id_text
from corella.data.tables.delimited import scan_delimited
from corella.data.tables.form import BETWEEN, Form
from corella.data.tables.mistakes import explained
from corella.data.tables.read import TEXT, read_files, suffix_of
from corella.data.times import date_text, read_times
from corella.errors import UserError, suggest
from corella.files import atomic_path, refusal
from corella.progress import Reporter
from corella.ranking.results import Predictions
from corella.routing.policies import entropy
from corella.runs.train import load_run

_CHUNK = 250_000
SCORES = ("probability", "crm_probability", "entropy", "routed", "llm_probability")
"""Columns that a scored table has beside those of the input."""


@dataclass(frozen=True)
class Rows:
    """Rows to score: as they were written, and what is read of them."""

    frame: pl.LazyFrame
    """Every column of the input, of a text file as text; and `FILE_ROW`."""
    asked: pl.DataFrame
    """USER and ITEM as text, and TIME as a date and time, where it is given and read."""
    form: Form | None
    """How a text file was written."""
    warnings: list[str]


def score_file(
    run: Path,
    source: Path,
    target: Path,
    share: float | None = None,
    reporter: Reporter | None = None,
    overwrite: bool = False,
) -> int:
    """Score new rows of a file in chunks of bounded memory; returns how many. Every column of the input comes back as
    it was; SCORES stand beside them. `overwrite`: in place of columns of these names that the input has.

    A text file is read and written as the run's interactions were: separator, header, encoding. Columns have our names,
    or those of these interactions (`data.interactions.columns`). The target is Parquet or text, by its name.
    """
    reporter = reporter or Reporter()
    if not source.is_file():
        raise UserError(f"{source} does not exist")
    if suffix_of(target) not in (".parquet", *TEXT) or target.suffix.lower() in (".gz", ".zst"):
        raise UserError(f"{target}: scored rows are written to .parquet, .csv or .tsv, not '{target.suffix}'")
    model = load_run(run)
    strange = {USER: 0, ITEM: 0}
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary, TemporaryDirectory(dir=target.parent, prefix=".score.") as folder:
        rows = read_rows(source, model.config.data.interactions, model.dataset, Path(folder))
        taken = taken_names(rows, source, overwrite)
        _refuse_lists(rows.frame, target)
        for said in rows.warnings:
            reporter.say(f"warning: {said}")
        total = rows.asked.height
        for start in range(0, max(total, 1), _CHUNK):
            samples = model.dataset.query(rows.asked.slice(start, _CHUNK))
            strange[USER] += int((samples.user < 0).sum())
            strange[ITEM] += int((samples.item < 0).sum())
            frame = rows.frame.slice(start, _CHUNK).drop(FILE_ROW, *taken).collect()
            scored = predictions_frame(frame, model.predict(samples, share, reporter))
            scored.write_parquet(Path(folder) / f"part-{start:015d}.parquet")
            reporter.say(f"scored {min(start + _CHUNK, total):,} of {total:,} rows")
        _write(pl.scan_parquet(sorted(Path(folder).glob("part-*.parquet"))), target, temporary, rows.form)
    for name, unknown in strange.items():
        if unknown:
            reporter.say(
                f"warning: {unknown:,} of {total:,} rows have no {name}, or one that the run does not know; it is "
                "scored as an unknown id"
            )
    return total


def predictions_frame(frame: pl.DataFrame, predictions: Predictions) -> pl.DataFrame:
    """Columns of a scored table: final and CRM probability, entropy, whether and how the language model answered."""
    crm, llm = probability(predictions.crm), probability(predictions.llm)
    return frame.with_columns(
        probability=pl.Series(predictions.probability),
        crm_probability=pl.Series(crm),
        entropy=pl.Series(entropy(crm)),
        routed=pl.Series(predictions.routed),
        llm_probability=pl.Series(llm, nan_to_null=True),
    )


def taken_names(rows: Rows, source: Path, overwrite: bool) -> list[str]:
    """Columns of the input that SCORES take the place of. Raises `UserError` where that was not asked for."""
    taken = [name for name in SCORES if name in rows.frame.collect_schema().names()]
    if taken and not overwrite:
        raise UserError(
            f"{source} has columns that the scores would take the place of: {', '.join(taken)}; rename them, or "
            "say --overwrite"
        )
    return taken


def read_rows(source: Path, trained: TableConfig | None, dataset: Dataset, folder: Path) -> Rows:
    """The rows lazily, from Parquet: a text file is copied into one first, whose slices cost what they hold."""
    table = trained or TableConfig(path=source)
    form, said = None, list[str]()
    if suffix_of(source) in TEXT:
        text = {"separator", "encoding", "header", "quote"} if _is_text(table) else set()
        given = {name: getattr(table, name) for name in text}
        found, form, said = scan_delimited(source, TableConfig(path=source, columns=table.columns, **given))
        try:
            found.sink_parquet(folder / "rows.parquet")
        except pl.exceptions.PolarsError as error:
            full = refusal(error, folder / "rows.parquet")
            raise UserError(full) if full else explained(form, len(found.collect_schema()) - 1, error) from None
        frame = pl.scan_parquet(folder / "rows.parquet")
    elif suffix_of(source) == ".parquet":
        frame = pl.scan_parquet(source).drop(FILE_ROW, strict=False).with_row_index(FILE_ROW, offset=1)
    else:
        frame = read_files(TableConfig(path=source)).frame.lazy()
    try:
        asked, warnings = _asked(frame, source, table, dataset)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{source} cannot be scored: {str(error).splitlines()[0]}") from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return Rows(frame, asked, form, [*said, *warnings])


def _is_text(table: TableConfig) -> bool:
    first = table.path[0] if isinstance(table.path, list) else table.path or Path(table.url or "")
    return suffix_of(first) in TEXT


def _asked(frame: pl.LazyFrame, source: Path, table: TableConfig, dataset: Dataset) -> tuple[pl.DataFrame, list[str]]:
    """What the model is asked about, by the rules that the training data were read by; and warnings."""
    names = frame.collect_schema().names()
    ours = {name: name if name in names else table.columns.get(name, name) for name in (USER, ITEM, TIME)}
    for name in (USER, ITEM):
        if ours[name] not in names:
            raise UserError(f"no column '{name}'; {suggest(name, [n for n in names if n != FILE_ROW])}")
    given = [pl.col(theirs).alias(name) for name, theirs in ours.items() if theirs in names]
    read = frame.select(FILE_ROW, *given).collect()
    for name in (USER, ITEM):
        if name in read.columns and not read.schema[name].is_nested():
            read = read.with_columns(_without(id_text(read[name]), table.missing).alias(name))
    if TIME not in read.columns:
        return read, []
    if not dataset.in_time_order:
        said = "the run's log is not in the order of time, so timestamps are not read: each row sees all that is known "
        return read.drop(TIME), [f"{said}of its user"]
    return _with_times(read, table, dataset, source)


def _with_times(
    read: pl.DataFrame, table: TableConfig, dataset: Dataset, source: Path
) -> tuple[pl.DataFrame, list[str]]:
    column = _without(read[TIME], table.missing)
    times, said = read_times(column, dataset.time_range), []
    blank = column.is_null() if column.dtype != pl.String else column.str.strip_chars().fill_null("") == ""
    wrong = (times.seconds.is_null() & ~times.unknown & ~blank).arg_true()
    if len(wrong):
        raise UserError(f"row {read[FILE_ROW][wrong[0]]}, column {TIME}: {read[TIME][wrong[0]]!r} is not a time")
    if times.unknown.any():
        said.append(f"{int(times.unknown.sum()):,} times of {source.name} are unknown: these rows are last")
    first, _ = dataset.time_range
    early = (times.seconds < first).fill_null(False)
    if early.any():
        said.append(
            f"{int(early.sum()):,} rows lie before the log begins ({date_text(first)}), the first at "
            f"{date_text(float(times.seconds.filter(early)[0]))}: nothing is known of anybody then"
        )
    exact = (times.seconds.floor() * 1e6).cast(pl.Int64).cast(pl.Datetime("us"))
    return read.with_columns(exact.alias(TIME)), said


def _without(column: pl.Series, missing: list[str]) -> pl.Series:
    """Null where a text says that nothing is there."""
    if column.dtype != pl.String:
        return column
    return pl.select(pl.when(~column.str.strip_chars().is_in(missing)).then(column)).to_series()


def _refuse_lists(frame: pl.LazyFrame, target: Path) -> None:
    nested = [name for name, dtype in frame.collect_schema().items() if dtype.is_nested()]
    if nested and suffix_of(target) != ".parquet":
        raise UserError(f"{target}: a text file holds no lists, and '{nested[0]}' is one; write to .parquet")


def _write(scored: pl.LazyFrame, target: Path, temporary: Path, form: Form | None) -> None:
    """Parquet, or text as the input was written."""
    if suffix_of(target) == ".parquet":
        scored.sink_parquet(temporary)
        return
    separator = form.separator if form is not None else "\t" if suffix_of(target) == ".tsv" else ","
    plain = len(separator) == 1
    quoted = plain and (form is None or form.quote is not None)
    scored.sink_csv(
        temporary, separator=separator if plain else BETWEEN, include_header=form is None or form.header,
        quote_style="necessary" if quoted else "never",
    )  # fmt: skip
    if form is None or (plain and form.encoding == "utf-8"):
        return
    rewritten = temporary.with_name(f"{temporary.name}.text")
    try:
        with temporary.open(encoding="utf-8", newline="") as file, rewritten.open("wb") as out:
            out.writelines(_encoded(file, "" if plain else separator, form.encoding))
        rewritten.replace(temporary)
    finally:
        rewritten.unlink(missing_ok=True)


def _encoded(lines: Iterator[str], separator: str, encoding: str) -> Iterator[bytes]:
    for line in lines:
        yield (line.replace(BETWEEN, separator) if separator else line).encode(encoding)

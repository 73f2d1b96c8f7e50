"""Score a table of new rows with a trained run."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from corella.calibration import probability
from corella.columns import ITEM, TIME, USER
from corella.errors import UserError
from corella.files import atomic_path
from corella.progress import Reporter
from corella.ranking.results import Predictions
from corella.routing.policies import entropy
from corella.runs.train import load_run

_CHUNK = 250_000


def score_file(
    run: Path, source: Path, target: Path, share: float | None = None, reporter: Reporter | None = None
) -> int:
    """Score new rows of a Parquet or CSV file in chunks of bounded memory; returns how many. The target is Parquet or
    CSV too, by its name.

    Columns have our names, or those of the interactions that the run was trained on (`data.interactions.columns`).
    """
    reporter = reporter or Reporter()
    if not source.is_file():
        raise UserError(f"{source} does not exist")
    if source.suffix not in (".parquet", ".csv"):
        raise UserError(f"{source}: rows to score are read from .parquet or .csv, not '{source.suffix}'")
    if target.suffix not in (".parquet", ".csv"):
        raise UserError(f"{target}: scored rows are written to .parquet or .csv, not '{target.suffix}'")
    model = load_run(run)
    table = model.config.data.interactions
    names = {theirs: ours for ours, theirs in (table.columns if table else {}).items()}
    strange = {USER: 0, ITEM: 0}
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_path(target) as temporary, TemporaryDirectory(dir=target.parent, prefix=".score.") as folder:
            ids = [name for name in (USER, ITEM, *names) if names.get(name, name) in (USER, ITEM)]
            rows = _as_parquet(source, Path(folder), ids)
            found = rows.collect_schema().names()
            nested = [name for name, dtype in rows.collect_schema().items() if dtype.is_nested()]
            if nested and target.suffix == ".csv":
                raise UserError(f"a CSV holds no lists, and '{nested[0]}' is one; write to .parquet")
            names = {theirs: ours for theirs, ours in names.items() if theirs in found and ours not in found}
            total = int(rows.select(pl.len()).collect().item())
            if TIME in (names.get(name, name) for name in found) and not model.dataset.in_time_order:
                reporter.say(
                    "warning: the run's log is not in the order of time, so timestamps are not read: each row sees "
                    "all that is known of its user"
                )
            for start in range(0, max(total, 1), _CHUNK):
                frame = rows.slice(start, _CHUNK).collect()
                samples = model.dataset.query(frame.rename(names))
                strange[USER] += int((samples.user < 0).sum())
                strange[ITEM] += int((samples.item < 0).sum())
                scored = predictions_frame(frame, model.predict(samples, share, reporter))
                scored.write_parquet(Path(folder) / f"part-{start:015d}.parquet")
                reporter.say(f"scored {min(start + _CHUNK, total):,} of {total:,} rows")
            parts = pl.scan_parquet(sorted(Path(folder).glob("part-*.parquet")))
            (parts.sink_csv if target.suffix == ".csv" else parts.sink_parquet)(temporary)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{source} cannot be scored: {str(error).splitlines()[0]}") from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    for name, unknown in strange.items():
        if unknown:
            reporter.say(
                f"warning: {unknown:,} of {total:,} rows have no {name}, or one that the run does not know; it is "
                "scored as an unknown id"
            )
    return total


def _as_parquet(source: Path, folder: Path, ids: Sequence[str]) -> pl.LazyFrame:
    """The rows as a lazy Parquet table, whose slices cost what they hold; a CSV is copied into one first."""
    if source.suffix == ".parquet":
        return pl.scan_parquet(source)
    text = dict.fromkeys(ids, pl.String)  # ids are text, as in training: 007 is not 7
    # By all rows: a column that only looks like numbers at first stops nothing.
    pl.scan_csv(source, schema_overrides=text, infer_schema_length=None).sink_parquet(folder / "rows.parquet")
    return pl.scan_parquet(folder / "rows.parquet")


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

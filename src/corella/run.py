"""A run is a folder: configuration, log, checkpoints, the trained model, predictions, metrics.json, report.html.

The commands of the command line, as functions. Each can be killed at any moment and called again.
"""

import platform
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import polars as pl

from corella.collaboration.calibration import probability
from corella.collaboration.routing import entropy
from corella.collaboration.system import CoReLLa, Predictions
from corella.config import RANKING_ONLY, RETRIEVAL_ONLY, Config
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset
from corella.errors import UserError
from corella.evaluation.evaluate import evaluate
from corella.evaluation.examples import example_recommendations
from corella.evaluation.pricing import validation_prices
from corella.evaluation.retrieval import evaluate_retrieval
from corella.evaluation.rungs import override, recommendation
from corella.files import alone, atomic_path, read_json, write_json, write_text
from corella.pipeline import Recommender
from corella.progress import Reporter
from corella.retrieval.fit import fit_retrieval
from corella.retrieval.system import Retrieval
from corella.schema import ITEM, TIME, USER
from corella.settings import changed, load_config, to_yaml

_CHUNK = 250_000


_OWN = {"model": RANKING_ONLY, "retrieval": RETRIEVAL_ONLY}
_CHECKPOINTS = {"model": "checkpoints", "retrieval": "checkpoints/retrieval"}
"""Of each half of a run, by the folder of its trained model: the sections that are its own, and its checkpoints."""


def start_run(run: Path, config: Config, half: Literal["model", "retrieval"]) -> None:
    """Make the run folder, or check that an existing one has this configuration, as far as this half reads it: the
    other half's settings stay what they are. What was begun keeps its settings, but for those that only an evaluation
    reads; as long as nothing is, all may change. Raises `UserError` where they do not fit.
    """
    path = run / "config.yaml"
    if path.is_file():
        other = "retrieval" if half == "model" else "model"
        begun = {name for name in _OWN if _begun(run, name)}
        before = load_config(path)
        if begun:
            config = config.with_sections(_OWN[other], before)
        free = () if half in begun else _OWN[half]
        was, wanted = (each.without(free).as_trained() for each in (before, config))
        different = changed(was, wanted) if begun else []
        if different:
            shown = ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")
            raise UserError(
                f"{run} was started with another configuration ({shown}); choose another folder or delete it"
            )
    write_text(path, to_yaml(config))


def _begun(run: Path, half: str) -> bool:
    return (run / half / "manifest.json").is_file() or (run / _CHECKPOINTS[half] / "fingerprint.json").is_file()


def train_run(run: Path, config: Config, reporter: Reporter | None = None) -> CoReLLa:
    """Train into a run folder, going on where an earlier call was stopped. Ends with what text is worth, and what is
    therefore served."""
    with alone(run, "model"):
        start_run(run, config, "model")
        reporter = reporter or Reporter(run / "log.jsonl")
        if (run / "model" / "manifest.json").is_file():
            reporter.say(f"{run}: trained already")
            model = CoReLLa.load(run / "model")
        else:
            dataset = load_dataset(config, reporter=reporter)
            reporter.log("start", dataset=dataset.manifest.get("facts"), machine=machine())
            model = CoReLLa(config).fit(dataset, run, reporter)
            model.save(run / "model")
    prices = validation_prices(model)
    reporter.say(f"{recommendation(prices)} {override(prices, model.affordable)}")
    return model


def train_retrieval(run: Path, config: Config, reporter: Reporter | None = None) -> Retrieval:
    """Train the retrieval into a run folder, going on where an earlier call was stopped."""
    with alone(run, "retrieval"):
        start_run(run, config, "retrieval")
        reporter = reporter or Reporter(run / "log.jsonl")
        if (run / "retrieval" / "manifest.json").is_file():
            reporter.say(f"{run}: the retrieval is trained already")
            return Retrieval.load(run / "retrieval")
        model = fit_retrieval(config, load_dataset(config, reporter=reporter), run, reporter)
        model.save(run / "retrieval")
    return model


def load_recommender(run: Path) -> Recommender:
    """What a run folder holds: a retrieval model, a ranking model, or both."""
    halves = {name: (run / name / "manifest.json").is_file() for name in ("retrieval", "model")}
    if not any(halves.values()):
        raise UserError(f"{run} holds no trained model; run `corella train` or `corella train-retrieval` first")
    return Recommender(
        Retrieval.load(run / "retrieval") if halves["retrieval"] else None,
        CoReLLa.load(run / "model") if halves["model"] else None,
    )


def evaluate_run(
    run: Path,
    model: CoReLLa | None = None,
    reporter: Reporter | None = None,
    outside: Path | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate a trained run on its test rows; writes metrics.json and, where there is a ranking, predictions.parquet
    and report.html.

    `outside`: a table of probabilities of another conventional model, see `corella.evaluation.evaluate`. `overrides`
    change the settings that only an evaluation reads, and stay; `UserError` for others.
    """
    reporter = reporter or Reporter(run / "log.jsonl")
    retrieves = (run / "retrieval" / "manifest.json").is_file()
    if retrieves and model is None and not (run / "model" / "manifest.json").is_file():
        if outside is not None:
            raise UserError(f"{run} holds a retrieval but no ranking, which {outside} could stand beside")
        if overrides:
            raise UserError(f"{run} holds a retrieval but no ranking, whose evaluation {overrides[0]} could change")
        retrieval = Retrieval.load(run / "retrieval")
        only = {"retrieval": evaluate_retrieval(retrieval, reporter), **_about(retrieval)}
        write_json(run / "metrics.json", only)
        return only
    model = model or load_run(run)
    if overrides:
        _set_evaluation(run, overrides)
    model.config = model.config.with_sections(["evaluation"], load_config(run / "config.yaml"))
    metrics = {**evaluate(model, run, reporter, outside), **_about(model)}
    write_json(run / "metrics.json", metrics)
    if retrieves:
        retrieval = Retrieval.load(run / "retrieval")
        metrics["retrieval"] = evaluate_retrieval(retrieval, reporter)
        metrics["recommendations"] = example_recommendations(Recommender(retrieval, model), model.dataset)
        write_json(run / "metrics.json", metrics)
    write_report(run)
    return metrics


def _set_evaluation(run: Path, overrides: Sequence[str]) -> None:
    """Change the settings of a trained run that only an evaluation reads. Raises `UserError` for others."""
    path = run / "config.yaml"
    with alone(run, "model"):
        before, wanted = load_config(path), load_config(path, overrides)
        locked = changed(before.as_trained(), wanted.as_trained())
        if locked:
            raise UserError(
                f"{run} was trained with another {locked[0]}; what may change after the training is "
                "evaluation.max_test, evaluation.lists and evaluation.bootstrap"
            )
        write_text(path, to_yaml(wanted))


def _about(model: CoReLLa | Retrieval) -> dict[str, Any]:
    """What the figures were measured on."""
    facts = {k: model.dataset.manifest.get(k) for k in ("facts", "splits", "dropped", "warnings")}
    return {"machine": machine(), "seed": model.config.seed, "dataset": facts}


def write_report(run: Path) -> None:
    """Draw report.html from metrics.json and predictions.parquet (needs the extra `report`)."""
    try:
        from corella.evaluation.report import render_report
    except ImportError:
        raise UserError("the report needs: pip install 'corella-rec[report]'") from None
    metrics, config = read_json(run / "metrics.json"), load_config(run / "config.yaml")
    if "final" not in metrics:
        raise UserError(f"{run} holds figures of a retrieval alone, and the report is about a ranking")
    write_text(run / "report.html", render_report(metrics, config, pl.read_parquet(run / "predictions.parquet")))


def load_run(run: Path, dataset: Dataset | None = None) -> CoReLLa:
    """The trained model of a run folder."""
    if not (run / "model" / "manifest.json").is_file():
        what = "a retrieval but no ranking" if (run / "retrieval" / "manifest.json").is_file() else "no trained model"
        raise UserError(f"{run} holds {what}; run `corella train --run {run}` first")
    return CoReLLa.load(run / "model", dataset)


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
                "scored as a stranger"
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


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        name = next(
            (x.split(":")[1].strip() for x in cpuinfo.read_text().splitlines() if x.startswith("model name")), name
        )
    return {
        "processor": name, "threads": torch.get_num_threads(), "gpu": torch.cuda.is_available(),
        "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip


def demo_config(overrides: Sequence[str] = ()) -> Config:
    """The demo: MovieLens-100K and SmolLM2, sized for minutes on two cores."""
    settings = {
        "crm": {"id_dropout": 0.8},
        "llm": {"lora_first_layer": 20},
        "joint": {"stage2_targets": 2000, "stage3_targets": 3000},
        "evaluation": {"max_valid": 2000, "max_test": 2500, "lists": 0},
    }
    return load_config(overrides=overrides, settings=settings)

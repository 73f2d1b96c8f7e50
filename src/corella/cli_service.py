"""Commands of the service: serve, keys, what it was told, versions of its model."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from corella.errors import UserError

service = typer.Typer()

Run = Annotated[Path, typer.Argument(help="The run folder.")]
StoreURL = Annotated[
    str | None, typer.Option(help="Where the service keeps what it is told; unset: events.db in the run folder.")
]

_out = Console(highlight=False)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str) -> float:
    """A time such as 24h in seconds. Raises `UserError` for what is none, and for less than a minute.

    >>> seconds_of("24h"), seconds_of("90m")
    (86400.0, 5400.0)
    """
    number, unit = text[:-1], _UNITS.get(text[-1:])
    try:
        found = float(number) * unit if unit else 0.0
    except ValueError:
        found = 0.0
    if not 60 <= found < 10**9:
        raise UserError(f"'{text}' is no time from a minute on; write 90m, 24h or 7d")
    return found


@service.command()
def serve(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file of serving settings.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a serving setting.")] = None,
    retrain_every: Annotated[
        str | None, typer.Option(help="Train a new version again and again, e.g. every 24h, 90m or 7d.")
    ] = None,
) -> None:
    """Serve a trained run: an API, and a page to try it."""
    from corella.serving.serve import serve
    from corella.serving.settings import load_serving_settings

    settings = load_serving_settings(config, overrides or ())
    seconds = None if retrain_every is None else seconds_of(retrain_every)
    _out.print(f"loading {run}; then http://{settings.host}:{settings.port}", markup=False)
    serve(run, settings, seconds)


@service.command("serve-llm")
def serve_llm(
    run: Annotated[Path, typer.Argument(help="The run folder that the services serve, or a copy of it.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file of settings.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a setting.")] = None,
) -> None:
    """Serve a run's language model alone, for services elsewhere (their `llm_url`)."""
    from corella.serving.worker.serve import serve_llm
    from corella.serving.worker.settings import load_worker_settings

    settings = load_worker_settings(config, overrides or ())
    _out.print(f"loading {run}; then http://{settings.host}:{settings.port}", markup=False)
    serve_llm(run, settings)


@service.command()
def export(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder, or an earlier export.")],
) -> None:
    """Write one folder that serves elsewhere, LoRA merged into the language model; an earlier export is replaced."""
    from corella.serving.export import export
    from corella.serving.versions.folder import Versions

    known = Versions(run)
    export(known.folder(known.serving), folder)
    _out.print(f"{folder}: corella serve {folder}", markup=False)


@service.command("make-key")
def make_key(
    file: Annotated[Path, typer.Argument(help="File of keys; made if need be.")],
    name: Annotated[str, typer.Option(help="Who will use it.")],
    scope: Annotated[str, typer.Option(help="read, write (which may read too) or admin (which may do all).")] = "read",
    weight: Annotated[
        float,
        typer.Option(help="How much events of this key count for other users, 0 to 1; 0 for a key that a page has."),
    ] = 1.0,
) -> None:
    """Make an API key. It is printed once; the file holds its hash. A service that runs takes it at once."""
    from corella.serving.http.keys import make_key

    print(make_key(file, name, scope, weight))


@service.command("revoke-key")
def revoke_key(
    file: Annotated[Path, typer.Argument(help="File of keys.")],
    name: Annotated[str, typer.Option(help="Whose key.")],
) -> None:
    """Take an API key out of a file of keys. A service that runs lets it in no more."""
    from corella.serving.http.keys import revoke_key

    revoke_key(file, name)


@service.command("export-events")
def export_events(
    run: Run, out: Annotated[Path, typer.Argument(help="A .parquet, .csv or .jsonl file.")], store: StoreURL = None
) -> None:
    """Write what the service was told as a table: the events in force, without those that were taken back or erased."""
    from corella.runs.folder import RunFolder
    from corella.serving.store.log import open_store
    from corella.serving.versions.told import export_events

    opened = open_store(store or str(RunFolder(run).events))
    _out.print(f"{export_events(opened, out):,} events written to {out}", markup=False)
    opened.close()


@service.command("off-policy")
def off_policy(
    run: Run, share: Annotated[list[float], typer.Option(help="Budgets of the language model, e.g. 0 and 0.05.")],
    outcome: Annotated[list[str], typer.Option(help="Kinds of events that count.")] = ["click", "buy", "like"],  # noqa: B006
    hours: Annotated[float, typer.Option(help="How long after a page they count.")] = 24.0, store: StoreURL = None,
) -> None:  # fmt: skip
    """What other budgets of the language model would have earned, from pages that were shown by lot (`explore`)."""
    from corella.ranking.io import load_ranking
    from corella.runs.folder import RunFolder
    from corella.serving.store.log import all_records, open_store
    from corella.serving.trial.policy import value_of
    from corella.serving.trial.wording import value_in_words
    from corella.serving.versions.folder import Versions

    opened = open_store(store or str(RunFolder(run).events))
    records = all_records(opened)
    opened.close()
    known = Versions(run)
    router = load_ranking(RunFolder(known.folder(known.serving)).model).router
    for wanted in share:
        found = value_of(records, router.threshold(wanted), outcome, hours)
        _out.print(f"share {wanted:g}: {value_in_words(found)}", markup=False)


@service.command()
def retrain(
    run: Run,
    store: StoreURL = None,
    repeats: Annotated[
        str, typer.Option(help="Which of several answers of a user to an item counts, as in the service: last, first.")
    ] = "last",
) -> None:
    """Train a new version on the run's log and what its service was told, and let it serve unless it is worse. A
    service that runs takes it without a pause. Killed at any moment, the same command resumes."""
    from corella.errors import UserError
    from corella.runs.folder import RunFolder
    from corella.serving.store.log import open_store
    from corella.serving.versions.retrain import retrain
    from corella.serving.versions.wording import verdict

    if repeats not in ("last", "first"):
        raise UserError(f"--repeats: last or first, not {repeats!r}")
    opened = open_store(store or str(RunFolder(run).events))
    _out.print(verdict(retrain(run, opened, repeats=repeats)), markup=False)
    opened.close()


@service.command()
def versions(run: Run) -> None:
    """List the versions of a run's model, and which one serves."""
    from corella.serving.versions.folder import Versions
    from corella.serving.versions.wording import described

    known = Versions(run)
    for name in known.names():
        serves = " (serves)" if name == known.serving else ""
        _out.print(f"{described(known.version(name))}{serves}", markup=False)


@service.command()
def rollback(
    run: Run,
    to: Annotated[str | None, typer.Option(help="A version; unset: the one before the one that serves.")] = None,
) -> None:
    """Let an earlier version of a run's model serve. A service that runs takes it without a pause."""
    from corella.serving.versions.folder import Versions

    known = Versions(run)
    names = known.names()
    before = names[: names.index(known.serving)] if known.serving in names else names
    if to is None and not before:
        raise UserError(f"{run}: version {known.serving} serves, and there is none before it")
    name = to if to is not None else before[-1]
    known.serve(name)
    _out.print(f"version {name} serves", markup=False)

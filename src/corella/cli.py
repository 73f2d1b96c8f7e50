"""The command line. No logic of its own: it reads arguments, calls `corella.runs`, and prints what came back."""

import errno
import sys
import textwrap
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corella.cli_scale import Gpus, Processes, RayAddress, Share, scale
from corella.cli_service import service
from corella.config import Config, Section
from corella.config.loading import describe, load_config, to_yaml
from corella.errors import UserError
from corella.runs.settings import OURS, named_config, run_config

app = typer.Typer(
    help="A recommender that asks a language model only when it pays.", no_args_is_help=True,
    pretty_exceptions_enable=False,
)  # fmt: skip

ConfigPath = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file of settings; see `corella explain-config`.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", "-s", help="Override one setting: section.key=value.")]
RunFolder = Annotated[Path, typer.Option("--run", "-r", help="The run folder.")]
_RUN = Path("run")

_out = Console(highlight=False)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _print_version(asked: bool) -> None:
    if asked:
        import corella

        print(f"corella {corella.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """Options of no command."""


@app.command()
def doctor() -> None:
    """What this machine has and what is missing, with the commands that mend it. Ends with 1 where nothing works."""
    from corella.doctor import examine

    broken = False
    for found in examine():
        _out.print(f"[{'yellow' if found.mend else 'green'}]{found.what:22}[/] {escape(found.said)}", soft_wrap=True)
        if found.mend:
            _out.print(f"{'':22} to mend: {escape(found.mend)}", soft_wrap=True)
        broken |= found.needed and bool(found.mend)
    if broken:
        raise typer.Exit(1)


@app.command()
def demo(run: RunFolder = Path("runs/demo"), overrides: Overrides = None) -> None:
    """Train, route, retrieve, evaluate and report on MovieLens-100K with SmolLM2-135M, in minutes on two cores."""
    from corella.progress import peak_gib
    from corella.report.terminal import print_metrics
    from corella.runs.demo import demo_config
    from corella.runs.evaluate import evaluate_run
    from corella.runs.train import train_retrieval, train_run

    began, config = time.monotonic(), demo_config(overrides or ())
    model = train_run(run, config)
    train_retrieval(run, config)
    print_metrics(_out, evaluate_run(run, model))
    _out.print(f"demo: {time.monotonic() - began:.0f} s, peak memory {peak_gib():.1f} GiB; open {run / 'report.html'}")
    _out.print(f"then try it in a browser: corella serve {run} --set clock=log", markup=False)


@app.command()
def init(
    paths: Annotated[list[Path], typer.Argument(help="Your files, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The YAML to write.")] = OURS,
    force: Annotated[bool, typer.Option("--force", help="Over a file that is there.")] = False,
) -> None:
    """Guess which file holds what, and write the settings: look at them, then `corella train`."""
    from corella.data.guessing.settings import write_settings
    from corella.files import write_text

    if out.exists() and not force:
        raise UserError(f"{out} is there already; give --out another name, or --force")
    text, told = write_settings(paths)
    for line in told:
        _out.print(line, markup=False, soft_wrap=True)
    write_text(out, text)
    _out.print(f"{out} is written: look at it, then `corella prepare` or `corella train`", markup=False, soft_wrap=True)


@app.command()
def prepare(
    config: ConfigPath = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder, or URL of a store, for the dataset; unset: the cache.")
    ] = None,
    processes: Processes = 0,
    ray: RayAddress = None,
    overrides: Overrides = None,
) -> None:
    """Read, check, order, split and count; say what was kept and dropped, and why. With `data.memory` set, in parts on
    disk, which --workers or --ray may share: killed at any moment, the same command resumes."""
    from corella.data.prepare import prepared_folder
    from corella.data.store import load_told
    from corella.data.tables.remote import sent
    from corella.progress import Reporter
    from corella.report.terminal import print_prepared
    from corella.tasks.running import Workers

    away = out is not None and "://" in out
    folder = prepared_folder(
        named_config(config, overrides), None if away else out, Reporter(), Workers(processes, ray)
    )
    print_prepared(_out, *load_told(folder))
    if out is not None and away:
        _out.print(f"{sent(folder, out):,} files written to {out}", soft_wrap=True)


@app.command()
def train(
    run: RunFolder = _RUN,
    config: ConfigPath = None,
    overrides: Overrides = None,
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, help="Processes of this machine that share every batch.")
    ] = 1,
) -> None:
    """Train into a run folder. Killed at any moment, the same command resumes."""
    settings = run_config(run, config, overrides)
    if workers > 1:
        from corella.scale.launch import launch

        given = ["--config", str(config)] if config is not None else []
        return launch(["train", "--run", str(run), *given, *(f"--set={text}" for text in overrides or ())], workers)
    from corella.runs.train import train_run

    train_run(run, settings)


@app.command("train-retrieval")
def train_retrieval(run: RunFolder = _RUN, config: ConfigPath = None, overrides: Overrides = None) -> None:
    """Train the retrieval, which finds candidates among all items, into the same run folder."""
    from corella.runs.train import train_retrieval

    train_retrieval(run, run_config(run, config, overrides))


@app.command()
def recommend(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    user: Annotated[str | None, typer.Option("--user", "-u", help="The user's id.")] = None,
    users: Annotated[
        Path | None, typer.Option(help="Instead: files with a column user_id (a file, folder or pattern).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="For --users: folder of Parquet to write.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 20,
    candidates: Annotated[int, typer.Option(min=1, help="How many retrieved items are ranked.")] = 100,
    share: Share = None,
    processes: Processes = 0,
    ray: RayAddress = None,
    gpus: Gpus = 0,
) -> None:
    """The best items for a user: retrieved, ranked, and who said what of them. Or for all users of a table, in parts
    that are made once each: killed at any moment, the same command resumes."""
    if users is not None and user is None and out is not None:
        from corella.scale.everybody import recommend_everybody
        from corella.tasks.running import Workers

        made = recommend_everybody(run, users, out, k, candidates, share, Workers(processes, ray, gpus=gpus))
        _out.print(f"{made.lists:,} lists for {made.users:,} users written to {out}")
        return
    if user is None or users is not None or out is not None:
        raise UserError("say --user ID for one user, or --users FILE and --out FOLDER for many")
    from corella.runs.train import load_recommender

    table = Table("item", "text", "retrieved at", "probability", "CRM", "language model")
    for row in load_recommender(run).recommend(user, k, candidates, share):
        said = (row.probability, row.crm_probability, row.llm_probability)
        place = "" if row.retrieved_at is None else str(row.retrieved_at)
        table.add_row(escape(row.item_id), escape(row.text), place, *("" if p is None else f"{p:.3f}" for p in said))
    _out.print(table)


@app.command()
def evaluate(
    run: RunFolder = _RUN,
    outside: Annotated[
        Path | None, typer.Option(help="Table with user_id, item_id, probability of another conventional model.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Evaluate a trained run on its test rows: metrics.json and, of a ranking, predictions.parquet and report.html."""
    from corella.report.terminal import print_metrics
    from corella.runs.evaluate import evaluate_run

    print_metrics(_out, evaluate_run(run, outside=outside, overrides=overrides or ()))


@app.command()
def report(run: RunFolder = _RUN) -> None:
    """Draw report.html anew from metrics.json and predictions.parquet."""
    from corella.runs.evaluate import write_report

    write_report(run)
    _out.print(str(run / "report.html"))


@app.command("explain-config")
def explain_config(
    config: ConfigPath = None,
    overrides: Overrides = None,
    resolved: Annotated[bool, typer.Option(help="Print the resolved configuration as YAML instead.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also the settings that hardly anybody needs.")] = False,
    serving: Annotated[bool, typer.Option(help="The settings of `corella serve` instead.")] = False,
    serving_llm: Annotated[bool, typer.Option(help="The settings of `corella serve-llm` instead.")] = False,
) -> None:
    """The settings, with their defaults and what they do."""
    if resolved or config or overrides:
        print(to_yaml(load_config(config, overrides or ())), end="")
        return
    width = min(_out.width, 110)
    kind: type[Section] = Config
    if serving:
        from corella.serving.settings import ServingSettings as kind  # noqa: N813
    if serving_llm:
        from corella.serving.worker.settings import WorkerSettings as kind  # noqa: N813
    settings = describe(kind)
    shown = [setting for setting in settings if everything or not setting.advanced]
    for setting in shown:
        _out.print(f"[bold]{setting.name}[/bold]", end="")
        _out.print(f" = {setting.default}", markup=False)
        print(textwrap.fill(setting.text, width, initial_indent="    ", subsequent_indent="    "))
    if len(shown) < len(settings):
        _out.print(f"{len(settings) - len(shown)} more that hardly anybody needs: corella explain-config --all")


app.add_typer(scale)
app.add_typer(service)


def main() -> None:
    """Entry point: the user's mistakes end with their message and exit code 2, an interruption with 130."""
    try:
        code = app(standalone_mode=False)
        if code == 130:
            raise KeyboardInterrupt
        if code:
            sys.exit(code)
    except UserError as error:
        print(f"corella: {error}", file=sys.stderr)
        sys.exit(2)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        print("corella: interrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output wants no more
        sys.exit(1)
    except Exception as error:
        import os
        import traceback

        if os.environ.get("CORELLA_TRACEBACK"):
            traceback.print_exc()
        if type(error).__module__.startswith("click") or hasattr(error, "format_message"):
            print(f"corella: {error.format_message()}", file=sys.stderr)  # type: ignore[attr-defined]
            sys.exit(2)
        if isinstance(error, OSError) and (error.filename or error.errno in _FULL):  # the system refuses a file
            where = f"{error.filename}: " if error.filename else ""
            print(f"corella: {where}{error.strerror}", file=sys.stderr)
            sys.exit(2)
        print(
            f"corella: internal error: {type(error).__name__}: {error} (set CORELLA_TRACEBACK=1 for the traceback)",
            file=sys.stderr,
        )
        sys.exit(1)

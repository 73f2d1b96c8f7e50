"""Commands of many rows and many machines: scoring by partitions; how many machines, and at which price."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

scale = typer.Typer()

Share = Annotated[float | None, typer.Option(min=0, max=1, help="Share of rows to route; unset: as the run serves.")]
Processes = Annotated[int, typer.Option("--workers", min=0, help="Processes that share the partitions.")]
RayAddress = Annotated[str | None, typer.Option("--ray", help="Ray instead: an address, `auto`, or `local`.")]
Gpus = Annotated[float, typer.Option(min=0, help="GPUs that Ray gives each language model.")]

_out = Console(highlight=False)


@scale.command()
def plan(
    users: Annotated[float | None, typer.Option(help="Users that the service knows, e.g. 1e8.")] = None,
    items: Annotated[float | None, typer.Option(help="Items of the catalogue.")] = None,
    requests: Annotated[float | None, typer.Option(help="Requests a second, at the busiest hour.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML with sections load, machines and costs.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Override one number: section.key=value.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Every number that the plan is made from, and end.")
    ] = False,
) -> None:
    """Machines, GPUs and money for a load, from costs measured here; what breaks first, and what to do about it."""
    from corella.capacity.plan import make_plan
    from corella.capacity.settings import PlanSettings, read_plan_settings
    from corella.capacity.wording import PARTS, WALLS, claims, first, limits, parts
    from corella.config.loading import describe

    given = {"users": users, "items": items, "requests": requests}
    if explain:
        given = {name: value or 1.0 for name, value in given.items()}
    asked = read_plan_settings(config, overrides or (), **{n: value for n, value in given.items() if value is not None})
    if explain:
        values = asked.model_dump()
        for setting in describe(PlanSettings):
            section, _, name = setting.name.partition(".")
            if name:
                _out.print(f"{setting.name} = {values[section][name]:g}: {setting.text}", markup=False, soft_wrap=True)
        return
    found = make_plan(asked)
    for heads, rows in ((PARTS, parts(found)), (WALLS, limits(found))):
        table = Table(*heads)
        for row in rows:
            table.add_row(*map(escape, row))
        _out.print(table)
    for sentence in (*claims(found), first(found)):
        _out.print(sentence, markup=False, soft_wrap=True)
    _out.print("Prices, and all of `load` that was not given, are assumed: corella plan --explain", markup=False)


@scale.command()
def score(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    rows: Annotated[
        Path, typer.Argument(help="user_id, item_id and, if you like, timestamp: a file, or a folder of Parquet.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet or text file to write; of a folder, a folder.")],
    share: Share = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace columns of the input that are called as the scores are.")
    ] = False,
    processes: Processes = 0,
    ray: RayAddress = None,
    gpus: Gpus = 0,
) -> None:
    """Score new rows: every column of the input, and beside them the probability and who gave it. Parts of a folder are
    made once each: killed at any moment, the same command resumes."""
    from corella.scale.partitions import is_partitioned

    if processes or ray is not None or is_partitioned(rows):
        from corella.scale.everybody import score_everybody
        from corella.tasks.running import Workers

        done = score_everybody(run, rows, out, share, Workers(processes, ray, gpus=gpus), overwrite)
        _out.print(f"{done.rows:,} rows written to {out}, {done.routed:,} of them routed")
        return
    from corella.runs.score import score_file

    _out.print(f"{score_file(run, rows, out, share, overwrite=overwrite):,} rows written to {out}")

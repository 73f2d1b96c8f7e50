"""A ranking benchmark from raw files to docs/benchmarks/NAME.{json,md}: every baseline, control, variant and curve.

    python benchmarks/ranking.py ml-100k
    python benchmarks/ranking.py ml-1m-collm --path FOLDER --form full

Resumable: each run and each conventional model is kept in the runs folder; call again after a kill.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import run, write_result
from conventional import conventional_rows
from corella.collaboration.system import FORMAT
from corella.config import Config
from corella.errors import UserError, suggest
from corella.files import read_json
from corella.run import evaluate_run, start_run, train_run
from corella.settings import load_config
from definitions import BENCHMARKS, Settings
from page import ranking_page
from summary import cost, differences, figures, groups, rows, variant_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--path", type=Path, help="folder of the raw files (ml-100k needs none)")
    parser.add_argument("--form", choices=["quick", "full"], default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variant-seeds", type=int, nargs="+", help="seeds of the variants; default: those of --seeds")
    parser.add_argument("--parts", nargs="*", help="beside the main runs: `conventional` and variants; default all")
    parser.add_argument("--runs", type=Path, help="default: runs/bench-NAME-FORM")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--again", action="store_true", help="evaluate anew, without training again")
    arguments = parser.parse_args()
    bench = BENCHMARKS[arguments.name]
    runs: Path = arguments.runs or Path(f"runs/bench-{arguments.name}-{arguments.form}")
    base = [bench.settings, getattr(bench, arguments.form)]
    if arguments.path is not None:
        base.append({"data": {"path": str(arguments.path)}})

    def results_of(folder: str, seeds: Sequence[int], *more: Settings) -> list[dict[str, Any]]:
        parts = [*base, *more]
        configs = {seed: config(seed, parts, arguments.overrides) for seed in seeds}
        return [result_of(runs / folder / f"seed-{s}", c, arguments.again) for s, c in configs.items()]

    results = results_of("main", arguments.seeds)
    first = config(arguments.seeds[0], base, arguments.overrides)
    table = rows(results)
    variant_seeds = arguments.variant_seeds or arguments.seeds
    parts = ["conventional", *bench.variants] if arguments.parts is None else arguments.parts
    unknown = [part for part in parts if part not in ("conventional", *bench.variants)]
    if unknown:
        raise UserError(f"no part '{unknown[0]}'; {suggest(unknown[0], ['conventional', *bench.variants])}")
    if "conventional" in parts:
        table += conventional_rows(arguments.name, first, runs / "conventional")
    for name in (name for name in bench.variants if name in parts):
        variant = bench.variants[name]
        quick = variant.quick if arguments.form == "quick" else {}
        folder = re.sub(r"\W+", "-", name)
        table += variant_rows(name, variant.systems, results_of(folder, variant_seeds, variant.settings, quick))
    table += [{"part": "published", **row} for row in bench.published]
    facts = {
        "form": arguments.form, "seeds": arguments.seeds, "settings": merged(base),
        "overrides": arguments.overrides, "cost": cost(results),
        "differences": differences(results), "groups": groups(results),
    }  # fmt: skip
    write_result(arguments.name, bench.title, bench.text, table, figures(results, table), facts, ranking_page)


def config(seed: int, parts: Sequence[Settings], overrides: Sequence[str]) -> Config:
    """The configuration of a seed."""
    return load_config(overrides=overrides, settings={"seed": seed, **merged(parts)})


def merged(parts: Sequence[Settings]) -> Settings:
    """Settings with later parts over earlier ones, section by section."""
    result: Settings = {}
    for part in parts:
        for name, value in part.items():
            result[name] = {**result.get(name, {}), **value} if isinstance(value, dict) else value
    return result


def result_of(run: Path, configuration: Config, again: bool) -> dict[str, Any]:
    """The metrics of a run, which is trained and evaluated where it is not yet."""
    start_run(run, configuration)  # or the mistake that the folder holds a run with other settings
    manifest = run / "model" / "manifest.json"
    if manifest.is_file() and read_json(manifest).get("format") != FORMAT:
        raise UserError(f"{run} was trained by an earlier version; delete it or choose another folder for the runs")
    if again or not (run / "metrics.json").is_file():
        evaluate_run(run, train_run(run, configuration))
    metrics: dict[str, Any] = read_json(run / "metrics.json")
    return metrics


if __name__ == "__main__":
    run(main)

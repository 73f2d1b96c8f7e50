"""A ranking benchmark from raw files to docs/benchmarks/NAME.{json,md}: every baseline, control, variant and curve.

    python benchmarks/ranking.py ml-100k
    python benchmarks/ranking.py ml-1m-collm --path FOLDER --form full

Resumable: each run and each conventional model is kept in the runs folder; call again after a kill.
"""

import argparse
import re
import shutil
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
from definitions import BENCHMARKS, REFERENCE, Settings
from page import ranking_page
from summary import ROLES, cost, differences, figures, groups, rows, variant_differences, variant_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--path", type=Path, help="folder of the raw files (ml-100k needs none)")
    parser.add_argument("--form", choices=["quick", "full"], default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variant-seeds", type=int, nargs="+", help="seeds of the variants; default: those of --seeds")
    parser.add_argument("--conventional-seeds", type=int, nargs="+", default=[1, 2, 3])
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

    def folders_of(folder: str, seeds: Sequence[int]) -> list[Path]:
        return [runs / folder / f"seed-{seed}" for seed in seeds]

    results = results_of("main", arguments.seeds)
    first = config(arguments.seeds[0], base, arguments.overrides)
    table = rows(results)
    variant_seeds = arguments.variant_seeds or arguments.seeds
    parts = ["conventional", *bench.variants] if arguments.parts is None else arguments.parts
    unknown = [part for part in parts if part not in ("conventional", *bench.variants)]
    if unknown:
        raise UserError(f"no part '{unknown[0]}'; {suggest(unknown[0], ['conventional', *bench.variants])}")
    if "conventional" in parts:
        table += conventional_rows(arguments.name, first, runs / "conventional", arguments.conventional_seeds)
    compared = differences(results)
    for name in (name for name in bench.variants if name in parts):
        variant = bench.variants[name]
        quick = variant.quick if arguments.form == "quick" else {}
        folder, mains = _folder(name), folders_of("main", variant_seeds)
        if not (variant.settings or quick):
            folder = "main"  # the full form leaves nothing out
        if variant.from_main:
            results_of("main", variant_seeds)
            for main_run, run in zip(mains, folders_of(folder, variant_seeds), strict=True):
                start_from(main_run, run)
        table += variant_rows(name, variant.systems, results_of(folder, variant_seeds, variant.settings, quick))
        other, others = ("main run", mains) if not quick else (REFERENCE, folders_of(_folder(REFERENCE), variant_seeds))
        pairs = list(zip(folders_of(folder, variant_seeds), others, strict=True))
        shared = [system for system in variant.systems if system in ROLES]
        if folder not in ("main", _folder(REFERENCE)) and all((o / "metrics.json").is_file() for o in others):
            compared += variant_differences(name, other, shared, pairs)
    table += [{"part": "published", **row} for row in bench.published]
    facts = {
        "form": arguments.form, "seeds": arguments.seeds, "settings": merged(base),
        "overrides": arguments.overrides, "cost": cost(results),
        "differences": compared, "groups": groups(results),
    }  # fmt: skip
    write_result(arguments.name, bench.title, bench.text, table, figures(results, table), facts, ranking_page)


def _folder(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def start_from(main_run: Path, run: Path) -> None:
    """Give a run that trains the same language model the main run's checkpoints, unless it has its own."""
    if not (run / "checkpoints").exists():
        kept = shutil.ignore_patterns("fingerprint.json")
        shutil.copytree(main_run / "checkpoints", run / "checkpoints", ignore=kept)


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

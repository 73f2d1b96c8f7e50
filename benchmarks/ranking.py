"""A ranking benchmark from raw files to docs/benchmarks/NAME.{json,md} and its pictures: every baseline, control,
variant and curve.

    python benchmarks/ranking.py ml-100k
    python benchmarks/ranking.py ml-1m-collm --path FOLDER --form full

Resumable: each run and each conventional model is kept in the runs folder; call again after a kill. `--parts` measures
a part of the page anew and keeps its other parts as they are, each with the commit that it was measured at.
"""

import argparse
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import DOCS, commit, run, union, write_result
from conventional import conventional_rows
from corella.collaboration.system import FORMAT
from corella.config import Config
from corella.errors import UserError, suggest
from corella.files import new_folder, read_json, write_json, write_text
from corella.run import evaluate_run, start_run, train_run
from corella.settings import changed, load_config
from definitions import BENCHMARKS, MAIN, Benchmark, Settings
from page import ranking_page
from parts import kept_parts
from pictures import pictures
from summary import (
    ROLES,
    cost,
    differences,
    figures,
    groups,
    rows,
    table_figures,
    variant_differences,
    variant_rows,
)

CONVENTIONAL = "conventional"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--path", type=Path, help="folder of the raw files (ml-100k needs none)")
    parser.add_argument("--form", choices=["quick", "full"], default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variant-seeds", type=int, nargs="+", help="seeds of the variants; default: those of --seeds")
    parser.add_argument("--conventional-seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--parts", nargs="+", help=f"`{MAIN}`, `{CONVENTIONAL}` and names of variants; default all")
    parser.add_argument("--runs", type=Path, help="default: runs/bench-NAME-FORM")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--again", action="store_true", help="evaluate anew, without training again")
    arguments = parser.parse_args()
    bench = BENCHMARKS[arguments.name]
    known = [MAIN, CONVENTIONAL, *bench.variants]
    parts = arguments.parts or known
    for part in set(parts) - set(known):
        raise UserError(f"no part '{part}'; {suggest(part, known)}")
    folder: Path = arguments.runs or Path(f"runs/bench-{arguments.name}-{arguments.form}")
    runs = Runs(bench, arguments.form, arguments.path, folder, arguments.overrides, arguments.again)
    seeds, variant_seeds = arguments.seeds, arguments.variant_seeds or arguments.seeds
    shape = {
        "form": arguments.form,
        "settings": merged([bench.settings, getattr(bench, arguments.form)]),  # without paths
        "overrides": arguments.overrides,
    }
    earlier = DOCS / f"{arguments.name}.json"
    page = kept_parts(read_json(earlier) if earlier.is_file() else {}, shape, known)
    if MAIN in parts:
        results = runs.results(MAIN, seeds)
        page.put(MAIN, runs.commits(MAIN, seeds), rows(results), differences(results))
        page.main = {"seeds": seeds, "cost": cost(results), "groups": groups(results), "figures": figures(results)}
    if CONVENTIONAL in parts:
        first = runs.config(MAIN, seeds[0])
        table, at = conventional_rows(arguments.name, first, folder / CONVENTIONAL, arguments.conventional_seeds)
        page.put(CONVENTIONAL, at, table)
    for name in (name for name in bench.variants if name in parts):
        variant, each = bench.variants[name], runs.results(name, variant_seeds)
        compared = []
        if variant.against is not None:
            runs.results(variant.against, variant_seeds)
            pairs = [(runs.place(name, seed), runs.place(variant.against, seed)) for seed in variant_seeds]
            roles = [system for system in variant.systems if system in ROLES]
            compared = variant_differences(name, variant.against, roles, pairs)
        page.put(name, runs.commits(name, variant_seeds), variant_rows(name, variant.systems, each), compared)
    if not page.main:
        raise UserError(f"{earlier} has no main run with these settings; add '{MAIN}' to --parts")
    page = page.ordered(known)
    table = [*page.rows, *({"part": "published", "table": "published", **row} for row in bench.published)]
    facts = {**shape, **page.main, "commits": page.commits, "differences": page.differences}
    named = page.main["figures"] | table_figures(table, page.main["figures"])
    result = write_result(arguments.name, bench.title, bench.text, table, named, facts, ranking_page)
    for name, svg in pictures(result).items():
        write_text(DOCS / f"{arguments.name}-{name}.svg", svg)


@dataclass
class Runs:
    """The runs of a benchmark, by `MAIN` or the variant's name; trained and evaluated when they are asked for."""

    bench: Benchmark
    form: str
    path: Path | None
    folder: Path
    overrides: Sequence[str]
    again: bool
    done: dict[Path, dict[str, Any]] = field(default_factory=dict)

    @property
    def base(self) -> list[Settings]:
        """The main run's settings."""
        data = [] if self.path is None else [{"data": {"path": str(self.path)}}]
        return [self.bench.settings, getattr(self.bench, self.form), *data]

    def own(self, name: str) -> list[Settings]:
        """What a variant adds to them."""
        if name == MAIN:
            return []
        variant = self.bench.variants[name]
        return [part for part in (variant.settings, variant.quick if self.form == "quick" else {}) if part]

    def config(self, name: str, seed: int) -> Config:
        """The configuration of a run."""
        return config(seed, [*self.base, *self.own(name)], self.overrides)

    def place(self, name: str, seed: int) -> Path:
        """The folder of a run; a variant that changes nothing is the main run (in the full form, the reference)."""
        kind = re.sub(r"\W+", "-", name) if self.own(name) else "main"
        return self.folder / kind / f"seed-{seed}"

    def commits(self, name: str, seeds: Sequence[int]) -> str:
        """Where its runs were started."""
        return union(read_json(self.place(name, seed) / "commit.json")["commit"] for seed in seeds)

    def results(self, name: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Metrics of a run, one a seed."""
        return [self._result(name, seed) for seed in seeds]

    def _result(self, name: str, seed: int) -> dict[str, Any]:
        place = self.place(name, seed)
        if place not in self.done:
            configuration = self.config(name, seed)
            start_run(place, configuration)  # or the mistake that the folder holds a run with other settings
            if not (place / "commit.json").is_file():
                write_json(place / "commit.json", {"commit": commit()})
            if name != MAIN and self.bench.variants[name].from_main:
                self.results(MAIN, [seed])
                start_from(self.place(MAIN, seed), place)
            manifest = place / "model" / "manifest.json"
            if manifest.is_file() and read_json(manifest).get("format") != FORMAT:
                raise UserError(f"{place} was trained by an earlier version; delete it or choose another folder")
            if self.again or not (place / "metrics.json").is_file():
                evaluate_run(place, train_run(place, configuration))
            self.done[place] = read_json(place / "metrics.json")
        return self.done[place]


def start_from(source: Path, target: Path) -> None:
    """Give a run without checkpoints those of another run that differs in its distillation alone."""
    if (target / "checkpoints").exists() or (target / "metrics.json").is_file():
        return
    other = changed(*(load_config(place / "config.yaml") for place in (source, target)))
    if any(not name.startswith("joint.distil") for name in other):
        raise UserError(f"{target} differs from {source} in more than its distillation")
    with new_folder(target / "checkpoints") as folder:
        for file in (source / "checkpoints").iterdir():
            if file.name != "fingerprint.json":  # the run writes its own
                shutil.copy2(file, folder)


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


if __name__ == "__main__":
    run(main)

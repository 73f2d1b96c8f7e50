"""A ranking benchmark from raw files to docs/benchmarks/NAME.{json,md} and its pictures: every baseline, control,
variant and curve.

    python benchmarks/ranking.py ml-100k
    python benchmarks/ranking.py ml-1m-collm --path FOLDER --form full

Resumable: each run and each conventional model is kept in the runs folder; call again after a kill. `--parts` measures
a part of the page anew and keeps its other parts as they are, each with the commit that it was measured at.
"""

import argparse
from pathlib import Path

import polars as pl

from common import DOCS, run, write_result
from conventional import measure_conventional
from corella.errors import UserError, suggest
from corella.files import read_json, write_text
from definitions import BENCHMARKS, MAIN
from page import ranking_page
from parts import Part, kept_parts, without_stale
from pictures import pictures
from runs import Runs, merged
from summary import (
    ROLES,
    VARIANT_FIGURES,
    cost,
    differences,
    figures,
    groups,
    inner_difference,
    list_rows,
    mean_difference,
    paired_difference,
    rows,
    run_scores,
    table_figures,
    variant_differences,
    variant_rows,
)
from third import third_control

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
    measured = {part: _measured(part, runs, arguments) for part in known if part in parts}
    _write(arguments, runs, known, measured)


def _measured(name: str, runs: Runs, arguments: argparse.Namespace) -> Part:
    """A part of the page."""
    if name == MAIN:
        results = runs.results(MAIN, arguments.seeds)
        facts = {
            "seeds": arguments.seeds, "machine": results[0]["machine"], "cost": cost(results),
            "groups": groups(results), "figures": figures(results),
        }  # fmt: skip
        table = [*rows(results), *list_rows(results)]
        return Part(runs.commits(MAIN, arguments.seeds), table, differences(results), facts)
    if name == CONVENTIONAL:
        return _conventional(runs, arguments)
    variant, seeds = runs.bench.variants[name], arguments.variant_seeds or arguments.seeds
    found = variant_rows(name, variant.systems, runs.results(name, seeds))
    places = [runs.place(name, seed) for seed in seeds]
    compared = [inner_difference(name, a, b, places) for a, b in variant.within]
    if variant.against is not None:
        runs.results(variant.against, seeds)
        pairs = [(place, runs.place(variant.against, seed)) for place, seed in zip(places, seeds, strict=True)]
        roles = [system for system in variant.systems if system in ROLES]
        compared += variant_differences(name, variant.against, roles, pairs)
    return Part(runs.commits(name, seeds), found, compared)


def _conventional(runs: Runs, arguments: argparse.Namespace) -> Part:
    """All conventional models; where the main runs are there, the final system beside the best of them, and a third one
    in the language model's place."""
    seeds = arguments.conventional_seeds
    found = measure_conventional(
        arguments.name, runs.config(MAIN, arguments.seeds[0]), runs.folder / CONVENTIONAL, seeds
    )
    places = {n: runs.place(MAIN, seed) for n, seed in enumerate(seeds)}
    trained = {n: place for n, place in places.items() if (place / "predictions.parquet").is_file()}
    if not trained:
        return Part(found.commit, found.rows)
    best = [pl.read_parquet(found.scores[found.best][n]) for n in trained]
    finals = [run_scores(place, "final") for place in trained.values()]
    each = [paired_difference(final, rival) for final, rival in zip(finals, best, strict=True)]
    control, compared = third_control(found, trained)
    return Part(
        found.commit,
        [*found.rows, control],
        [{"a": found.best, "b": "final", **mean_difference(each)}, *compared],
    )


def _write(arguments: argparse.Namespace, runs: Runs, known: list[str], measured: dict[str, Part]) -> None:
    """Put the measured parts in the place of what the benchmark's page had of them, and draw it anew."""
    bench = runs.bench
    shape = {
        "form": arguments.form,
        "settings": merged([bench.settings, getattr(bench, arguments.form)]),  # without paths
        "overrides": arguments.overrides,
    }
    earlier = DOCS / f"{arguments.name}.json"
    # Read only now: another process may have measured another part meanwhile.
    kept = kept_parts(read_json(earlier) if earlier.is_file() else {}, shape, MAIN)
    fresh = without_stale(kept, measured, {CONVENTIONAL: MAIN, **runs.compared()})
    for name, part in fresh.items():
        if len(part.differences) < len(kept[name].differences):
            print(f"what '{name}' was compared with is measured anew: add it to --parts to compare it again")
    found = fresh | measured
    parts = {name: found[name] for name in known if name in found}
    if MAIN not in parts:
        raise UserError(f"{earlier} has no main run with these settings; add '{MAIN}' to --parts")
    main_facts = parts[MAIN].facts
    table = [{"part": name, **row} for name, part in parts.items() for row in part.rows]
    table += [{"part": "published", "table": "published", **row} for row in bench.published]
    facts = {
        **shape, **main_facts, "commits": {name: part.commit for name, part in parts.items()},
        "not_measured": [name for name in known if name not in parts], "comparable": bench.comparable,
        "differences": [{"part": name, **found} for name, part in parts.items() for found in part.differences],
    }  # fmt: skip
    own = {name: value for name, value in main_facts["figures"].items() if name not in VARIANT_FIGURES}
    named = own | table_figures(table, own)
    result = write_result(arguments.name, bench.title, bench.text, table, named, facts, ranking_page)
    for name, svg in pictures(result).items():
        write_text(DOCS / f"{arguments.name}-{name}.svg", svg)


if __name__ == "__main__":
    run(main)

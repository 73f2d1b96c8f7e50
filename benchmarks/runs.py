"""The runs of a ranking benchmark: trained and evaluated when they are asked for, kept, resumed after a kill."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import commit, read_metrics, union
from corella.config import Config
from corella.config.loading import changed, load_config
from corella.errors import UserError
from corella.files import new_folder, read_json, write_json
from corella.ranking.io import FORMAT
from corella.runs.evaluate import evaluate_run
from corella.runs.train import start_run, train_run
from definitions import MAIN, Benchmark, Settings

_ALL = 1000
"""More than all users of these datasets who have a list."""


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
        """The configuration of a run. The main run's lists alone are scored: no page shows a variant's."""
        own = self.own(name)
        return config(seed, [*self.base, *own, {"evaluation": {"slates": 0 if own else _ALL}}], self.overrides)

    def place(self, name: str, seed: int) -> Path:
        """The folder of a run; a variant that changes nothing is the main run (in the full form, the reference)."""
        kind = re.sub(r"\W+", "-", name) if self.own(name) else "main"
        return self.folder / kind / f"seed-{seed}"

    def compared(self) -> dict[str, str]:
        """What each variant is compared with; the reference, where it is the main run, by that name."""
        found = {name: v.against for name, v in self.bench.variants.items() if v.against is not None}
        return {name: other if self.own(other) else MAIN for name, other in found.items()}

    def commits(self, name: str, seeds: Sequence[int]) -> str:
        """Where its runs were started and evaluated."""
        return union(read_json(self.place(name, seed) / "commit.json")["commit"] for seed in seeds)

    def results(self, name: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Metrics of a run, one a seed."""
        return [self._result(name, seed) for seed in seeds]

    def _result(self, name: str, seed: int) -> dict[str, Any]:
        place = self.place(name, seed)
        if place not in self.done:
            configuration = self.config(name, seed)
            start_run(place, configuration, "model")  # or the mistake that the folder holds a run with other settings
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
                started = read_json(place / "commit.json")["commit"]
                write_json(place / "commit.json", {"commit": union([*started.split(", "), commit()])})
            self.done[place] = read_metrics(place)
        return self.done[place]


def start_from(source: Path, target: Path) -> None:
    """Give a run without checkpoints those of another run that differs in its distillation alone."""
    if (target / "checkpoints").exists() or (target / "metrics.json").is_file():
        return
    before, wanted = (load_config(place / "config.yaml").as_trained() for place in (source, target))
    if any(not name.startswith("joint.distil") for name in changed(before, wanted)):
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

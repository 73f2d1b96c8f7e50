"""Output that is made exactly once: a folder of files, and beside it a manifest of what each was made from.

`OUT` holds the finished files and nothing else, so that any reader takes it as one table. `OUT.manifest` holds
`origin.json` (the inputs and settings of all files), an entry for each file (its SHA-256, its size, facts) and, until
everything is finished, the files of earlier stages. A worker writes a file under a temporary name, renames it, then
writes its entry. A kill at any moment leaves a file with an entry, which is kept, or none, which is made again.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from corella.errors import UserError
from corella.files import alone, atomic_path, read_value, sha256, write_value
from corella.progress import Reporter
from corella.tasks.running import Workers, run_tasks

Task = TypeVar("Task")
Facts = dict[str, Any]
"""What a task tells of its output, as JSON."""
FINISHED = "finished"
"""The stage whose files are the output."""


@dataclass(frozen=True)
class Origin:
    """What an output is made from."""

    files: dict[str, str]
    """Of each input file, by path: what tells whether it changed (see `stamp`)."""
    settings: dict[str, str]


@dataclass(frozen=True)
class Entry:
    """A file that is made."""

    sha256: str
    bytes: int
    facts: Facts


@dataclass(frozen=True)
class _Job(Generic[Task]):
    make: Callable[[Task, Path], Facts]
    task: Task
    target: Path
    entry: Path


@dataclass(frozen=True)
class Output:
    """Where the files of every stage lie. Made by `output_folder`."""

    folder: Path
    manifest: Path

    def place(self, stage: str) -> Path:
        """The folder of a stage's files."""
        return self.folder if stage == FINISHED else self.manifest / "stages" / stage

    def made(self, stage: str, name: str) -> Entry | None:
        """The entry of a file that is there as it was made; None of any other."""
        entry, target = self._entry(stage, name), self.place(stage) / name
        if not (entry.is_file() and target.is_file()):
            return None
        found = read_value(entry, Entry)
        return found if target.stat().st_size == found.bytes and sha256(target) == found.sha256 else None

    def make(
        self,
        stage: str,
        function: Callable[[Task, Path], Facts],
        tasks: Mapping[str, Task],
        workers: Workers,
        reporter: Reporter | None = None,
    ) -> dict[str, Entry]:
        """Make the files of a stage that are not made yet; the entries of all, by name, in the order of `tasks`.

        `function` writes the file of its task to the path that it is given and returns facts; it stands at the top of a
        module, see `run_tasks`.
        """
        if self._forgotten(stage).is_file():
            return {name: read_value(self._entry(stage, name), Entry) for name in tasks}
        entries = {name: self.made(stage, name) for name in tasks}
        jobs = {
            name: _Job(function, tasks[name], self.place(stage) / name, self._entry(stage, name))
            for name, entry in entries.items()
            if entry is None
        }
        names = list(jobs)
        for n, entry in run_tasks(_make, list(jobs.values()), workers, stage, reporter) if jobs else ():
            entries[names[n]] = entry
        return {name: entry for name, entry in entries.items() if entry is not None}

    def forget(self, stage: str) -> None:
        """Remove the files of a stage that nobody will read again; what is told of them stays."""
        write_value(self._forgotten(stage), Entry("", 0, {}))
        shutil.rmtree(self.place(stage), ignore_errors=True)

    def finish(self) -> None:
        """Remove the files of earlier stages, and what killed workers left."""
        self.clear()
        shutil.rmtree(self.manifest / "stages", ignore_errors=True)

    def clear(self) -> None:
        """Remove half-written files; nobody writes now."""
        for place in (self.folder, self.manifest):
            for left in place.rglob(".*.tmp"):
                left.unlink(missing_ok=True)

    def _forgotten(self, stage: str) -> Path:
        return self.manifest / "stages" / f"{stage}.forgotten.json"

    def _entry(self, stage: str, name: str) -> Path:
        inside = self.manifest / FINISHED if stage == FINISHED else self.manifest / "stages" / f"{stage}.made"
        return inside / f"{name}.json"


@contextmanager
def output_folder(folder: Path, origin: Origin) -> Iterator[Output]:
    """The output of `origin` in `folder`, new or begun before; no second process works on it.

    Raises `UserError` for a folder that holds something else, or that was begun with other inputs or settings.
    """
    output = Output(folder, folder.with_name(f"{folder.name}.manifest"))
    kept = output.manifest / "origin.json"
    if not kept.is_file() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already, and this command did not make it; give a new folder")
    if kept.is_file():
        _refuse_others(folder, read_value(kept, Origin), origin)
    with alone(output.manifest, "output"):
        write_value(kept, origin)
        folder.mkdir(parents=True, exist_ok=True)
        output.clear()
        yield output


def stamp(file: Path) -> str:
    """What tells whether a file changed, in constant time: its size in bytes and when it was written, in ns."""
    told = file.stat()
    return f"{told.st_size} {told.st_mtime_ns}"


def _make(job: _Job[Any]) -> Entry:
    with atomic_path(job.target) as temporary:
        facts = job.make(job.task, temporary)
    entry = Entry(sha256(job.target), job.target.stat().st_size, facts)
    write_value(job.entry, entry)
    return entry


def _refuse_others(folder: Path, before: Origin, now: Origin) -> None:
    was, wanted = ({**origin.settings, **origin.files} for origin in (before, now))
    different = [name for name in [*wanted, *was] if was.get(name) != wanted.get(name)]
    if different:
        names = list(dict.fromkeys(different))
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise UserError(
            f"{folder} was begun with other inputs or settings ({shown}); give another folder, or delete this one and "
            f"{folder.name}.manifest"
        )

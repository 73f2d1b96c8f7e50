"""Progress for people: a bar with ETA on a terminal, a line now and then in a log file; and `log.jsonl` for
machines.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_SECONDS = 20.0


class Reporter:
    """Shows what is going on; `quiet` shows nothing and only writes the log."""

    def __init__(self, log: Path | None = None, quiet: bool = False) -> None:
        self.console = Console(file=sys.stderr, quiet=quiet, highlight=False)
        self._log = log
        self._quiet = quiet

    def say(self, text: str) -> None:
        """One line for people."""
        self.console.print(text, markup=False, soft_wrap=True)

    def log(self, event: str, **facts: Any) -> None:
        """One line for machines, with the time and the peak memory so far."""
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as handle:
                line = {"time": round(time.time(), 3), "peak_gib": round(peak_gib(), 3), "event": event, **facts}
                handle.write(json.dumps(line) + "\n")

    @contextmanager
    def task(self, title: str, total: float) -> Iterator["Task"]:
        """A piece of work of known size."""
        if self._quiet or not self.console.is_terminal:
            task = Task(self, title, total, None, None)
            yield task
            task.finish()
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as bar:
            yield Task(self, title, total, bar, bar.add_task(title, total=total, note=""))


def peak_gib() -> float:
    """Peak resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)


class Task:
    """Progress of one piece of work."""

    def __init__(self, reporter: Reporter, title: str, total: float, bar: Progress | None, task: TaskID | None) -> None:
        self._reporter, self._title, self._total = reporter, title, total
        self._bar, self._task = bar, task
        self._began = self._said = time.monotonic()
        self._done0: float | None = None

    def update(self, done: float, note: str = "") -> None:
        """`done` of the total so far."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if self._done0 is None:
            self._done0 = done
        if now - self._said >= _LINE_SECONDS:
            self._said = now
            rate = (done - self._done0) / max(now - self._began, 1e-9)
            left = f"{(self._total - done) / rate:.0f} s left" if rate > 0 else "time left unknown"
            self._reporter.say(f"{self._title}: {done:,.0f} of {self._total:,.0f}, {left}  {note}")

    def finish(self) -> None:
        """Say how long it took."""
        self._reporter.say(f"{self._title}: done in {time.monotonic() - self._began:.1f} s")

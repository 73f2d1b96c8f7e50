"""Output that is made exactly once: workers and drivers are killed, nothing is lost and nothing is made twice."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from corella.errors import UserError
from corella.files import read_value, sha256
from corella.progress import Reporter
from corella.tasks.once import FINISHED, Entry, Facts, Origin, output_folder
from corella.tasks.running import Workers

QUIET = Reporter(quiet=True)
ORIGIN = Origin({"rows/a": "3 17"}, {"share": "0.1"})
TASKS = 6


@dataclass(frozen=True)
class Write:
    """A task: a number to write, and where attempts leave a file each."""

    number: int
    attempts: Path
    kill: bool = False
    """Whether the first attempt is killed when half of its output is written."""
    seconds: float = 0.0


def write(task: Write, target: Path) -> Facts:
    earlier = len(list(task.attempts.glob(f"{task.number}-*")))
    (task.attempts / f"{task.number}-{earlier}").touch()
    target.write_text(f"half of {task.number}")
    time.sleep(task.seconds)
    if task.kill and not earlier:
        os.kill(os.getpid(), signal.SIGKILL)
    target.write_text(f"all of {task.number}\n" * 100)
    return {"rows": task.number}


def make(folder: Path, attempts: Path, workers: Workers, kill: bool = False, seconds: float = 0.0) -> dict[str, Entry]:
    attempts.mkdir(exist_ok=True)
    tasks = {f"day={n}/part.txt": Write(n, attempts, kill and n == 2, seconds) for n in range(TASKS)}
    with output_folder(folder, ORIGIN) as output:
        made = output.make(FINISHED, write, tasks, workers, QUIET)
        output.finish()
    return made


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


EXPECTED = {f"day={n}/part.txt": f"all of {n}\n" * 100 for n in range(TASKS)}


def test_once(tmp_path: Path) -> None:
    made = make(tmp_path / "out", tmp_path / "attempts", Workers())
    assert content(tmp_path / "out") == EXPECTED
    assert [entry.facts["rows"] for entry in made.values()] == list(range(TASKS))
    kept = read_value(tmp_path / "out.manifest" / FINISHED / "day=3" / "part.txt.json", Entry)
    assert kept == made["day=3/part.txt"] and kept.sha256 == sha256(tmp_path / "out" / "day=3" / "part.txt")
    assert make(tmp_path / "out", tmp_path / "attempts", Workers()) == made
    assert len(list((tmp_path / "attempts").iterdir())) == TASKS
    # A file that is no longer what was made is made again, and it alone.
    (tmp_path / "out" / "day=3" / "part.txt").write_text("damaged")
    assert make(tmp_path / "out", tmp_path / "attempts", Workers()) == made
    assert content(tmp_path / "out") == EXPECTED
    assert len(list((tmp_path / "attempts").iterdir())) == TASKS + 1


def test_a_killed_worker(tmp_path: Path) -> None:
    make(tmp_path / "out", tmp_path / "attempts", Workers(processes=2), kill=True)
    assert content(tmp_path / "out") == EXPECTED
    assert len(list((tmp_path / "attempts").iterdir())) == TASKS + 1


def test_a_killed_driver(tmp_path: Path) -> None:
    """Its workers end with it; the next call makes what it left, over half-written files, and nothing else."""
    program = (
        "import sys; from pathlib import Path; from corella.tasks.running import Workers; from test_once import make\n"
        "make(Path(sys.argv[1]), Path(sys.argv[2]), Workers(processes=2), seconds=0.4)"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    out, attempts = tmp_path / "out", tmp_path / "attempts"
    driver = subprocess.Popen(
        [sys.executable, "-c", program, str(out), str(attempts)], env={**os.environ, "PYTHONPATH": paths}
    )
    while not list((tmp_path / "out.manifest").rglob("part.txt.json")):
        assert driver.poll() is None
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    with pytest.raises(UserError, match="other inputs or settings"), output_folder(out, Origin({}, {})):
        pass
    time.sleep(1.0)  # for workers that would go on
    kept = list((tmp_path / "out.manifest").rglob("part.txt.json"))
    assert 1 <= len(kept) < TASKS
    begun = len(list(attempts.iterdir()))
    make(out, attempts, Workers())
    assert content(out) == EXPECTED
    assert len(list(attempts.iterdir())) == begun + TASKS - len(kept)


def test_another_output_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "out", tmp_path / "attempts", Workers())
    for other, named in (
        (Origin({"rows/a": "3 18"}, {"share": "0.1"}), "rows/a"),
        (Origin({"rows/a": "3 17", "rows/b": "1 1"}, {"share": "0.1"}), "rows/b"),
        (Origin({"rows/a": "3 17"}, {"share": "0.2"}), "share"),
    ):
        with (
            pytest.raises(UserError, match=rf"other inputs or settings \({named}\)"),
            output_folder(tmp_path / "out", other),
        ):
            pass
    with pytest.raises(UserError, match="did not make it"), output_folder(tmp_path / "attempts", ORIGIN):
        pass
    with (
        output_folder(tmp_path / "out", ORIGIN),
        pytest.raises(UserError, match="another process is at work"),
        output_folder(tmp_path / "out", ORIGIN),
    ):
        pass

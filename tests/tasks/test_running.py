"""Tasks in this process, in a pool of processes and on Ray: the same results, and killed workers are survived."""

import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from corella.errors import UserError
from corella.progress import Reporter
from corella.tasks.running import ATTEMPTS, Workers, run_tasks

QUIET = Reporter(quiet=True)


@dataclass(frozen=True)
class Square:
    """A task: a number, and a folder in which attempts leave a file each."""

    number: int
    folder: Path
    deaths: int = 0
    """How many attempts end in a kill."""


def square(task: Square) -> int:
    attempts = len(list(task.folder.glob(f"{task.number}-*")))
    (task.folder / f"{task.number}-{attempts}").touch()
    if attempts < task.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number**2


def refuse(task: Square) -> int:
    raise UserError(f"no {task.number}")


def process_id(task: Square) -> int:
    return os.getpid()


@pytest.fixture(params=["here", "processes", "ray"])
def workers(request: pytest.FixtureRequest) -> Workers:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
        return Workers(ray="local")
    return Workers(processes=2 if request.param == "processes" else 0)


def test_nobody_at_the_address(tmp_path: Path) -> None:
    assert not pytest.importorskip("ray").is_initialized()
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no Ray cluster at '{address}'"):
            list(run_tasks(square, [Square(1, tmp_path)], Workers(ray=address), reporter=QUIET))


def test_results(workers: Workers, tmp_path: Path) -> None:
    tasks = [Square(n, tmp_path) for n in range(7)]
    assert dict(run_tasks(square, tasks, workers, reporter=QUIET)) == {n: n * n for n in range(7)}
    assert len(list(tmp_path.iterdir())) == 7
    assert list(run_tasks(square, [], workers, reporter=QUIET)) == []


def test_what_a_task_raises_is_raised(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no 3$"):
        list(run_tasks(refuse, [Square(3, tmp_path)], workers, reporter=QUIET))


@pytest.mark.parametrize("workers", ["processes", "ray"], indirect=True)
def test_killed_workers(workers: Workers, tmp_path: Path) -> None:
    tasks = [Square(n, tmp_path, deaths=ATTEMPTS - 1 if n == 2 else 0) for n in range(5)]
    assert dict(run_tasks(square, tasks, workers, reporter=QUIET)) == {n: n * n for n in range(5)}
    assert len(list(tmp_path.iterdir())) == 5 + ATTEMPTS - 1
    always = [*(Square(n, tmp_path) for n in (7, 8)), Square(9, tmp_path, deaths=ATTEMPTS)]
    with pytest.raises(UserError, match=rf"task 3 of 3 was begun {ATTEMPTS} times .*number=9"):
        list(run_tasks(square, always, workers, reporter=QUIET))


def test_a_worker_killed_between_tasks(tmp_path: Path) -> None:
    tasks = [Square(n, tmp_path) for n in range(4)]
    seen = set()
    for _, process in run_tasks(process_id, tasks, Workers(processes=1), reporter=QUIET):
        seen.add(process)
        if len(seen) == 1:
            os.kill(process, signal.SIGKILL)
    assert len(seen) == 2


def test_no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install corella-rec\[scale\]"):
        list(run_tasks(square, [Square(1, tmp_path)], Workers(ray="local"), reporter=QUIET))

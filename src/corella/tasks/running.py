"""One way to run a function over tasks: in this process, in a pool of processes, or on Ray.

A task is a frozen dataclass of paths and numbers, and the function stands at the top of a module: both travel between
our own processes by pickle, never through a file. What a worker keeps between tasks (a loaded model) it keeps in a
cache of its own module. Workers hold no state that matters, so a killed one costs its task one more attempt.
"""

import logging
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from corella.errors import UserError
from corella.progress import Reporter

Task = TypeVar("Task")
Result = TypeVar("Result")

ATTEMPTS = 3
"""How often a task is begun whose worker dies."""
_OBJECT_STORE = 100 << 20
"""Bytes of a local Ray's object store: tasks and results are paths and numbers."""


@dataclass(frozen=True)
class Workers:
    """Who runs tasks: this process, `processes` of our own, or Ray."""

    processes: int = 0
    """0: this process, or every processor of the Ray cluster. On Ray: the most tasks at once."""
    ray: str | None = None
    """Address of a Ray cluster (`auto`, `host:port`, `ray://host:port`), or `local` for one that lives as long as the
    work; None: no Ray."""
    threads: int = 1
    """Processor threads of each worker (torch, BLAS, polars); not of this process."""
    gpus: float = 0.0
    """GPUs that Ray reserves for each task."""


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: Workers = Workers(),
    title: str = "tasks",
    reporter: Reporter | None = None,
) -> Iterator[tuple[int, Result]]:
    """Yield (place among `tasks`, what `function` returned) as tasks finish; in this process in their order.

    A task whose worker was killed is begun again, `ATTEMPTS` times in all; then `UserError` names it. What the function
    itself raises is raised here, and no further task is begun.

    >>> dict(run_tasks(len, ["a", "bc"], reporter=Reporter(quiet=True)))
    {0: 1, 1: 2}
    """
    if workers.ray is not None:
        found = _on_ray(function, tasks, workers, title)
    elif workers.processes:
        found = _in_processes(function, tasks, workers, title)
    else:
        found = ((n, function(task)) for n, task in enumerate(tasks))
    with (reporter or Reporter()).task(title, len(tasks)) as progress:
        for done, result in enumerate(found, 1):
            progress.update(done)
            yield result


@contextmanager
def kept(workers: Workers) -> Iterator[None]:
    """Between the calls of `run_tasks` within, keep the processes with all that they have loaded, or the connection to
    Ray; without it each call has its own."""
    if workers.ray is not None:
        with _connected(workers):
            yield
        return
    parked: list[ProcessPoolExecutor] = []
    _parked[workers.threads] = parked
    try:
        yield
    finally:
        del _parked[workers.threads]
        for pool in parked:
            pool.shutdown()


_parked: dict[int, list[ProcessPoolExecutor]] = {}
"""Processes that wait for the next call of `run_tasks`, by their number of threads."""


class _Queue:
    """Numbers of tasks that wait, and how often each was lost."""

    def __init__(self, tasks: Sequence[object], title: str) -> None:
        self.waiting = deque(range(len(tasks)))
        self._tasks, self._title, self._lost = tasks, title, Counter[int]()

    def lost(self, n: int, why: str) -> None:
        """Put a task back whose worker died. Raises `UserError` where that happened too often."""
        self._lost[n] += 1
        if self._lost[n] == ATTEMPTS:
            raise UserError(
                f"{self._title}: task {n + 1} of {len(self._tasks)} was begun {ATTEMPTS} times and its worker died "
                f"each time ({why}): {self._tasks[n]}; where memory is short, use fewer workers or smaller partitions"
            )
        self.waiting.appendleft(n)


def _in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: Workers, title: str
) -> Iterator[tuple[int, Result]]:
    """Every process is a pool of one, so that a death is that of a known task and takes no other with it."""
    queue = _Queue(tasks, title)
    idle = [_hire(workers) for _ in range(min(workers.processes, len(tasks)))]
    running: dict[Future[Result], tuple[int, ProcessPoolExecutor]] = {}

    def begin() -> None:
        while idle and queue.waiting:
            pool, n = idle.pop(), queue.waiting.popleft()
            try:
                future = pool.submit(function, tasks[n])
            except BrokenProcessPool:  # killed between two tasks
                pool = _new_pool(workers)
                future = pool.submit(function, tasks[n])
            running[future] = n, pool

    try:
        begin()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                n, pool = running.pop(future)
                died = future.exception()
                if isinstance(died, BrokenProcessPool):
                    idle.append(_new_pool(workers))
                    queue.lost(n, "a process ended abruptly")
                    begin()
                    continue
                idle.append(pool)
                result = future.result()
                begin()
                yield n, result
    finally:
        busy = [pool for _, pool in running.values()]
        if workers.threads in _parked:
            _parked[workers.threads] += idle
        else:
            busy += idle
        for pool in busy:
            pool.shutdown(cancel_futures=True)


def _hire(workers: Workers) -> ProcessPoolExecutor:
    if _parked.get(workers.threads):
        return _parked[workers.threads].pop()
    return _new_pool(workers)


def _new_pool(workers: Workers) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), _settle, (workers.threads,))


def _threads(threads: int) -> dict[str, str]:
    """What the libraries read when they are loaded."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")}


def _settle(threads: int) -> None:
    """Begin a worker process: few threads, and an end with its parent, also where that one is killed."""
    os.environ.update(_threads(threads))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _on_ray(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: Workers, title: str
) -> Iterator[tuple[int, Result]]:
    with _connected(workers) as ray:
        queue = _Queue(tasks, title)
        most = workers.processes or max(1, int(ray.cluster_resources().get("CPU", 1)) // workers.threads)
        remote = ray.remote(
            num_cpus=workers.threads, num_gpus=workers.gpus, max_retries=0, max_calls=0,  # 0: keep what is loaded
            runtime_env={"env_vars": _threads(workers.threads)},
        )(function)  # fmt: skip
        running: dict[Any, int] = {}

        def begin() -> None:
            while queue.waiting and len(running) < most:
                n = queue.waiting.popleft()
                running[remote.remote(tasks[n])] = n

        begin()
        try:
            while running:
                for reference in ray.wait(list(running), num_returns=1)[0]:
                    n = running.pop(reference)
                    try:
                        result = ray.get(reference)
                    except ray.exceptions.RayTaskError as error:
                        raise error.cause from None
                    except ray.exceptions.RayError as error:
                        queue.lost(n, type(error).__name__)
                        begin()
                        continue
                    begin()
                    yield n, result
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


@contextmanager
def _connected(workers: Workers) -> Iterator[Any]:
    """Ray: the cluster that this process is connected to already, or the one of the address, until the end."""
    try:
        import ray
    except ImportError:
        raise UserError("Ray is not installed: pip install corella-rec[scale]") from None
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = {
        "object_store_memory": _OBJECT_STORE,
        "include_dashboard": False,
        "num_cpus": workers.processes * workers.threads or None,
    }
    try:
        _reach(workers.ray or "")
        ray.init(
            address=workers.ray,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(local if workers.ray == "local" else {}),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at '{workers.ray}': {str(error).splitlines()[0]}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise `OSError` where nobody listens at `host:port`: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()

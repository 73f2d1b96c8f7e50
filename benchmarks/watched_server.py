"""A server that writes down for how long its event loop was held at most, in milliseconds.

python benchmarks/watched_server.py RUN FILE NAME=VALUE...    # settings as `corella serve --set` takes them
"""

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from corella.serving import serve as module
from corella.serving.settings import load_serving_settings


class Watch:
    """Sleeps for a millisecond again and again; what it oversleeps is what somebody held the loop for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._measure())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _measure(self) -> None:
        worst = 0.0
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late = 1000 * (time.perf_counter() - began) - 1
            if self._path.with_suffix(".reset").exists():
                self._path.with_suffix(".reset").unlink()
                worst = 0.0
                self._path.write_text("0")
            if late > worst:
                worst = late
                self._path.write_text(f"{worst:.2f}")


def main() -> None:
    run, path, *settings = sys.argv[1:]
    create = module.create_app

    def watched(*given: Any, **more: Any) -> Any:
        app = create(*given, **more)
        app.state.beside.append(Watch(Path(path)))
        return app

    module.create_app = watched
    module.serve(Path(run), load_serving_settings(None, settings))


if __name__ == "__main__":
    main()

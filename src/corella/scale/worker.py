"""One worker of a training: `python -m corella.scale.worker ARGUMENTS OF CORELLA`, as `launch` starts it.

What the user can mend is no reason to start again: it is left as a file for whoever launched the workers, and the
worker ends as if all were well.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

REFUSALS = "CORELLA_REFUSALS"
"""The environment variable that names the folder of such files."""

_PATIENCE = timedelta(days=7)
"""Of workers for the first one, which grows the trees alone. One that is lost is noticed at once, by its process."""


@contextmanager
def joined() -> Iterator[None]:
    """Be a worker of the group that the environment tells of."""
    import torch
    from torch import distributed

    from corella.threads import usable_threads

    beside = int(os.environ["LOCAL_WORLD_SIZE"])
    torch.set_num_threads(max(1, usable_threads() // beside))
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _restarts() -> int:
    """How often the workers were started again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def end_with(parent: int) -> None:
    """End this process when its parent is gone: nobody would wait for it, and it keeps the run folder."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Run the command, or do nothing where another worker was refused already."""
    from corella.cli import app
    from corella.errors import UserError

    folder, rank = Path(os.environ[REFUSALS]), os.environ["RANK"]
    if any(folder.iterdir()):
        return
    threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()
    if rank == "0" and _restarts():
        print(f"corella: a worker was lost; all resume at the last checkpoint (restart {_restarts()})", file=sys.stderr)
    try:
        with joined():
            app(sys.argv[1:], standalone_mode=False)
    except UserError as error:
        (folder / rank).write_text(str(error), encoding="utf-8")
    except RuntimeError as error:
        if "/gloo/" not in str(error):
            raise
        sys.exit(1)  # another worker is gone, and whoever launched both says so


if __name__ == "__main__":
    main()

"""Start the workers of a training on this machine, and start them again when one is lost (torch's elastic agent)."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from corella.errors import UserError
from corella.scale.worker import REFUSALS

RESTARTS = 3
"""How often all workers begin again at the last checkpoint before the training is given up."""


def launch(arguments: Sequence[str], workers: int, restarts: int = RESTARTS) -> None:
    """Run a command of `corella` in so many processes that know of each other, to its end.

    Raises `UserError` for what a worker was refused, and where workers were lost more than `restarts` times.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from corella.scale import meeting

    meeting.offer()
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # its news are told below
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)}
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=workers, run_id=uuid.uuid4().hex, max_restarts=restarts,
            rdzv_backend=meeting.NAME, local_addr="127.0.0.1",
        )  # fmt: skip
        os.environ[REFUSALS] = folder
        try:
            elastic_launch(config, sys.executable)("-m", "corella.scale.worker", *arguments)
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            why = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
            raise UserError(
                f"worker {rank} ended with {why}, and {restarts} restarts did not help; what it printed is above, and "
                "the same command resumes"
            ) from None
        finally:
            del os.environ[REFUSALS]
            for kind, handler in before.items():  # the agent leaves its own
                signal.signal(kind, handler)
        for refusal in sorted(Path(folder).iterdir()):
            raise UserError(refusal.read_text(encoding="utf-8"))

"""Where the workers of one machine find each other: a store on the loopback interface, a new one at every restart.

torch's own meeting places listen on every interface, and one of them unpickles what it is sent.
"""

import socket

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

NAME = "corella-loopback"
_HOST = "127.0.0.1"


class Loopback(RendezvousHandler):
    """The meeting of one launcher with itself, as torch's elastic agent asks for it."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._closed = False

    def get_backend(self) -> str:
        """Its name."""
        return NAME

    @property
    def use_agent_store(self) -> bool:
        """Workers are clients of the launcher's store."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """A fresh store, without the addresses of workers that are gone."""
        with socket.socket() as listening:
            listening.bind((_HOST, 0))
            port = listening.getsockname()[1]
            store = TCPStore(_HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())
        return RendezvousInfo(store, 0, 1, RendezvousStoreInfo(_HOST, port))

    def is_closed(self) -> bool:
        """Whether nobody may join any more."""
        return self._closed

    def set_closed(self) -> None:
        """Let nobody join any more."""
        self._closed = True

    def num_nodes_waiting(self) -> int:
        """Other launchers that would like to join: none."""
        return 0

    def get_run_id(self) -> str:
        """The launch."""
        return self._run

    def shutdown(self) -> bool:
        """Nothing is left to do."""
        return True


def _made(parameters: RendezvousParameters) -> RendezvousHandler:
    return Loopback(parameters.run_id)


def offer() -> None:
    """Let `LaunchConfig` find it by `NAME`."""
    rendezvous_handler_registry.register(NAME, _made)

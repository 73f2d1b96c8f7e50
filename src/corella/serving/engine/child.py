"""A process that is told things over a pipe, and is started again when it dies."""

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any


class Child:
    """Its events are called on the loop that started it."""

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...], load_seconds: float) -> None:
        """`target`: the process's main function, called with its end of the pipe and `arguments`; `load_seconds`: how
        long it may load (until `loaded` is called) before it is taken for hung, and replaced."""
        self._target, self._arguments, self._load_seconds = target, arguments, load_seconds
        self.on_message: Callable[[bytes], None] = lambda message: None
        self.on_lost: Callable[[], None] = lambda: None
        """Called when nothing more comes of what was sent: the process has died, or is being stopped."""
        self.on_fault: Callable[[str], None] = lambda reason: None
        self.process: BaseProcess | None = None
        self.deaths = 0
        self._connection: Connection | None = None
        self._loading: asyncio.TimerHandle | None = None
        self._restart: asyncio.Task[None] | None = None
        self._backoff = 1.0
        self._sender = ThreadPoolExecutor(1, "llm-send")
        """Hands messages over: a process that does not read must keep nobody else waiting."""

    @property
    def there(self) -> bool:
        """Whether there is a process to tell something."""
        return self._connection is not None

    async def start(self) -> None:
        """Start the process; returns before it has loaded anything."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=self._target, args=(theirs, *self._arguments), daemon=True)
        starting = asyncio.create_task(asyncio.to_thread(process.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:  # stopped meanwhile
            await starting
            process.kill()
            raise
        self.process = process
        theirs.close()
        self._connection = ours
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), self._read)
        os.set_blocking(ours.fileno(), True)  # some loops make it another, and a long message would be cut off
        self._loading = loop.call_later(self._load_seconds, self._give_up, process)

    def loaded(self) -> None:
        """The process has loaded what it serves."""
        self._backoff = 1.0
        if self._loading is not None:
            self._loading.cancel()

    async def stop(self) -> None:
        """End the process."""
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.wait([self._restart])
        self._close()
        if self.process is not None:
            self.process.terminate()
            await asyncio.to_thread(self.process.join, 5)
            self.process.kill()
        self._sender.shutdown(wait=False)

    def send(self, message: bytes) -> None:
        """On another thread; after what was sent before. Nothing happens where there is no process."""
        if self._connection is not None:
            loop = asyncio.get_running_loop()
            sent = loop.run_in_executor(self._sender, self._connection.send_bytes, message)
            sent.add_done_callback(partial(self._sent, self._connection))

    def kill(self) -> None:
        """Kill the process: the end of its pipe then starts another."""
        if self.process is not None:
            self.process.kill()

    def _sent(self, connection: Connection, sent: asyncio.Future[None]) -> None:
        """A message was handed over, or its process is gone."""
        failed = not sent.cancelled() and sent.exception() is not None
        if failed and connection is self._connection:
            self._died()

    def _give_up(self, process: BaseProcess) -> None:
        """It has had its time and is still loading."""
        self.on_fault(f"not loaded in {self._load_seconds:.0f} s (load_seconds): its process is killed")
        process.kill()

    def _read(self) -> None:
        """The process has said something, or is dead."""
        connection = self._connection
        if connection is None:
            return
        try:
            while connection.poll():
                self.on_message(connection.recv_bytes())
        except (EOFError, OSError):
            self._died()

    def _died(self) -> None:
        """Tell whoever waits, and start another process."""
        self._close()
        self.deaths += 1
        self.on_fault("the language model's process died; it is started again")
        if self._restart is None or self._restart.done():
            self._restart = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        """After a while, and again after a longer one where that fails."""
        while True:
            await asyncio.sleep(self._backoff)
            self._backoff = min(2 * self._backoff, 60.0)
            try:
                return await self.start()
            except OSError as error:
                self.on_fault(f"the language model's process does not start: {error}")

    def _close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._sender.submit(self._connection.close)  # behind what is being sent
            self._connection = None
        self.on_lost()

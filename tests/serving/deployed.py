"""The parts of deploy/compose.yaml as processes of this machine: their commands are read from there."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from corella.serving.http.keys import make_key

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SERVERS = ("corella-1", "corella-2")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def command_of(service: str) -> list[str]:
    """What a service's container runs: the compose file's words, or else the Dockerfile's."""
    given = compose()["services"][service]
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    built = {
        name: json.loads(line.split(" ", 1)[1])
        for line in lines
        for name in ("ENTRYPOINT", "CMD")
        if line.startswith(name)
    }
    if "build" not in given:
        return list(given["command"])
    entry = given.get("entrypoint")
    return [*(entry or built["ENTRYPOINT"]), *given.get("command", [] if entry else built["CMD"])]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Deployed:
    """Runs them. Each may be killed and started again."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.run, self._folder = run, folder
        self.ports = {name: free_port() for name in (*SERVERS, "llm", "redis")}
        self.key = make_key(folder / "keys.json", "shop", "write")
        llm_key = make_key(folder / "llm-keys.json", "service", "write")
        self._environment = {**os.environ, "CORELLA_LLM_KEY": llm_key, "OMP_NUM_THREADS": "1"}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        command = command_of(name)
        if name == "redis":
            command = [*command, "--port", str(self.ports[name]), "--dir", str(self._folder), "--save", ""]
        else:
            settings = Path(command[-1])
            command = [sys.executable, "-m", *command[:-1], str(self._settings(name, DEPLOY / settings.name))]
            command[command.index("/run-folder")] = str(self.run)
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)

    def _settings(self, name: str, deployed: Path) -> Path:
        """The deployed settings with this machine's addresses, and a language model that is always asked."""
        given = yaml.safe_load(deployed.read_text())
        given |= {"host": "127.0.0.1", "port": self.ports[name], "keys": str(self._folder / Path(given["keys"]).name)}
        if "store" in given:
            given |= {
                "store": f"redis://127.0.0.1:{self.ports['redis']}/0", "clock": "log", "share": 1.0,
                "llm_url": [f"corella+http://127.0.0.1:{self.ports['llm']}" for _ in given["llm_url"]],
                "deadline_ms": 5000, "overload_ms": 1e6, "requests_per_second": 1e4, "budget_tokens": 1e6,
            }  # fmt: skip
        else:
            given |= {"llm_threads": 1, "requests_per_second": 1e4}
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(given))
        return path

    def kill(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGKILL)
        self._processes[name].wait()

    def stop(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def ask(self, name: str, path: str, body: object = None, method: str | None = None) -> tuple[int, Any]:
        """Status and body of an answer. Raises `OSError` where nobody is there."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.ports[name]}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def ready(self, name: str) -> tuple[int, Any]:
        try:
            return self.ask(name, "/readyz")
        except OSError:
            return 0, {}

    def wait(self, what: str, holds: Callable[[], bool], seconds: float = 240.0) -> None:
        until = time.monotonic() + seconds
        while not holds():
            ended = [name for name, process in self._processes.items() if process.poll() not in (None, -signal.SIGKILL)]
            if ended or time.monotonic() > until:
                logs = "\n".join(f"{p.name}:\n{p.read_text()[-2000:]}" for p in sorted(self._folder.glob("*.log")))
                raise AssertionError(f"not in {seconds:.0f} s: {what}; ended by themselves: {ended}\n{logs}")
            time.sleep(0.1)

    def whole(self) -> None:
        """Wait until all parts work."""
        for name in SERVERS:
            self.wait(f"{name} has all", lambda name=name: self.ready(name)[1].get("language_model") is True)  # type: ignore[misc]


def a_user() -> str:
    return f"user {secrets.token_hex(4)}"


def has_redis() -> bool:
    return shutil.which("redis-server") is not None

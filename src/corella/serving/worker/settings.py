"""How a language model's server runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from corella.config.loading import given_settings, validated
from corella.serving.settings import ServerSettings


class WorkerSettings(ServerSettings):
    """Settings of `corella serve-llm`."""

    advanced: ClassVar = frozenset({
        "batch_tokens", "batch_wait_ms", "load_seconds", "max_body_bytes", "body_seconds", "requests_per_second",
        "versions", "max_deadline_ms",
    })  # fmt: skip

    port: int = Field(default=8100, ge=0, le=65535)
    """Port; 0: any free one."""
    max_body_bytes: int = Field(default=8 << 20, ge=1024)
    """Largest body of a request."""
    requests_per_second: float = Field(default=5000.0, gt=0)
    """Rate limit of a key (of an address, where there are no keys), with a burst of as many."""
    max_deadline_ms: float = Field(default=60_000.0, gt=0)
    """The longest that a question may wait."""
    versions: int = Field(default=2, ge=1)
    """Versions of the run's model that may be loaded at once: while one follows another, services ask for both."""


def load_worker_settings(path: Path | None, overrides: Sequence[str] = ()) -> WorkerSettings:
    """Settings from a YAML file and NAME=VALUE pairs over it. Raises `UserError` for what is not right."""
    return validated(WorkerSettings, given_settings(path, overrides), "settings of the language model's server")

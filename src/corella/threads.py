"""How many processor threads torch may use."""

import os

import torch

from corella.config import Config


def usable_threads() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(config: Config) -> None:
    """Let torch use the configured threads, or all that this process may run on."""
    torch.set_num_threads(config.threads or usable_threads())

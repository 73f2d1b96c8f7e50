"""What figures were measured on."""

import platform
from pathlib import Path

import torch

from corella.evaluation.results import Machine


def machine() -> Machine:
    """The processor, its threads in use, whether there is a GPU, and the versions that matter."""
    name, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return Machine(
        processor=name, threads=torch.get_num_threads(), gpu=torch.cuda.is_available(),
        python=platform.python_version(), torch=torch.__version__,
    )  # fmt: skip

"""Arrays in a file, as safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from corella.errors import UserError
from corella.files import atomic_path

Array = npt.NDArray[Any]


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name."""
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def load_arrays(path: Path) -> dict[str, Array]:
    """Read what `save_arrays` wrote. Raises `UserError` for a file that is no such thing."""
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from None

"""The state of a training as one safetensors file, written atomically: a kill leaves the old one or the new one."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from corella.errors import UserError
from corella.files import atomic_path, read_json, write_json
from corella.workers import here

T = TypeVar("T")
Facts = dict[str, Any]
"""What stands beside the tensors of a file, as JSON."""
log = logging.getLogger("corella")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """Write tensors and JSON-able facts."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata={"facts": json.dumps(facts)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """Read what `save_tensors` wrote. Raises `UserError` for a file that is no such thing."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from None


def keep_steps(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """Write the state of a training that goes on; the state before stays beside it."""
    if path.is_file():
        path.replace(_before(path))
    save_tensors(path, tensors, facts)


def kept_steps(path: Path | None) -> tuple[dict[str, Tensor], Facts] | None:
    """The newest whole state that `keep_steps` wrote; None where there is none. One that was cut off is set aside."""
    for each in () if path is None else (path, _before(path)):
        if each.is_file():
            try:
                return load_tensors(each)
            except UserError as error:
                _set_aside(each, error)
    return None


def _before(path: Path) -> Path:
    return path.with_name(f"{path.stem}.before{path.suffix}")


def _set_aside(path: Path, error: Exception) -> None:
    """Rename a file that cannot be read, so that its step is done again."""
    broken = path.with_name(f"{path.name}.broken")
    path.replace(broken)
    log.warning("%s; it is set aside as %s, and training goes on from the step before", error, broken.name)


def optimiser_tensors(prefix: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts of an Adam optimiser, named by parameter position."""
    state = optimiser.state_dict()["state"]
    return {f"{prefix}.{i}.{key}": torch.as_tensor(value) for i, entry in state.items() for key, value in entry.items()}


def restore_optimiser(prefix: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}."):
            position, key = name.removeprefix(f"{prefix}.").split(".")
            state.setdefault(int(position), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under `prefix.`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix.`, by their own names."""
    return {n.removeprefix(f"{prefix}."): t for n, t in tensors.items() if n.startswith(f"{prefix}.")}


Kept = tuple[Mapping[str, Tensor], Facts]


@dataclass(frozen=True)
class Checkpoints:
    """A folder of finished steps of a training, so that a killed one resumes; without a folder nothing is kept.

    Where several workers train (see `corella.workers`), the first alone computes a step and the others read what it
    kept, unless all compute it `together`.
    """

    folder: Path | None = None

    def claim(self, settings: str, data: str) -> None:
        """These checkpoints belong to one configuration and one dataset (its digest): say so. Raises `UserError` where
        they belong to another."""
        if self.folder is None:
            return
        path, ours = self.folder / "fingerprint.json", hashlib.sha256((settings + data).encode()).hexdigest()
        if path.is_file() and read_json(path) != ours:
            raise UserError(f"{self.folder} belongs to other settings or other data; choose another run folder")
        write_json(path, ours)

    @property
    def claimed(self) -> bool:
        """Whether a training has begun to keep its steps here."""
        return self.folder is not None and (self.folder / "fingerprint.json").is_file()

    def path(self, name: str) -> Path | None:
        """Where a step keeps a file of its own; None where nothing is kept."""
        return None if self.folder is None else self.folder / name

    def tensors(
        self,
        name: str,
        make: Callable[[], Kept],
        valid: Callable[[Kept], bool] = lambda kept: True,
        together: bool = False,
    ) -> Kept:
        """Tensors and facts of a step: read if they are there (and `valid`), else computed and kept."""

        def read(path: Path) -> Kept | None:
            kept = load_tensors(path)
            return kept if valid(kept) else None

        return self._step(f"{name}.safetensors", read, make, lambda path, made: save_tensors(path, *made), together)

    def array(self, name: str, make: Callable[[], npt.NDArray[Any]], together: bool = False) -> npt.NDArray[Any]:
        """One array of a step: read if it is there, else computed and kept."""
        made = self.tensors(name, lambda: ({"values": torch.from_numpy(make())}, {}), together=together)
        found: npt.NDArray[Any] = made[0]["values"].numpy()
        return found

    def json(self, name: str, make: Callable[[], Any]) -> Any:
        """JSON-able data of a step: read if it is there, else computed and kept."""
        return self._step(f"{name}.json", read_json, make, write_json)

    def _step(
        self,
        name: str,
        read: Callable[[Path], T | None],
        make: Callable[[], T],
        save: Callable[[Path, T], None],
        together: bool = False,
    ) -> T:
        path, workers = self.path(name), here()

        def known() -> T | None:
            if path is None or not path.is_file():
                return None
            try:
                return read(path)
            except UserError as error:
                _set_aside(path, error)
                return None

        def done() -> T:
            made = known()
            if made is None:
                made = make()
                if path is not None:
                    save(path, made)
            return made

        if path is None:
            return make()
        if not together:
            return workers.in_turn(done)
        kept = workers.in_turn(known)
        if kept is None:
            kept = make()
            if workers.first:
                save(path, kept)
        return kept

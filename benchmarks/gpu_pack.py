"""Put what gpu.py needs into folders that a machine without a network can be sent, one after the other.

    python benchmarks/gpu_pack.py PREPARED SEQUENCES --to .gpu

The machine has torch, transformers, peft, scipy and scikit-learn; what else the package imports is packed as wheels.
The language model is cut into parts, to be joined there (`cat part-* > model.gguf`) and compared by `sha256`.
Then, there: `pip install --no-index --no-deps --target SITE wheels/*.whl` and
`PYTHONPATH=SITE:src python benchmarks/gpu.py OUT --prepared data --sequences sequences --backbone model.gguf`.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from common import run
from corella.errors import UserError
from corella.weights import bundled_file

MISSING = ("polars", "polars-runtime-32", "pydantic", "pydantic_core", "annotated-types", "typing-inspection",
           "typing_extensions", "gguf")  # fmt: skip
LARGEST = 60 * 2**20
"""Bytes that may be sent at once."""
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="what `llm_residual.py prepare` made")
    parser.add_argument("sequences", type=Path, help="what `text_retrieval.py --sequences` made")
    parser.add_argument("--to", type=Path, default=Path(".gpu"))
    parser.add_argument("--python", default="3.12", help="of the machine")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.to, ignore_errors=True)
    (arguments.to / "model").mkdir(parents=True)
    wheels(arguments.to / "wheels", arguments.python)
    split(bundled_file("smollm2-135m"), arguments.to / "model")
    shutil.copytree(arguments.prepared, arguments.to / "data")
    shutil.copytree(arguments.sequences, arguments.to / "sequences")
    sizes = {folder.name: size(folder) for folder in sorted(arguments.to.iterdir())}
    print({name: f"{found / 2**20:.0f} MiB" for name, found in sizes.items()})
    parts = {**sizes, **{path.name: path.stat().st_size for path in (arguments.to / "model").iterdir()}}
    too_large = [name for name, found in parts.items() if found > LARGEST and name != "model"]
    if too_large:
        raise UserError(f"{', '.join(too_large)}: more than {LARGEST / 2**20:.0f} MiB; send fewer rows")


def wheels(folder: Path, python: str) -> None:
    """Download the versions that are installed here, for the other machine's Python."""
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    asked = [f"{name}=={version(name)}" for name in MISSING]
    fixed = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *fixed, *platforms, "--dest", str(folder), *asked]
    subprocess.run(command, check=True)


def split(file: Path, folder: Path) -> None:
    """Two halves, and the hash of the whole."""
    content = file.read_bytes()
    half = -(-len(content) // 2)
    for number in range(2):
        (folder / f"part-{number}").write_bytes(content[number * half : (number + 1) * half])
    (folder / "sha256").write_text(hashlib.sha256(content).hexdigest() + "\n")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    run(main)

"""Put what gpu.py needs into folders that a machine without a network can be sent, one after the other.

    python benchmarks/gpu_pack.py PREPARED --to .gpu           # PREPARED: what gpu_prepare.py made
    python benchmarks/gpu_pack.py --check .gpu                 # there: everything came, whole
    python benchmarks/gpu_pack.py --join .gpu/model model.gguf

What is carried, and what the machine must have, stand in `CARRIED` and `PRESENT`. The language model is cut into parts
of 60 MiB at most; manifest.json has the size and the hash of everything. Then, there:
`pip install --no-index --no-deps --target SITE wheels/*.whl` and
`PYTHONPATH=SITE:src python benchmarks/gpu.py OUT --prepared data --backbone model.gguf`.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

CARRIED = ("polars", "polars-runtime-32", "pydantic", "pydantic_core", "annotated-types", "typing-inspection",
           "typing_extensions", "gguf", "lightgbm")  # fmt: skip
"""Distributions, sent as wheels of the versions that are installed here."""
PRESENT = ("torch", "transformers", "peft", "numpy", "scipy", "scikit-learn", "safetensors", "tokenizers", "PyYAML",
           "rich", "requests", "tqdm", "filelock", "fsspec", "psutil")  # fmt: skip
"""Distributions that the machine has, beside what they need."""
LARGEST = 60 * 2**20
"""Bytes that may be sent at once."""
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, nargs="?")
    parser.add_argument("--to", type=Path, default=Path(".gpu"))
    parser.add_argument("--python", default="3.12", help="of the machine")
    parser.add_argument("--check", type=Path, metavar="FOLDER")
    parser.add_argument("--join", type=Path, nargs=2, metavar=("FOLDER", "FILE"))
    arguments = parser.parse_args()
    if arguments.check or arguments.join:
        if arguments.check:
            check(arguments.check)
        if arguments.join:
            join(*arguments.join)
        return
    if arguments.prepared is None:
        parser.error("PREPARED is missing")
    from corella.weights import bundled_file  # not where only --check and --join are asked for

    shutil.rmtree(arguments.to, ignore_errors=True)
    wheels(arguments.to / "wheels", arguments.python)
    pack(bundled_file("smollm2-135m"), arguments.prepared, arguments.to)


def wheels(folder: Path, python: str) -> None:
    """Download the versions that are installed here, for the other machine's Python."""
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    asked = [f"{name}=={version(name)}" for name in CARRIED]
    fixed = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *fixed, *platforms, "--dest", str(folder), *asked]
    subprocess.run(command, check=True)


def pack(model: Path, prepared: Path, folder: Path, largest: int = LARGEST) -> list[list[str]]:
    """Model and data into a folder, with its manifest; prints and returns which files to send together."""
    split(model, folder / "model", largest)
    shutil.copytree(prepared, folder / "data")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = {str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _hash(path)} for path in files}
    (folder / "manifest.json").write_text(json.dumps(told, indent=1))
    loads = together({name: int(each["bytes"]) for name, each in told.items()}, largest)
    for number, names in enumerate(loads, 1):
        size = sum(int(told[name]["bytes"]) for name in names) / 2**20
        print(f"load {number}: {size:.0f} MiB, {len(names)} files, from {names[0]} to {names[-1]}")
    return loads


def together(sizes: dict[str, int], largest: int) -> list[list[str]]:
    """Files in as many loads as it takes, each within the limit. Raises `ValueError` for a file beyond it."""
    loads: list[list[str]] = []
    left = 0
    for name, size in sorted(sizes.items()):
        if size > largest:
            raise ValueError(f"{name} has {size:,} bytes, more than {largest:,}; send fewer rows")
        if size > left:
            loads.append([])
            left = largest
        loads[-1].append(name)
        left -= size
    return loads


def split(file: Path, folder: Path, largest: int = LARGEST) -> None:
    """Cut a file into parts of at most so many bytes, and keep the hash of the whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as whole:
        for number, piece in enumerate(iter(lambda: whole.read(largest), b"")):
            (folder / f"part-{number:02}").write_bytes(piece)
    (folder / "sha256").write_text(_hash(file) + "\n")


def join(folder: Path, file: Path) -> None:
    """Put the parts together again. Raises `ValueError` where they are not what was cut."""
    partial = file.with_name(f".{file.name}.tmp")
    with partial.open("wb") as whole:
        for part in sorted(folder.glob("part-*")):
            whole.write(part.read_bytes())
    if _hash(partial) != (folder / "sha256").read_text().strip():
        partial.unlink()
        raise ValueError(f"{folder}: a part is missing or broken")
    partial.replace(file)


def check(folder: Path) -> None:
    """Raises `ValueError` where a file of the manifest is missing or broken."""
    told = json.loads((folder / "manifest.json").read_text())
    broken = [n for n, each in told.items() if not (folder / n).is_file() or _hash(folder / n) != each["sha256"]]
    if broken:
        raise ValueError(f"missing or broken: {', '.join(broken)}")
    print(f"{len(told)} files, all whole")


def missing(modules: Iterable[str]) -> set[str]:
    """Distributions that the machine would lack: those of imported modules, and what the carried ones need."""
    from importlib.metadata import packages_distributions

    there, waiting = set[str](), list(PRESENT)
    while waiting:  # what is present came with all that it needs
        name = _plain(waiting.pop())
        if name not in there:
            there.add(name)
            waiting += _needs(name)
    owners = packages_distributions()
    used = [owner for module in modules for owner in owners.get(module, [])]
    used += [need for name in CARRIED for need in _needs(name)]
    return {_plain(name) for name in used} - there - {_plain(name) for name in CARRIED}


def _needs(name: str) -> list[str]:
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    try:
        found = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return []
    return [each.name for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


if __name__ == "__main__":
    main()

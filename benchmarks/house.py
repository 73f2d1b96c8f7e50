"""The state of the code and its documentation, and what the demo takes: docs/benchmarks/house.json.

    python benchmarks/house.py --demo RUN --seconds 250     # seconds of `make demo`, set-up included; RUN: its folder
    python benchmarks/house.py --p99 13.7 15.6              # milliseconds of requests that ask no language model

Everything but the demo's figures is counted here and now.
"""

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import DOCS, commit, run
from corella.config import Config
from corella.config.loading import describe
from corella.files import read_json, write_json

ROOT = DOCS.parent.parent
SOURCE = ROOT / "src" / "corella"
_PROTOCOLS = {"Encoder", "Prompts", "SharesPrefixes", "Engine", "CRM", "Store"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="the demo's run folder")
    parser.add_argument("--seconds", type=float, help="what `make demo` took, set-up included")
    parser.add_argument(
        "--p99", type=float, nargs=2, help="crm_p99_ms of serving.py where rung 0 is served, and rung 1"
    )
    arguments = parser.parse_args()
    path = DOCS / "house.json"
    kept = read_json(path)["figures"] if path.is_file() else {}
    figures = {**kept, **counted(), **(demo(arguments.demo, arguments.seconds) if arguments.demo else {})}
    if arguments.p99:
        figures |= dict(zip(("crm_p99_ms", "crm_p99_rung1_ms"), arguments.p99, strict=True))
    write_json(path, {"benchmark": "house", "commit": commit(), "figures": figures})
    print(figures)


def counted() -> dict[str, Any]:
    """What can be counted in the files, and whether wheel and documentation are built."""
    files = {path: path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    settings = describe(Config)
    return {
        "files_over_300_lines": sum(text.count("\n") > 300 for text in files.values()),
        "any_dicts": sum(len(re.findall(r"(?:dict|Mapping)\[str, Any\]", text)) for text in files.values()),
        "isinstance_on_implementations": sum(implementations(text, files) for text in files.values()),
        "public_settings": sum(not setting.advanced for setting in settings),
        "settings_without_docs": sum(not setting.text for setting in settings),
        "readme_words": len((ROOT / "README.md").read_text(encoding="utf-8").split()),
        "wheel_smoke": _passes("-m", "pytest", "-q", "tests/test_wheel.py"),
        "docs_build_strict": _passes("docs/generate.py") and _passes("-m", "mkdocs", "build", "--strict", "--quiet"),
    }


def implementations(text: str, files: dict[Path, str]) -> int:
    """How often it is asked whether something is an instance of a class that implements one of our protocols."""
    classes = set()
    for source in files.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and any(node.name.endswith(name) for name in _PROTOCOLS):
                classes.add(node.name)
    found = 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            named = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
            found += bool(named & classes)
    return found


def demo(folder: Path, seconds: float | None) -> dict[str, Any]:
    """What the demo took."""
    import polars as pl

    log = pl.read_ndjson(folder / "log.jsonl", infer_schema_length=None)
    began = log.filter(pl.col("event") == "start")["time"][0]
    first = log.filter(pl.col("event") == "first result")["time"][0]
    figures = {"first_result_seconds": first - began, "demo_peak_gib": log["peak_gib"].max()}
    return figures if seconds is None else {**figures, "demo_seconds": seconds}


def _passes(*words: str) -> int:
    return int(subprocess.run([sys.executable, *words], cwd=ROOT, check=False, capture_output=True).returncode == 0)


if __name__ == "__main__":
    run(main)

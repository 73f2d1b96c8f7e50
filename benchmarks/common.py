"""What the benchmark scripts share: the result file and its Markdown table, which is rendered from it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corella.errors import UserError
from corella.files import write_json, write_text
from corella.run import machine

DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def run(main: Callable[[], None]) -> None:
    """Run a script; the user's mistakes end it with a line that says so."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")


def commit() -> str:
    """The commit that the figures were measured on, marked where the working tree differs from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain", "--", "src") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    command = ["git", *words]
    return subprocess.run(command, cwd=DOCS.parent.parent, capture_output=True, text=True, check=True).stdout.strip()


def write_result(
    name: str, title: str, text: str, rows: list[dict[str, Any]], figures: dict[str, float], facts: dict[str, Any]
) -> None:
    """Write docs/benchmarks/NAME.json and render NAME.md from it."""
    result = {"benchmark": name, "commit": commit(), "machine": machine(), **facts, "rows": rows, "figures": figures}
    write_json(DOCS / f"{name}.json", result)
    write_text(DOCS / f"{name}.md", render(title, text, result))
    print(json.dumps(figures, indent=1))


def render(title: str, text: str, result: dict[str, Any]) -> str:
    """The Markdown page of a result."""
    machine_text = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [
        f"# {title}",
        "",
        text,
        "",
        f"Commit `{result['commit']}`; {machine_text}; seeds {result.get('seeds')}.",
        "",
    ]
    columns = list(dict.fromkeys(key for row in result["rows"] for key in row))
    lines += _table(columns, [[_cell(row.get(column)) for column in columns] for row in result["rows"]])
    lines += ["", "## Figures", ""]
    lines += _table(["figure", "value"], [[f"`{k}`", _cell(v)] for k, v in result["figures"].items()])
    return "\n".join(lines) + "\n"


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(row) + " |" for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.0f}"
    return str(value)

"""What the benchmark scripts share: the result file and its Markdown table, which is rendered from it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from corella.errors import UserError
from corella.files import read_json, write_json, write_text
from corella.report.numbers import auc_text, signed
from corella.runs.machine import machine

Page = Callable[[str, str, dict[str, Any]], str]

DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def run(main: Callable[[], None]) -> None:
    """Run a script; the user's mistakes end it with a line that says so."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")


def flat(whole: Mapping[str, Any]) -> dict[str, Any]:
    """metrics.json with the figures of its ranking beside what they were measured on."""
    return {**(whole.get("ranking") or {}), **{name: value for name, value in whole.items() if name != "ranking"}}


def read_metrics(run: Path) -> dict[str, Any]:
    """`flat` figures of a run."""
    return flat(read_json(run / "metrics.json"))


def commit() -> str:
    """The commit that the figures were measured on, marked where code in the working tree differs from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain", "--", "src", "benchmarks") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def union(commits: Iterable[str]) -> str:
    """Every commit once."""
    return ", ".join(dict.fromkeys(commits))


def _git(*words: str) -> str:
    command = ["git", *words]
    return subprocess.run(command, cwd=DOCS.parent.parent, capture_output=True, text=True, check=True).stdout.strip()


def write_result(
    name: str,
    title: str,
    text: str,
    rows: list[dict[str, Any]],
    figures: dict[str, float],
    facts: dict[str, Any],
    page: Page | None = None,
) -> dict[str, Any]:
    """Write docs/benchmarks/NAME.json, render NAME.md from it, and return what it holds."""
    result = {
        "benchmark": name,
        "commit": commit(),
        "machine": machine().model_dump(),
        **facts,
        "rows": rows,
        "figures": figures,
    }
    write_json(DOCS / f"{name}.json", result)
    write_text(DOCS / f"{name}.md", (page or plain_page)(title, text, result))
    print(json.dumps(figures, indent=1))
    return result


def plain_page(title: str, text: str, result: dict[str, Any]) -> str:
    """The Markdown page of a result: comparisons, if it has any, all its rows in one table, and the figures."""
    columns = list(dict.fromkeys(key for row in result["rows"] for key in row))
    body = [[_cell(row.get(column)) for column in columns] for row in result["rows"]]
    lines = [f"# {title}", "", text, "", stamp(result), ""]
    if result.get("differences"):
        lines += ["## What it says", "", *(f"- {sentence}" for sentence in sentences(result)), ""]
    lines += ["## Table", "", *table(columns, body), "", "## Figures", ""]
    lines += table(["figure", "value"], [[f"`{k}`", _cell(v)] for k, v in result["figures"].items()])
    return "\n".join(lines) + "\n"


def sentences(result: dict[str, Any]) -> list[str]:
    """Every comparison of the runs, a sentence each, with its intervals."""
    found = []
    for d in result["differences"]:
        b, a = f"`{d['b']}`", f"`{d['a']}`"
        if d["low"] == d["high"] == 0:
            said = f"{b} and {a} say the same: AUC {_interval(d)}"
        else:
            said = {
                1: f"{b} is above {a}", -1: f"{b} is below {a}", 0: f"{b} and {a} cannot be told apart",
            }[_sign(d)] + f": AUC {_interval(d)}"  # fmt: skip
            if "user_auc_mean" in d:
                within = {1: "above", -1: "below", 0: "not to be told apart"}[_sign(d, "user_auc_")]
                said += f"; within users {within}: per-user AUC {_interval(d, 'user_auc_')}"
        size = [f"{d['rows']:,.0f} rows of {d['users']:,.0f} users"] if "rows" in d else []
        if d.get("seeds") == 1 and len(result.get("seeds", [])) > 1:
            size.append("one seed")
        found.append(said + (f" ({', '.join(size)})" if size else "") + ".")
    return found


def _sign(d: dict[str, Any], prefix: str = "") -> int:
    """1 or -1 where the interval leaves zero out, else 0."""
    return int(d[prefix + "low"] > 0) - int(d[prefix + "high"] < 0)


def _interval(d: dict[str, Any], prefix: str = "") -> str:
    mean, low, high = (signed(d[prefix + name]) for name in ("mean", "low", "high"))
    users = f" of {d['user_auc_users']:,.0f} users" if prefix and "user_auc_users" in d else ""
    return f"{mean} [{low}, {high}]{users}"


def auc(value: float | None) -> str:
    """As the package writes it; empty for None."""
    return "" if value is None else auc_text(value)


def stamp(result: dict[str, Any]) -> str:
    """What the figures come from: form, seeds, machine, commit, cost."""
    measured: dict[str, list[str]] = {}
    for part, at in (result.get("commits") or {}).items():
        measured.setdefault(at, []).append(part)
    each = "; ".join(f"{', '.join(parts)} `{at}`" for at, parts in measured.items())
    said = f"commits of the parts: {each}" if each else f"commit `{result['commit']}`"
    parts = [f"Seeds {', '.join(map(str, result['seeds']))}", said]
    if "form" in result:
        parts.insert(0, f"{result['form'].capitalize()} form")
    cost = result.get("cost")
    if cost:
        parts.append(
            f"the language model learned from {cost['llm_targets']:,.0f} targets ({cost['llm_tokens']:,.0f} tokens) in "
            f"{cost['llm_seconds'] / 60:.0f} minutes a seed, and reads a new sample in "
            f"{cost['milliseconds_per_sample']:.0f} ms"
        )
    parts += [f"{key} {value}" for key, value in result["machine"].items()]
    return "; ".join(parts) + "."


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(row) + " |" for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)

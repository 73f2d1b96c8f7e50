"""docs/benchmarks/scale.md from docs/benchmarks/scale.json: `scale_page.py`. Measures nothing."""

from typing import Any

from common import DOCS, run
from corella.files import read_json, write_text

ASKED = {
    "prepare_exponent": "at most 1.05", "prepare_1m_seconds": "at most 6", "prepare_10m_peak_gib": "at most 2",
    "prepare_100m_peak_gib": "at most 4", "prepare_100m_minutes": "told", "incremental_share": "at most .05",
    "train_exponent": "at most 1.05", "stream_auc_gap": "within .0005", "score_exponent": "at most 1.05",
    "ray_overhead": "at most .15", "kills_survived": "10 of 10", "workers_speedup_2": "told",
    "crm_rows_per_second_ratio_fuxictr": "at least 3",
}  # fmt: skip
MEANS = {
    "prepare_exponent": "how the seconds of preparing in parts grow with the rows, 1 to 100 million (1: in proportion)",
    "prepare_exponent_processor": "the same of processor seconds",
    "prepare_1m_seconds": "a million rows, the faster of both ways, the command's start included",
    "prepare_10m_peak_gib": "peak memory, 10 million rows in parts",
    "prepare_100m_peak_gib": "peak memory, 100 million rows in parts",
    "prepare_100m_minutes": "minutes of those",
    "incremental_share": "100,000 rows more behind 10 million: seconds, as a share of preparing all",
    "train_exponent": "how the seconds of training from disk grow with the rows",
    "stream_auc_gap": "test AUC of the order that disk gives, less that of a full shuffle",
    "score_exponent": "how the seconds of scoring everybody grow with the rows",
    "ray_overhead": "scoring on Ray, as a share more than on a pool of processes",
    "kills_survived": "killed at random and given again: identical output",
    "workers_speedup_2": "conventional model, two workers of one thread each over one",
    "workers_2_over_threads_2": "the same over one process with two threads",
    "workers_speedup_2_language": "language model, two workers of one thread each over one",
    "workers_2_over_threads_2_language": "the same over one process with two threads",
    "crm_rows_per_second_ratio_fuxictr": "training rows a second of our DCNv2 over FuxiCTR's",
    "crm_auc_minus_fuxictr": "test AUC of our DCNv2 less FuxiCTR's there",
}
HEAD = """\
# Past memory, past one machine

Two cores, 24 GiB, no GPU. Logs are made by `benchmarks/synthetic.py`: popularity falls as a power, users have tastes,
popularity drifts, times tie. Each part was measured at its own commit; the data are in `scale.json` beside this page.

| figure | asked | measured | what it is |
|---|---|---|---|
"""


def main() -> None:
    """Write the page."""
    parts = read_json(DOCS / "scale.json")
    figures = {name: value for part in parts.values() for name, value in part.get("figures", {}).items()}
    lines = [
        f"| `{name}` | {ASKED.get(name, '')} | {_said(figures[name])} | {MEANS[name]} |"
        for name in MEANS
        if name in figures
    ]
    text = HEAD + "\n".join(lines) + "\n\n" + _prepared(parts) + _trained(parts) + _notes(parts)
    write_text(DOCS / "scale.md", text)


def _said(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _prepared(parts: dict[str, Any]) -> str:
    lines = [
        "## Preparing", "",
        "| rows read | rows kept | `data.memory` | seconds | processor seconds | peak GiB | commit |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in [*parts.get("prepare", {}).get("rows", []), *parts.get("day", {}).get("rows", [])]:
        memory = "all in memory" if row["memory"] is None else f"{row['memory']} GiB"
        lines.append(
            f"| {row['rows']:,} | {row['kept']:,} | {memory} | {row['seconds']:,} | {row['processor_seconds']:,} | "
            f"{row['peak_gib']} | {row['commit'][:7]} |"
        )
    return "\n".join(lines) + "\n\nThe last two rows: a log with dates for its split, and the same with a day more.\n\n"


def _trained(parts: dict[str, Any]) -> str:
    lines = [
        "## Training", "", "One pass of DCNv2 with count features, and 100 trees.", "",
        "| rows | features | seconds | of the neural model | of the trees | trees' AUC | peak GiB |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in parts.get("train", {}).get("rows", []):
        where = "in memory" if row["memory"] is None else "on disk"
        lines.append(
            f"| {row['rows']:,} | {where} | {row['seconds']} | {row['neural_seconds']} | {row['tree_seconds']} | "
            f"{row['tree_auc']} | {row['peak_gib']} |"
        )
    return "\n".join(lines) + "\n\n"


def _notes(parts: dict[str, Any]) -> str:
    return "".join(f"{part['note']}\n\n" for part in parts.values() if "note" in part).rstrip() + "\n"


if __name__ == "__main__":
    run(main)

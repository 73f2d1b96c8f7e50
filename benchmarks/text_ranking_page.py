"""Figures and Markdown page of the benchmark of text in ranking."""

import math
from typing import Any

from common import auc, stamp, table
from corella.report.numbers import signed

_FIGURES = {
    "polis folds": "polis_folds_gain", "polis newest": "polis_newest_gain", "polis warming": "polis_warming_gain",
    "polis time": "polis_time_gain", "ml-100k": "ml_100k_gain", "ml-1m-collm": "ml_1m_gain",
    "bookcrossing": "bookcrossing_gain",
}  # fmt: skip


def pooled(found: list[tuple[int, float, float, float]]) -> tuple[float, float, float]:
    """Mean gain and interval of (seed, gain, low, high) of several seeds and folds.

    Folds of a seed hold other items, so their errors are independent, and that of their mean shrinks by the root of
    their number; seeds share their test rows, so their ends are averaged.
    """
    seeds = []
    for seed in dict.fromkeys(row[0] for row in found):
        mine = [row[1:] for row in found if row[0] == seed]
        mean = sum(row[0] for row in mine) / len(mine)
        below, above = (math.sqrt(sum((row[0] - row[n]) ** 2 for row in mine)) / len(mine) for n in (1, 2))
        seeds.append((mean, mean - below, mean + above))
    first, *ends = (sum(column) / len(seeds) for column in zip(*seeds, strict=True))
    return first, ends[0], ends[1]


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The named figures."""
    found: dict[str, float] = {}
    for part, name in _FIGURES.items():
        mine = [row for row in rows if row["part"] == part]
        if mine:
            gain, low, high = pooled([(r["seed"], r["gain"], r["low"], r["high"]) for r in mine])
            found |= {name: gain, f"{name}_low": low, f"{name}_high": high}
        for group, short in (("no interactions", "new"), ("1 to 4", "rare")):
            some = [(r["seed"], *r[group][:3]) for r in mine if r.get(group)]
            if some:
                gain, low, high = pooled(some)
                key = name.removesuffix("_gain")
                found |= {f"{key}_{short}_gain": gain, f"{key}_{short}_low": low, f"{key}_{short}_high": high}
    return found


def text_ranking_page(title: str, text: str, result: dict[str, Any]) -> str:
    """The Markdown page."""
    rows = result["rows"]
    body, rare = [], []
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = [row for row in rows if row["part"] == part]
        gain = pooled([(r["seed"], r["gain"], r["low"], r["high"]) for r in mine])
        means = [_mean(mine, f"{what}_{n}") for n in (0, 1) for what in ("trees", "neural", "auc")]
        body.append([part, result["resampled"][part], *map(auc, means), _interval(gain)])
        for group in ("no interactions", "1 to 4", "5 or more"):
            some = [r for r in mine if r.get(group)]
            if some and len(mine[0].get("5 or more") or []):
                size = sum(r[group][3] for r in some) / len(some)
                before = sum(r[group][4] for r in some) / len(some)
                change = pooled([(r["seed"], *r[group][:3]) for r in some])
                rare.append([part, group, f"{size:,.0f}", auc(before), _interval(change)])
    columns = ["rows", "resampled", "trees", "DCNv2", "rung 0", "trees, text", "DCNv2, text", "rung 1", "gain"]
    lines = [f"# {title}", "", text.replace("\n", " "), "", stamp(result), "", _NOTE, "", "## Gain", ""]
    lines += [*table(columns, body), "", "## By the item's interactions so far", ""]
    lines += table(["rows", "interactions", "test rows", "rung 0", "gain"], rare)
    return "\n".join(lines) + "\n"


_NOTE = (
    "AUC on test rows, mean over seeds; gains with 95 % intervals, users or items resampled as the table says. Polis: "
    "`folds` (a fifth of the statements, five times) and `newest` (the newest 20 % of each conversation's) hide the "
    "test statements' own votes altogether, and both rungs are trained with every item's own counts hidden; `warming` "
    "is `newest` with votes counted as they come; `time` is 8:1:1 in each conversation."
)


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    return float(sum(row[name] for row in rows) / len(rows))


def _interval(found: tuple[float, float, float]) -> str:
    return f"{signed(found[0])} [{signed(found[1])}, {signed(found[2])}]"

"""The pictures of a ranking benchmark's page, drawn from its result by the charts of the report."""

import re
from collections.abc import Mapping
from typing import Any

from corella.evaluation.results import CurvePoint
from corella.evaluation.systems import Kind
from corella.report.charts import Point, routing_chart, systems_chart

PLAIN = "dcnv2"
"""The paper's conventional model, from which routing is drawn."""

PICTURES = {
    "systems": "Test AUC with 95 % intervals; the dashed line is at the best of these without a language model",
    "routing": f"Test AUC from {PLAIN} alone (0 %) to its blend with the language model on every sample (100 %)",
}
"""Ends of the files' names, and captions."""


def kind(system: str) -> Kind:
    """What a stored row's system is made of: rows of older runs have names alone."""
    parts = re.split(r" & | and | of ", system)
    if system == "llm":
        return "language model"
    return "combined" if "llm" in parts or system == "final" else "conventional"


def is_conventional(row: Mapping[str, Any]) -> bool:
    """Whether no language model has a part in a row's system."""
    return row["table"] == "conventional" or kind(row["system"]) == "conventional"


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """SVG by the end of the file's name, see `PICTURES`."""
    rows = result["rows"]
    systems = sorted((row for row in rows if row["table"] == "systems"), key=lambda row: -row["auc"])
    plain = next(row["auc"] for row in systems if row["system"] == PLAIN)
    best = next(row["system"] for row in systems if kind(row["system"]) == "conventional")
    curves = [{**row, "share": row["routed"]} for row in rows if row["table"] == "routing" and row["crm"] == PLAIN]
    ways = dict.fromkeys((row["policy"], row["combine"]) for row in curves)
    curves += [{"policy": policy, "combine": way, "share": 0.0, "auc": plain} for policy, way in ways]
    points = [Point(r["system"], kind(r["system"]), r["auc"], r["auc_low"], r["auc_high"]) for r in systems]
    lines = [
        CurvePoint.model_construct(policy=r["policy"], combine=r["combine"], share=r["share"], auc=r["auc"])
        for r in curves
    ]
    charts = {"systems": systems_chart(points, best), "routing": routing_chart(lines, PLAIN, None)}
    return {name: svg.replace("<svg ", '<svg style="background:#fff" ', 1) for name, svg in charts.items()}

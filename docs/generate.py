"""Writes docs/reference/: settings, HTTP API and Python API, from the code alone; and the tables of docs/capacity.md,
from the calculator. `make docs` runs it."""

import json
from pathlib import Path

from fastapi import FastAPI

import corella
from corella.capacity.plan import make_plan
from corella.capacity.settings import Costs, Load, Machines, read_plan_settings
from corella.capacity.wording import compared, first
from corella.config import Config, Section
from corella.config.loading import describe
from corella.serving.http.routes import router
from corella.serving.http.routes.operators import unguarded
from corella.serving.settings import ServingSettings
from corella.serving.worker.settings import WorkerSettings

FOLDER = Path(__file__).with_name("reference")
CAPACITY = Path(__file__).with_name("capacity.md")
LOADS = {
    "1 million": (1e6, 1e5, 500, ()),
    "100 million": (1e8, 1e6, 5e4, ()),
    "1 billion": (1e9, 1e7, 5e5, ()),
    "1 billion, no scan": (
        1e9,
        1e7,
        5e5,
        ("costs.retrieval_item_ns=0", "machines.cores=64", "machines.gib=1024", "machines.hour=6"),
    ),
}
"""Users -> users, items, requests a second, and what is overridden."""


def settings(kind: type[Section], title: str, lead: str) -> str:
    """What everybody meets, then the rest; section by section."""
    rows = describe(kind)
    lines = [f"# {title}", "", lead, ""]
    for heading, advanced in (("", False), ("Advanced: ", True)):
        section = None
        for row in (row for row in rows if row.advanced == advanced):
            name = row.name.partition(".")[0] if "." in row.name else "general"
            if name != section:
                section = name
                lines += [f"## {heading}{name}", ""]
            default = f" = `{row.default}`" if row.default else ""
            lines += [f"`{row.name}`{default}", f":   {row.text.replace('<', '&lt;')}", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def http() -> str:
    """Every path with its parameters and what it answers."""
    app = FastAPI(title="Corella", version=corella.__version__)
    app.include_router(router)
    app.include_router(unguarded)
    api = app.openapi()
    lines = [
        "# HTTP API",
        "",
        "The service of `corella serve` speaks JSON. A running one has its OpenAPI document at `/openapi.json`.",
        "",
    ]
    for path, ways in api["paths"].items():
        for method, about in ways.items():
            lines += [f"## {method.upper()} {path}", "", about.get("description", about.get("summary", "")), ""]
            body = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body:
                lines += ["The body:", "", *_schema(body, api["components"]["schemas"]), ""]
            for parameter in about.get("parameters", []):
                lines.append(f"- `{parameter['name']}` ({parameter['in']}): {parameter.get('description', '')}")
            lines.append("")
    return "\n".join(lines)


def _schema(schema: dict, known: dict) -> list[str]:
    found = known[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in found.get("properties", {}).items():
        needed = "needed" if name in found.get("required", []) else f"`{json.dumps(field.get('default'))}`"
        lines.append(f"| `{name}` | {_cell(_kind(field))} | {_cell(needed)} | {_cell(field.get('description', ''))} |")
    return lines


def _kind(field: dict) -> str:
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"])
    return f"list of {_kind(field['items'])}" if field.get("type") == "array" else str(field.get("type", ""))


PYTHON = {
    "Settings and data": (
        "corella.config.loading.load_config",
        "corella.data.prepare.load_dataset",
        "corella.data.dataset.Dataset",
        "corella.data.dataset.Samples",
    ),
    "Ranking": (
        "corella.ranking.corella.CoReLLa",
        "corella.ranking.fit.fit_ranking",
        "corella.ranking.model.FittedRanking",
        "corella.ranking.io.load_ranking",
        "corella.ranking.io.save_ranking",
        "corella.ranking.results.Predictions",
    ),
    "Retrieval": ("corella.retrieval.fit.fit_retrieval", "corella.retrieval.system.Retrieval"),
    "Both": ("corella.recommender.Recommender", "corella.recommender.Recommendation"),
    "Errors": ("corella.errors.UserError",),
}


def python() -> str:
    """Public names, for mkdocstrings."""
    lines = ["# Python API", "", "`from corella import ...` has the names that most programs need.", ""]
    for title, names in PYTHON.items():
        lines += [f"## {title}", "", *(f"::: {name}\n" for name in names)]
    missing = {
        name for name in corella.__all__ if not any(n.endswith(f".{name}") for g in PYTHON.values() for n in g)
    } - {"Config"}
    if missing:
        raise SystemExit(f"public, but not in the documentation: {', '.join(sorted(missing))}")
    return "\n".join(lines) + "\n"


def capacity(page: str) -> str:
    """The page with its tables between the marks written anew."""
    plans = {
        name: make_plan(read_plan_settings(overrides=over, users=users, items=items, requests=requests))
        for name, (users, items, requests, over) in LOADS.items()
    }
    asked = next(iter(plans.values())).asked
    tables = {
        "plans": [
            f"| users | {' | '.join(plans)} |", "|---|" + "---|" * len(plans),
            *(f"| {' | '.join(row)} |" for row in compared(list(plans.values()))),
        ],
        "first": [f"- **{name}.** {first(plan)}" for name, plan in plans.items()],
        "numbers": [
            "| number | value | meaning |", "|---|---|---|",
            *(
                f"| `{part}.{row.name}` | {value:,.4g} | {_cell(row.text)} |"
                for part, kind in (("load", Load), ("machines", Machines), ("costs", Costs))
                for row in describe(kind)
                for value in [getattr(getattr(asked, part), row.name)]
                if (part, row.name) not in {("load", "users"), ("load", "items"), ("load", "requests")}
            ),
        ],
    }  # fmt: skip
    for name, lines in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = page.partition(start)
        page = before + start + "\n".join(["", *lines, "", ""]) + end + rest.partition(end)[2]
    return page


def main() -> None:
    CAPACITY.write_text(capacity(CAPACITY.read_text(encoding="utf-8")), encoding="utf-8")
    FOLDER.mkdir(exist_ok=True)
    lead = (
        "A YAML file of sections, `--set section.key=value`, or `load_config(settings=...)`. [paper] marks values of "
        "the CoReLLa paper, [code] of its lab's code, [ours] of this project."
    )
    pages = {
        "settings": settings(Config, "Settings", lead),
        "serving-settings": settings(
            ServingSettings, "Settings of the service", "`corella serve RUN --config serve.yaml` or `--set name=value`."
        ),
        "serve-llm-settings": settings(
            WorkerSettings,
            "Settings of the language model's server",
            "`corella serve-llm RUN --config llm.yaml` or `--set name=value`.",
        ),
        "http": http(),
        "python": python(),
    }
    for name, text in pages.items():
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

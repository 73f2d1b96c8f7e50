"""The section of the report about data, machine and settings."""

from typing import Any

import yaml

from corella.config import Config
from corella.evaluation.results import Counted, Metrics
from corella.report.markup import details, esc, paragraph, table

_SECRET = {"uri", "password", "token", "secret"}


def render_data(metrics: Metrics, samples: Counted, config: Config) -> str:
    """What was read, dropped and split, where it was measured, and every setting."""
    data = metrics.dataset
    facts = [[name, f"{value:,}" if isinstance(value, int) else str(value)] for name, value in data.facts.items()]
    splits = [
        [s.split, f"{s.rows:,}", f"{s.users:,}", f"{s.items:,}", f"{100 * s.positive:.1f}\xa0%", s.first, s.last]
        for s in data.splits
    ]
    dropped = [[d.reason, f"{d.rows:,}", d.first] for d in data.dropped]
    warnings = "".join(f"<li>{esc(warning)}</li>" for warning in data.warnings)
    machine = {"seed": metrics.seed, **metrics.machine.model_dump()}
    measured = table("Measured on", ["", ""], [[name, _fact(value)] for name, value in machine.items()])
    lead = (
        f"The rows, split into training, validation and test. The language model read {samples.valid:,} "
        f"validation samples, on which router and blends were fitted, and {samples.test:,} test samples."
    )
    parts = [
        paragraph(lead),
        table("Splits", ["split", "rows", "users", "items", "positive", "first", "last"], splits),
        table("Rows dropped", ["reason", "rows", "first of them"], dropped, text=(0, 2))
        if dropped
        else paragraph("No rows were dropped."),
        f"<h3>Warnings</h3><ul>{warnings}</ul>" if warnings else paragraph("There were no warnings."),
        f'<div class="pair">{table("Read", ["", ""], facts)}{measured}</div>',
        details("Configuration (YAML)", f'<pre tabindex="0">{esc(_yaml(config))}</pre>'),
    ]
    return "".join(parts)


def _fact(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _yaml(config: Config) -> str:
    """The configuration as it was, secrets hidden."""
    found: str = yaml.safe_dump(_masked(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)
    return found


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "(hidden)" if str(k).lower() in _SECRET and v else _masked(v) for k, v in value.items()}
    return [_masked(v) for v in value] if isinstance(value, list) else value

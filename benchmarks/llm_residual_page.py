"""Figures and Markdown page of the benchmark of residual training."""

from typing import Any

from common import auc, stamp, table
from corella.report.numbers import signed

_KEYS = ("part", "target", "draw", "tuned", "epochs", "window", "rate", "step")
_COLD = "cold_test"


def _groups(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in _KEYS), []).append(row)
    return found


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    return float(sum(row[name] for row in rows) / len(rows))


def chosen(rows: list[dict[str, Any]], part: str, target: str) -> list[dict[str, Any]]:
    """The rows, one a seed, of the setting with the best mean gain on validation rows; those with most seeds first."""
    mine = [group for key, group in _groups(rows).items() if key[0] == part and key[1] == target]
    return max(mine, key=lambda group: (len(group), _mean(group, "gain_valid"))) if mine else []


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The named figures: residual and label training, each at its best setting by validation rows."""
    found: dict[str, float] = {}
    for part, short in (("polis", "polis"), ("ml-1m", "ml_1m")):
        for target, prefix in (("residual", "llm_residual_gain"), ("label", "llm_label_gain")):
            mine = chosen(rows, part, target)
            if mine:
                found |= {f"{prefix}_{short}{end}": _mean(mine, name) for end, name in
                          (("", "gain_test"), ("_low", "low_test"), ("_high", "high_test"))}  # fmt: skip
            if mine and all(row.get(_COLD) for row in mine):
                ends = [sum(row[_COLD][n] for row in mine) / len(mine) for n in range(3)]
                cold = f"{prefix.removesuffix('_gain')}_cold_gain_{short}"
                found |= {f"{cold}{end}": value for end, value in zip(("", "_low", "_high"), ends, strict=True)}
    return found


def pairs(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Cells of a row for each setting in which residual and label training read as many tokens."""
    found, groups = [], _groups(rows)
    for key, residual in groups.items():
        label = groups.get((key[0], "label", *key[2:]))
        if key[1] != "residual" or label is None:
            continue
        shared = {row["seed"] for row in residual} & {row["seed"] for row in label}
        ours, theirs = ([row for row in group if row["seed"] in shared] for group in (residual, label))
        if shared:
            gains = [signed(_mean(group, f"gain_{part}")) for part in ("valid", "test") for group in (ours, theirs)]
            setting = [key[0], *map(str, key[2:]), str(len(shared)), f"{_mean(ours, 'tokens') / 1e6:.1f}M"]
            found.append([*setting, *gains])
    return found


def llm_residual_page(title: str, text: str, result: dict[str, Any]) -> str:
    """The Markdown page."""
    body = []
    for key, group in _groups(result["rows"]).items():
        gains = [f"{signed(_mean(group, f'gain_{p}'))} [{signed(_mean(group, f'low_{p}'))}, "
                 f"{signed(_mean(group, f'high_{p}'))}]" for p in ("valid", "test")]  # fmt: skip
        cold = [row[_COLD] for row in group if row.get(_COLD)]
        told = signed(sum(c[0] for c in cold) / len(cold)) if cold else ""
        body.append([
            *map(str, key), str(len(group)), f"{_mean(group, 'targets'):,.0f}", f"{_mean(group, 'tokens') / 1e6:.1f}M",
            auc(_mean(group, "alone_test")), auc(_mean(group, "auc_test")), *gains, told,
            f"{_mean(group, 'train_seconds'):.0f}", group[0]["device"],
        ])  # fmt: skip
    columns = [
        "rows", "learns", "draw", "tuned", "epochs", "window", "rate", "step", "seeds", "targets", "tokens",
        "AUC alone",
        "AUC of the ensemble", "gain, validation", "gain, test", "gain, cold items", "training, s", "machine",
    ]  # fmt: skip
    equal = ["rows", "draw", "tuned", "epochs", "window", "rate", "step", "seeds", "tokens"]
    equal += [f"{target}, {part}" for part in ("validation", "test") for target in ("residual", "label")]
    lines = [f"# {title}", "", _NOTE, "", stamp(result), "", *table(columns, body), "", "## At equal tokens", ""]
    lines += ["Gains of settings that differ in nothing but what is learned.", ""]
    lines += [*table(equal, pairs(result["rows"])), "", "## Figures", ""]
    lines += table(["figure", "value"], [[f"`{k}`", signed(v)] for k, v in result["figures"].items()])
    return "\n".join(lines) + "\n"


_NOTE = """\
SmolLM2-135M, timeline prompts. `label`: it learns the label, as published. `residual`: its logit is added to the fixed
out-of-fold logit of the ensemble (LightGBM and DCNv2, both with text), so it learns what that half leaves
open. The gain is that of a blend of both logits over the ensemble alone, its weights fitted on validation
rows; 95 % intervals by statement (Polis: the newest 20 % of statements, votes counted as they come) or by user (ML-1M,
CoLLM rows). Means over the seeds. AUC alone of `residual` is that of the corrected logit. The figures take the setting
that validation rows prefer, of those with most seeds: residual and label training may have read differently many
targets there. Rows of commit `43a7b85` stand on one seed of the ensemble, and for them residual training used
logits out of random folds, uncalibrated; since then folds hold out statements where those to be ranked are new. Rows of
a CPU are scored in windows of 256 tokens, a tenth of it context, others of 512, half of it context."""

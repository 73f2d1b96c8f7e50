"""Figures and Markdown page of the benchmark of residual training."""

from typing import Any

from common import auc, signed, stamp, table

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
        "AUC of the conventional half", "gain, validation", "gain, test", "gain, cold items", "training, s", "machine",
    ]  # fmt: skip
    lines = [f"# {title}", "", _NOTE, "", stamp(result), "", *table(columns, body), "", "## Figures", ""]
    lines += table(["figure", "value"], [[f"`{k}`", signed(v)] for k, v in result["figures"].items()])
    return "\n".join(lines) + "\n"


_NOTE = """\
SmolLM2-135M, timeline prompts. `label`: it learns the label, as published. `residual`: its logit is added to the fixed
out-of-fold logit of the conventional half (LightGBM and DCNv2, both with text), so it learns what that half leaves
open. The gain is that of a blend of both logits over the conventional half alone, its weights fitted on validation
rows; 95 % intervals by statement (Polis: the newest 20 % of statements, votes counted as they come) or by user (ML-1M,
CoLLM rows). Means over the seeds of the language model; the conventional half has one seed. AUC alone of `residual` is
that of the corrected logit. The figures take the setting that validation rows prefer."""

"""The page of what gpu.py found: docs/benchmarks/gpu.{json,md}.

python benchmarks/gpu_page.py OUT COMMIT     # parts that OUT does not have stay as they were measured
python benchmarks/gpu_page.py --again        # the page anew from docs/benchmarks/gpu.json
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import DOCS, auc, run, stamp, table, write_result
from corella.errors import UserError
from corella.files import read_json, write_text
from corella.report.numbers import signed
from gpu_ranking import best

TITLE = "On a GPU"
TEXT = """\
One card, benchmarks/gpu.py. SmolLM2-135M in bfloat16 unless said otherwise; the 7B model has LLaMA-7B's shape and
random weights. A share of peak is model arithmetic over time, over the card's measured bfloat16 matrix product of 8192.
Arithmetic of a token forward is twice the weights of the blocks, and attention's; training of all weights takes three
times that, LoRA twice, for frozen weights need no gradient of their own. Compiled: `torch.compile`, block by block."""

_MACHINES = """\
| figures | measured on |
|---|---|
| this page | the card named above |
| [per request](llm-residual.md) | the machine of each row |
| [text for a retrieval](text-retrieval.md) | SASRec on a card (its rows name it), the rest on a processor |
| every other page | a processor, named on the page |"""

Rows = list[dict[str, Any]]
PARTS = {
    "ranking": "ranking with all targets: `CoReLLa as in the paper`, TALLRec, timeline and residual training with LoRA "
    "or all weights (an earlier form of the last two has, [per request](llm-residual.md))",
    "routing": "routing tables of the best of them",
    "retrieval": "CLLM4Rec with the whole language model",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="the folder that gpu.py wrote")
    parser.add_argument("commit", nargs="?", help="what was measured")
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    earlier = read_json(DOCS / "gpu.json") if (DOCS / "gpu.json").is_file() else {}
    if arguments.again:
        return write_text(DOCS / "gpu.md", page(TITLE, TEXT, earlier))
    if arguments.commit is None:
        raise UserError("give the folder that gpu.py wrote, and the commit that was measured")
    found = read_json(arguments.out / "gpu.json")
    routing = arguments.out / "routing.json"
    facts = merged(earlier, found, read_json(routing) if routing.is_file() else [], arguments.commit)
    rows = facts.pop("rows")
    write_result("gpu", TITLE, TEXT, rows, figures(facts, rows), facts, page)


def merged(earlier: Mapping[str, Any], found: Mapping[str, Any], routing: Rows, commit: str) -> dict[str, Any]:
    """What was measured, over what was measured earlier; `commits` tell each part's.

    Raises `UserError` where parts of two cards would meet.
    """
    before = earlier.get("machine", {})
    if before.get("card", found["machine"]) != found["machine"]:
        raise UserError(f"docs/benchmarks/gpu.json is of {before['card']}, this of {found['machine']}: a page has one")
    models = {"speed": "135M", "7B": "7B"}
    new = {models[part]: speed_rows(models[part], found[part]) for part in models if part in found}
    rows = [row for row in earlier.get("rows", []) if not new.get(row["model"])]
    kept = {name: list(found.get(name, {}).get("rows", {}).values()) or earlier.get(name, []) for name in PARTS}
    told = found.get("correctness", {})
    commits = {**earlier.get("commits", {}), **{part: commit for part in found if isinstance(found[part], dict)}}
    return {
        **kept, "rows": [*rows, *(row for each in new.values() for row in each)],
        "routing": routing or earlier.get("routing", []),
        "correctness": told.get("apart") or earlier["correctness"],
        "peak": told.get("bfloat16_tflops") or earlier["figures"]["bfloat16_peak_tflops"],
        "seeds": sorted({1, *(row["seed"] for row in kept["ranking"])}),
        "commits": {part: at for part, at in commits.items() if part != "libraries"},
        "machine": {**before, "card": found["machine"], **found.get("libraries", {})},
    }  # fmt: skip


def speed_rows(model: str, part: Mapping[str, Any]) -> Rows:
    """One row a measurement."""
    return [{"model": model, "what": name, **row} for name, row in part.items() if isinstance(row, dict)]


def figures(facts: Mapping[str, Any], rows: Rows) -> dict[str, float]:
    """The named figures; of a part that has not run there is none."""
    found: dict[str, float] = {"bfloat16_peak_tflops": facts["peak"]}
    named = {
        "train_mfu_135m": ("135M", "training, all"), "lora_mfu_135m": ("135M", "training, lora"),
        "lora_mfu_7b": ("7B", "LoRA training"), "forward_mfu_135m": ("135M", "forward"),
    }  # fmt: skip
    for name, (model, what) in named.items():
        shares = [
            r["share_of_peak"] for r in rows if r["model"] == model and r["what"].startswith(what) and "tflops" in r
        ]
        found |= {name: max(shares)} if shares else {}
    for name, model in (("prefix_candidates_per_second", "135M"), ("prefix_candidates_per_second_7b", "7B")):
        rates = [r["candidates_per_second"] for r in rows if r["model"] == model and "candidates_per_second" in r]
        found |= {name: max(rates)} if rates else {}
    for dtype in ("float32", "bfloat16"):
        found[f"logits_apart_{dtype}"] = max(v for k, v in facts["correctness"].items() if k.startswith(dtype))
    return found | ranking_figures(facts["ranking"])


def ranking_figures(rows: Rows) -> dict[str, float]:
    """Means over the seeds; the blend of the ensemble and of the training that validation rows prefer, and its gain
    over the ensemble alone with the ends of its 95 % interval by user."""

    def mean(system: Rows, key: str) -> float:
        return sum(float(row[key]) for row in system) / len(system)

    found: dict[str, float] = {}
    for system, key, name in (
        ("paper", "final_auc_test", "paper_auc_full"),
        ("tallrec", "llm_auc_test", "tallrec_auc_full"),
    ):
        mine = [row for row in rows if row["system"] == system]
        found |= {name: mean(mine, key)} if mine else {}
    chosen = best({f"{r['system']}-{r['tuned']}-{r['epochs']:g}-{r['seed']}": r for r in rows})
    if chosen is not None:
        mine = [
            r for r in rows if (r["system"], r["tuned"], r["epochs"]) == (chosen.system, chosen.tuned, chosen.epochs)
        ]
        keys = {"": "gain_test", "_low": "low_test", "_high": "high_test"}
        found["blend_auc_full"] = mean(mine, "blend_auc_test")
        found |= {f"blend_gain_full{end}": mean(mine, key) for end, key in keys.items()}
    return found


def page(title: str, text: str, result: dict[str, Any]) -> str:
    """The Markdown page; what has not run is named as such."""
    lines = [f"# {title}", "", text, "", stamp(result), ""]
    missing = [f"- {what}." for name, what in PARTS.items() if not result.get(name)]
    if missing:
        lines += ["**Has not run on a card** (prepared, and run in its smallest form on a processor; no figure of it "
                  "stands anywhere):", "", *missing, ""]  # fmt: skip
    lines += ["## Which figures come from which machine", "", _MACHINES, "", "## Speed", ""]
    lines += [*_speed(result["rows"]), "", "## Correctness", ""]
    lines += ["Largest distance of 60 logits from those of the processor in float32.", ""]
    apart = [[name, f"{value:.1e}"] for name, value in result["correctness"].items() if name != "seconds"]
    lines += [*table(["logits", "distance"], apart), ""]
    if result.get("ranking"):
        lines += ["## Ranking, MovieLens-1M (CoLLM's rows), all targets", "", *_ranking(result["ranking"]), ""]
    if result.get("routing"):
        lines += ["## Routing from the ensemble, test rows", "", *_routing(result["routing"]), ""]
    if result.get("retrieval"):
        lines += ["## CLLM4Rec", "", *_retrieval(result["retrieval"]), ""]
    lines += ["## Figures", ""]
    lines += table(["figure", "value"], [[f"`{k}`", f"{v:,.4g}"] for k, v in result["figures"].items()])
    return "\n".join(lines) + "\n"


def _speed(rows: Rows) -> list[str]:
    body = []
    for row in rows:
        body.append([
            row["model"], row["what"], f"{row.get('tokens', 0):,}" if "tokens" in row else "",
            f"{row['tokens_per_second']:,.0f}" if "tokens_per_second" in row else "",
            f"{row['share_of_peak']:.0%}" if "share_of_peak" in row else "",
            f"{row['candidates_per_second']:,.0f}" if "candidates_per_second" in row else "",
            f"{row['peak_gib']:.0f}" if row.get("peak_gib") else "",
        ])  # fmt: skip
    columns = ["model", "what", "tokens a step", "tokens a second", "share of peak", "candidates a second", "GiB"]
    return table(columns, body)


def _ranking(rows: Rows) -> list[str]:
    body = [
        [
            row["system"], row["tuned"], f"{row['epochs']:g}", str(row["seed"]), f"{row['targets']:,}",
            f"{row['tokens'] / 1e6:.1f}M", auc(row["llm_auc_test"]), auc(row.get("final_auc_test")),
            auc(row["auc_test"]), auc(row["blend_auc_test"]),
            f"{signed(row['gain_test'])} [{signed(row['low_test'])}, {signed(row['high_test'])}]",
            signed(row["gain_valid"]), f"{row['train_seconds']:.0f}",
        ]
        for row in rows
    ]  # fmt: skip
    columns = ["system", "tuned", "epochs", "seed", "targets", "tokens", "AUC, language model", "AUC, a fifth routed",
               "AUC, ensemble", "AUC, blend", "gain of the blend", "on validation rows", "training, s"]  # fmt: skip
    return table(columns, body)


def _routing(rows: Rows) -> list[str]:
    def interval(row: Mapping[str, Any]) -> str:
        return f"[{auc(row['auc_low'])}, {auc(row['auc_high'])}]"

    body = [
        [row["policy"], row["combine"], f"{row['share']:.0%}", auc(row["auc"]), interval(row), f"{row['captured']:.0%}"]
        for row in rows
    ]
    return table(["policy", "combine", "share", "AUC", "95 % interval", "gain captured"], body)


def _retrieval(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    measures = ("ndcg10", "ndcg100", "recall10", "recall20", "recall40")
    body = [
        [
            row["data"],
            row["backbone"],
            row["blocks"],
            *(f"{row[m]:.4f}" for m in measures),
            f"{row['train_seconds']:.0f}",
        ]
        for row in rows
    ]
    return table(["data", "language model", "blocks", *measures, "training, s"], body)


if __name__ == "__main__":
    run(main)

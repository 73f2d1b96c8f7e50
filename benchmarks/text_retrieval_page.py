"""Figures and Markdown page of the benchmark of text in retrieval."""

from typing import Any

from common import auc, stamp, table

PUBLISHED: dict[str, list[tuple[str, tuple[float, float, float, float]]]] = {
    "Beauty": [
        ("SASRec, published", (0.0249, 0.0387, 0.0318, 0.0605)),
        ("S3-Rec, published", (0.0244, 0.0387, 0.0327, 0.0647)),
        ("TIGER, published", (0.0321, 0.0454, 0.0384, 0.0648)), ("RPG, published", (0.0381, 0.0550, 0.0464, 0.0809)),
    ],
    "Toys": [
        ("SASRec, published", (0.0306, 0.0463, 0.0374, 0.0675)), ("TIGER, published", (0.0371, 0.0521, 0.0432, 0.0712)),
        ("RPG, published", (0.0401, 0.0592, 0.0490, 0.0869)),
    ],
    "Sports": [
        ("SASRec, published", (0.0154, 0.0233, 0.0192, 0.0350)), ("TIGER, published", (0.0181, 0.0264, 0.0225, 0.0400)),
        ("RPG, published", (0.0216, 0.0314, 0.0263, 0.0463)),
    ],
}  # fmt: skip
"""NDCG@5, Recall@5, NDCG@10, Recall@10 of TIGER (arXiv 2305.05065) and RPG (arXiv 2506.05781), whose tables hold the
others too. They read titles, brands, categories and descriptions."""

_SYSTEMS = {"corella": "", "EASE": "ease_", "SASRec": "sasrec_", "text neighbours": "text_neighbours_"}


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The named figures."""
    found: dict[str, float] = {}
    for row in rows:
        part, system = row["part"].lower().replace(" ", "_").replace("-", "_"), row["system"]
        short = _SYSTEMS.get(system)
        if short is not None and "ndcg10" in row:
            found |= {f"{part}_{short}ndcg10": row["ndcg10"], f"{part}_{short}cold_recall10": row["cold_recall10"]}
        if short is not None and "ndcg100" in row:
            found |= {f"{part}_{short}ndcg100": row["ndcg100"]}
        if system == "corella" and "train_seconds" in row:
            found |= {f"{part}_train_seconds": row["train_seconds"]}
        if row["part"] == "new items":
            found |= {"new_items_recall50" if system == "corella" else "new_items_list_recall50": row["recall50"]}
        if "nearest_seconds" in row:
            seconds = sum(row[name] for name in ("count_seconds", "nearest_seconds", "weights_seconds"))
            found |= {"large_train_seconds": seconds, "large_train_peak_gib": row["train_peak_gib"]}
    return found


def text_retrieval_page(title: str, text: str, result: dict[str, Any]) -> str:
    """The Markdown page."""
    lines = [f"# {title}", "", _NOTE, "", stamp(result), ""]
    parts = list(dict.fromkeys(row["part"] for row in result["rows"]))
    for part in parts:
        mine = [row for row in result["rows"] if row["part"] == part]
        lines += [f"## {part}", "", *_section(part, mine), ""]
    lines += ["## Figures", ""]
    lines += table(
        ["figure", "value"], [[f"`{k}`", auc(v) if v < 1 else f"{v:.1f}"] for k, v in result["figures"].items()]
    )
    return "\n".join(lines) + "\n"


def _section(part: str, rows: list[dict[str, Any]]) -> list[str]:
    if part == "new items":
        body = [[row["system"], auc(row["recall50"]), f"{row['users']:,}", f"{row['items']:,}"] for row in rows]
        return table(["list", "Recall@50", "users a fold", "new items a fold"], body)
    if part == "ml-100k":
        body = [[row["system"], auc(row["ndcg100"]), auc(row["recall20"])] for row in rows]
        return table(["system", "NDCG@100", "Recall@20"], body)
    lines = []
    usual = [row for row in rows if "ndcg10" in row]
    if usual:
        columns = ["system", "NDCG@10", "95 %", "Recall@10", "NDCG@5", "Recall@5", "cold Recall@10", "training, s"]
        body = [_usual(row) for row in sorted(usual, key=lambda row: -row["ndcg10"])]
        for name, (ndcg5, recall5, ndcg10, recall10) in PUBLISHED.get(part, []):
            body.append([name, auc(ndcg10), "", auc(recall10), auc(ndcg5), auc(recall5), "", ""])
        lines += table(columns, body)
    for row in rows:
        if "nearest_seconds" in row:
            lines += ["", f"{row['system']}, {row['interactions']:,} made-up interactions: co-occurrence "
                      f"{row['count_seconds']:.0f} s, nearest items {row['nearest_seconds']:.0f} s, weights "
                      f"{row['weights_seconds']:.0f} s; peak {row['train_peak_gib']:.1f} GiB."]  # fmt: skip
    return lines


def _usual(row: dict[str, Any]) -> list[str]:
    seconds = f"{row['train_seconds']:.0f}" if "train_seconds" in row else ""
    return [
        row["system"], auc(row["ndcg10"]), f"[{auc(row['ndcg10_low'])}, {auc(row['ndcg10_high'])}]",
        *(auc(row[name]) for name in ("recall10", "ndcg5", "recall5", "cold_recall10")), seconds,
    ]  # fmt: skip


_NOTE = """\
Every user's last item is the test, the one before it validation; all items are ranked but those that the user has had.
Trained without both; a history at the test holds the validation item. All choices are made on validation rows. Test
rows of Scientific and Beauty were looked at while the method was developed (docs/research/experiments.md). Seconds of
training are of two cores; that of CLLM4Rec was disturbed by other work. `corella` is the product as installed: MiniLM
reads every item once, a linear model in closed form learns from likes, their order and the texts, and boosted trees
order its candidates where that gains more than noise. It reads no other side data. `CLLM4Rec beside` lets it take part
as one more source: it gained less than noise on validation rows, so the fusion left it out. `linear without text` is
the same without texts, `EASE` without texts, order and recency, `SASRec` full cross-entropy over all items, tuned here
(width, dropout, epochs). Cold: test items with 1 to 4 training interactions.

The files have no times, so nobody can say what the order within a day rests on. The row with histories in random order
bounds what that can be worth: there nothing is known of the order but which item comes last. What published models read
is more than the five or six words an item that stand in these files: titles, brands, categories, descriptions."""

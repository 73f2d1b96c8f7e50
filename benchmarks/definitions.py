"""The ranking benchmarks: which data, which settings, which variants, and what others published on the same rows."""

from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A run beside the main one: what is different, and which of its systems become rows."""

    settings: Settings
    systems: tuple[str, ...] = ("llm",)
    """Names of rows in its metrics; `neural` stands for its neural conventional model, `neural blend` for that and the
    language model, `crm` for its ensemble, `blend` for that and the language model, `final` for what its own
    router and budget give."""
    quick: Settings = field(default_factory=dict)
    """What the quick form adds."""
    against: str | None = None
    """What its figures are compared with: `MAIN`, or `REFERENCE`, which in the quick form has the same size. A variant
    that learns or reads more or less for another reason than its name says is compared with nothing."""
    within: tuple[tuple[str, str], ...] = ()
    """Pairs of its own systems that are compared with each other, the second less the first."""
    from_main: bool = False
    """Whether all that it changes is the distillation after the language model's training: it starts from the main
    run's checkpoints then."""


@dataclass(frozen=True)
class Benchmark:
    """One dataset and protocol."""

    title: str
    text: str
    settings: Settings
    quick: Settings
    """What the quick form (two cores) adds; the full form (GPU) adds `full`."""
    full: Settings
    variants: dict[str, Variant] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    comparable: str | None = None
    """The row that read and learned from what the published ones did, or from the nearest to it."""


_READING = """\
Every number of ours is a mean over the seeds. Intervals are means over the seeds of 95 % intervals on the test rows
(DeLong for an AUC, a paired bootstrap over users for a difference), so they hold the uncertainty of the test set; `sd
over seeds` is the other one. Calibration, blends and routers are fitted on validation rows. A policy at a share sends
that share of the test samples to the language model and blends (or replaces) there. The oracle knows the true
difference of the logits: a guide, not a policy. Per-user AUC is the mean over users of the AUC among one user's
samples; AUC also gains from telling users apart. Those samples are of different moments: answers before a like hold
fewer likes than those before a dislike, as with cards that are not put back, so per-user AUC tends to be lower for a
model that follows a user's answers closely, whatever order it gives a list (`One list a user`, where it is measured).
Of comparisons without a true difference one in twenty leaves zero out by chance, and there are many.

`zero-shot` is the untrained language model with what the timeline says, counts in words included. `TALLRec` and
`CoReLLa as in the paper` are the methods with this language model and, in the quick form, some hundred targets, far
less than their authors gave them: what two cores can pay for, not what the methods can do. Where a distilled model is
not better on validation rows, its row is that of the one before."""

_SEEN = """

Not blind: that LightGBM is blended into the ensemble was decided after such blends had been seen on these
test rows, and our DCNv2 was revised after FuxiCTR's had been ahead on MovieLens-1M's (docs/research/experiments.md)."""

MAIN = "the main run"
REFERENCE = "the ablations' reference"
PLAIN_COUNTS = "counts of likes and dislikes alone"
_PLAIN: Settings = {"counts": {"ratings": False, "neighbours": 0}}
"""Count features without ratings and neighbours."""
_SMALL = {
    "data": _PLAIN,
    "joint": {"stage2_targets": 3_600, "stage3_targets": 8_400},
    "evaluation": {"max_valid": 2000, "max_test": 3000},
}
"""What an ablation learns and reads in the quick form, and `REFERENCE` too."""
_SMALL_BOOKS = {
    "joint": {"stage2_targets": 2_000, "stage3_targets": 5_000},
    "evaluation": {"max_valid": 800},
}
"""The same where each target has a user of its own, so that no two share a history that is read once."""
_ALL_PARTS = ("neural", "llm", "neural blend", "blend")


def _ablations(small: Settings) -> dict[str, Variant]:
    """What each part of the method is worth; `small` is what they and their reference learn and read."""
    return {
        REFERENCE: Variant({}, _ALL_PARTS, small),
        "zero-shot": Variant({"joint": {"stages": [1]}}, ("llm",), small, REFERENCE),
        "without stage 1": Variant({"joint": {"stages": [2, 3]}}, _ALL_PARTS, small, REFERENCE),
        "without stage 2": Variant({"joint": {"stages": [1, 3]}}, _ALL_PARTS, small, REFERENCE),
        "without stage 3": Variant({"joint": {"stages": [1, 2]}}, _ALL_PARTS, small, REFERENCE),
        "alignment weight 0": Variant({"joint": {"gamma": 0.0}}, _ALL_PARTS, small, REFERENCE),
        "CRM's view as soft tokens": Variant(
            {"llm": {"crm_tokens": True}}, ("llm", "neural blend", "blend"), small, REFERENCE
        ),
        "distilled into the CRM": Variant(
            {"joint": {"distil": 0.5}}, ("neural", "crm", "blend"), against=MAIN, from_main=True
        ),
    }


_COLLM_ONLY = {
    "titles and liked items only": Variant(
        {
            "data": {
                "history_answers": "likes", "user_fields": [], "item_fields": [], "list_fields": [],
                "item_text": "{title}", "user_text": "A user. Likes it?", **_PLAIN,
            },
            "crm": {"counts": False, "trees": False, "id_dropout": 0.0},
            "llm": {"counts_in_words": False, "crm_tokens": True},
        },
        ("neural", "llm", "blend"),
        within=(("neural", "blend"),),
    ),
    PLAIN_COUNTS: Variant(
        {"data": _PLAIN}, ("lightgbm", "neural", "crm", "llm", "blend", "final"), against=MAIN
    ),
    "strict time": Variant(
        {"data": {"strict_time": True, **_PLAIN}}, ("neural", "crm", "llm", "blend"), against=PLAIN_COUNTS
    ),
}  # fmt: skip
"""What the published models read, with soft tokens as the best of them have, ids never hidden (validation rows prefer
that); what ratings and neighbours are worth; and what is left when answers of the same second are hidden."""

_BOOKS_ONLY = {
    "targets only": Variant(
        {"data": {"split": {"by": "column", "learn_history": False, "min_history": 0}}},
        ("lightgbm", "dcnv2", "neural", "crm", "llm", "blend"),
        {"joint": {"stage2_targets": 1_000, "stage3_targets": 2_000}, "evaluation": {"max_valid": 800}},
    )
}
"""What the published models learn from."""

_FEW = {"max_valid": 500, "max_test": 1000}
_ONE_TARGET = {
    "TALLRec": Variant(
        {"recipe": "tallrec", "data": _PLAIN, "llm": {"lora_first_layer": 0}},
        quick={"joint": {"stage3_targets": 512}, "evaluation": _FEW},
    ),
    "CoReLLa as in the paper": Variant(
        {
            "recipe": "paper",
            "data": _PLAIN,
            "crm": {"id_dropout": 0.0},
            "llm": {"lora_first_layer": 0},
        },
        ("neural", "llm", "final"),
        {"joint": {"stage2_targets": 256, "stage3_targets": 256}, "evaluation": _FEW},
        within=(("neural", "final"),),
    ),
}
"""Pointwise prompts, at some 300 tokens a target; on two cores they read a part of the test rows."""

_COLLM_PUBLISHED = {
    "MF": (0.6482, 0.6361), "LightGCN": (0.5959, 0.6499), "SASRec": (0.7078, 0.6884), "DIN": (0.7166, 0.6459),
    "CTRL": (0.7159, 0.6492), "Prompt4NR": (0.7071, 0.6739), "TALLRec": (0.7097, 0.6818),
    "CoLLM-MF": (0.7295, 0.6875), "CoLLM-SASRec": (0.7235, 0.6990), "CoLLM-DIN": (0.7353, 0.6923),
    "CoLLM tuned": (0.7418, 0.6906), "BinLLM": (0.7425, 0.6956), "CoRA": (0.7361, 0.6884),
    "GraphLoRA": (0.7472, 0.7102), "SAILRec": (0.7571, None), "ARROW": (0.7577, 0.7146),
    "SeLLa-Rec": (0.7606, 0.7464), "TALLRec, Qwen2-1.5B": (0.7027, 0.6638),
    "CoLLM-MF, Qwen2-1.5B": (0.7354, 0.6950), "mean of MF and TALLRec": (0.7239, None),
    "mean of MF and CoLLM-MF": (0.7364, None),
}  # fmt: skip
_BOOKS_PUBLISHED = {
    "DeepFM": (0.7496, 0.5953, 0.6760), "AutoInt": (0.7481, 0.6840, 0.6365), "DCNv2": (0.7472, 0.6816, 0.6472),
    "DIN": (0.7477, 0.6811, 0.6557), "SASRec": (0.7482, 0.5934, 0.6811), "SIM": (0.7541, 0.5893, 0.6777),
    "CTR-BERT": (0.7448, 0.5938, 0.6704), "P5": (0.7438, 0.6128, 0.6563), "Vicuna-7B zero-shot": (0.7011, None, None),
    "Vicuna-13B zero-shot": (0.7176, 0.9507, 0.5649), "TALLRec 13B, 1,024 samples": (0.7471, 0.6144, 0.6851),
    "ReLLa-13B, 1,024 samples": (0.7575, 0.5919, 0.6806),
}  # fmt: skip

BENCHMARKS = {
    "ml-100k": Benchmark(
        title="MovieLens-100K, split by time",
        text="MovieLens-100K (100,000 ratings), ordered by time, first 80 % of the rows for training, next 10 % for\n"
        "validation, last 10 % for test; positive: rating >= 4. Language model: SmolLM2-135M-Instruct with LoRA,\n"
        "timeline prompts. Conventional models with count features also read past ratings and nearest neighbours,\n"
        "but for the ablations, TALLRec and CoReLLa as in the paper. " + _READING + _SEEN,
        settings={"crm": {"id_dropout": 0.8}},
        quick={
            "llm": {"lora_first_layer": 10},
            "joint": {"stage2_targets": 16_000, "stage3_targets": 16_000},
            "evaluation": {"max_valid": 6000},
        },
        full={"joint": {"stage2_targets": 40_000, "stage3_targets": 120_000}},
        variants=_ablations(_SMALL) | _ONE_TARGET,
    ),
    "ml-1m-collm": Benchmark(
        title="MovieLens-1M, CoLLM's rows",
        text="The slice of MovieLens-1M that the CoLLM paper published: its last 20 months, split by time into 33,891\n"
        "training, 10,401 validation and 7,331 test rows; positive: rating > 3. Language model: SmolLM2-135M-Instruct\n"
        "with LoRA, timeline prompts. Published rows are other people's, those with a language model of 7B parameters\n"
        "where no other is named, and read titles and liked items only; ours also read dislikes, genres, demographics\n"
        "and past counts. The conventional ones also read past ratings and nearest neighbours, but for the ablations,\n"
        "TALLRec, CoReLLa as in the paper, and rows that say so. `titles and liked items only` reads what the\n"
        "published models read, and the conventional model's view as soft tokens, as the best of them do. "
        + _READING
        + _SEEN,
        settings={"data": {"source": "ml-1m-collm"}, "crm": {"id_dropout": 0.8}},
        quick={
            "llm": {"lora_first_layer": 10},
            "joint": {"stage2_targets": 10_000, "stage3_targets": 23_800},
            "evaluation": {"max_valid": 6000},
        },
        full={"joint": {"stage2_targets": 33_800, "stage3_targets": 67_600}},
        variants=_COLLM_ONLY | _ablations(_SMALL) | _ONE_TARGET,
        published=[{"system": n, "auc": a, "user_auc": u} for n, (a, u) in _COLLM_PUBLISHED.items()],
        comparable="titles and liked items only: blend",
    ),
    "bookcrossing": Benchmark(
        title="BookCrossing, ReLLa's protocol",
        text="BookCrossing by the protocol of the ReLLa paper: one target for each of 17,714 users, the last one of a\n"
        "seeded shuffle, its history the others; 15,942 training targets (validation is a part of them), 1,772 test\n"
        "rows, whose standard error of an AUC is about .012; positive: rating >= 5. Our rows, conventional ones too,\n"
        "also learn from the answers in the histories of training users (at least five before), but for those named\n"
        "`targets only`. Published rows are other people's, and learn from targets. The log has no order of\n"
        "time, so all count features are frozen after training. " + _READING + _SEEN,
        settings={"data": {"source": "bookcrossing"}},
        quick={
            "llm": {"lora_first_layer": 10},
            "joint": {"stage2_targets": 4_000, "stage3_targets": 12_000},
        },
        full={"joint": {"stage2_targets": 40_000, "stage3_targets": 200_000}},
        variants=_BOOKS_ONLY | _ablations(_SMALL_BOOKS) | _ONE_TARGET,
        published=[
            {"system": n, "auc": a, "logloss": ll, "accuracy": acc} for n, (a, ll, acc) in _BOOKS_PUBLISHED.items()
        ],
        comparable="targets only: blend",
    ),
}

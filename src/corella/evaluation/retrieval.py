"""How well a retrieval finds what users like next, beside a list of the most liked items."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.cllm4rec.metrics import ndcg_at, recall_at
from corella.cllm4rec.recommend import Reader, top_items
from corella.cllm4rec.system import CLLM4Rec, liked_items
from corella.data.schema import SPLIT

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MOST_USERS, _AT_ONCE = 5000, 500
_LONGEST = 100
MEASURES = {"recall20": "Recall@20", "recall40": "Recall@40", "ndcg100": "NDCG@100"}
"""Key in metrics.json -> what it is called."""


def evaluate_retrieval(model: CLLM4Rec) -> dict[str, Any] | None:
    """Recall@20, Recall@40 and NDCG@100 (CLLM4Rec, section 4.1) of the retrieval and of the most liked items; None
    where nobody can be asked for.

    Asked is for users with a like before and one in test rows (5,000 of them at random, where there are more);
    what they answered outside of test rows is never recommended. JSON-able: `users`, how many, and `systems`: for each
    measure its mean over users and the ends of a 95 % interval (normal, over users), `difference` that of the retrieval
    less that of the most liked items, user by user.
    """
    dataset = model.dataset
    known = liked_items(dataset, ("train", "valid", "history"))
    wanted = liked_items(dataset, ("test",))
    asked = np.flatnonzero([len(k) > 0 and len(w) > 0 for k, w in zip(known, wanted, strict=True)])
    if not len(asked):
        return None
    asked = np.sort(np.random.default_rng(model.config.seed).permutation(asked)[:_MOST_USERS])
    answered = _answered(model)
    popular = np.bincount(np.concatenate(liked_items(dataset, ("train",))), minlength=dataset.items.height)
    found: list[Ints] = []
    liked_most: list[Ints] = []
    for start in range(0, len(asked), _AT_ONCE):
        some = asked[start : start + _AT_ONCE].tolist()
        without = [answered[u] for u in some]
        scores = model.scores([Reader(model.token(u), known[u]) for u in some])
        found += top_items(scores, without, _LONGEST)
        liked_most += top_items(np.tile(popular.astype(np.float32), (len(some), 1)), without, _LONGEST)
    relevant = [wanted[u] for u in asked.tolist()]
    retrieval, most_liked = (_measured(lists, relevant) for lists in (found, liked_most))
    difference = {name: retrieval[name] - most_liked[name] for name in MEASURES}
    systems = {"retrieval": retrieval, "the most liked items": most_liked, "difference": difference}
    return {
        "users": len(asked),
        "systems": {name: {m: _interval(values) for m, values in rows.items()} for name, rows in systems.items()},
    }


def _answered(model: CLLM4Rec) -> list[Ints]:
    """For every user code the items answered, liked or not, outside of test rows."""
    events = model.dataset.events
    kept = (model.dataset.log[SPLIT] != "test").to_numpy()[events.row]
    before = np.r_[0, np.cumsum(kept)]
    return np.split(events.item[kept], before[events.start[1:-1]])


def _measured(lists: Sequence[Ints], relevant: Sequence[Ints]) -> dict[str, Floats]:
    values = (recall_at(20, lists, relevant), recall_at(40, lists, relevant), ndcg_at(100, lists, relevant))
    return dict(zip(MEASURES, values, strict=True))


def _interval(values: Floats) -> dict[str, float]:
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("inf")
    mean = float(values.mean())
    return {"mean": mean, "low": max(mean - half, -1.0), "high": min(mean + half, 1.0)}


def retrieval_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """What `evaluate_retrieval` found as rows of text: the system, then every measure with its interval."""
    cells = {"difference": "difference, user by user"}
    return [
        [
            cells.get(name, name),
            *(f"{row[m]['mean']:.4f} [{row[m]['low']:.4f}, {row[m]['high']:.4f}]" for m in MEASURES),
        ]
        for name, row in found["systems"].items()
    ]

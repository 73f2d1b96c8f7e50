"""Part of text_retrieval.py: a shelf of new items, of which nothing but the text is known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from corella.config.loading import load_config
from corella.data.prepare import load_dataset
from corella.progress import Reporter
from corella.retrieval.fit import fit_retrieval
from corella.retrieval.histories import Reader, liked_items
from corella.retrieval.measures import recall_at

_FOLDS = 5


def measure_new_items(path: Path) -> Iterator[dict[str, Any]]:
    """Amazon Scientific, five folds: a fifth of the items are new, and a user's other items are known. Recall@50 among
    the new items, by the model and by a list that knows no text (the file's order: it has no times)."""
    told: dict[str, list[float]] = {"corella": [], "a list of the new items": []}
    items, users = [], []
    for fold in range(_FOLDS):
        split = {"by": "new-items", "folds": _FOLDS, "fold": fold}
        data = {"source": "amazon-scientific", "path": str(path), "split": split}
        given = {"measure_at": 50, "refit": False}
        config = load_config(settings={"data": data, "retrieval": given})
        dataset = load_dataset(config, reporter=Reporter())
        model = fit_retrieval(config, dataset, reporter=Reporter())
        known, wanted = liked_items(dataset, ("train",)), liked_items(dataset, ("test",))
        both = [u for u in range(len(known)) if len(known[u]) and len(wanted[u])]
        new = np.unique(np.concatenate(wanted))
        right = [wanted[u] for u in both]
        lists = model.top([Reader(-1, known[u]) for u in both], [known[u] for u in both], 50, new)
        told["corella"].append(float(recall_at(50, lists, right).mean()))
        told["a list of the new items"].append(float(recall_at(50, [new[-50:]] * len(both), right).mean()))
        items.append(len(new))
        users.append(len(both))
    for name, values in told.items():
        yield {
            "system": name, "recall50": float(np.mean(values)), "folds": values, "users": int(np.mean(users)),
            "items": int(np.mean(items)),
        }  # fmt: skip

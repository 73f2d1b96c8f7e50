"""How well a retrieval finds what users like next, beside a list of the most liked items."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from corella.columns import SPLIT
from corella.evaluation.results import Interval, RetrievalMeasures, RetrievalResult
from corella.progress import Reporter
from corella.retrieval.histories import Reader, items_of, liked_items, top_items, training_likes
from corella.retrieval.measures import ndcg_at, recall_at
from corella.retrieval.system import Retrieval

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MOST_USERS = 5000
_SCORES_AT_ONCE = 20_000_000
_LONGEST = 100
MEASURES = {"recall20": "Recall@20", "recall40": "Recall@40", "ndcg100": "NDCG@100"}
"""Key in metrics.json -> what it is called."""
DIFFERENCE = "difference, user by user"


def evaluate_retrieval(model: Retrieval, reporter: Reporter | None = None) -> RetrievalResult | None:
    """Recall@20, Recall@40 and NDCG@100 (CLLM4Rec, section 4.1) of the retrieval and of the most liked items; None
    where nobody can be asked for.

    Asked is for users with a like in test rows and one in the others (5,000 of them at random, where there are more).
    What they answered in the others is never recommended, and never counts as found. The most liked items are those of
    all rows that the retrieval may learn from. JSON-able: `users`, how many, and `systems`: for each measure its mean
    over users and the ends of a 95 % interval (normal, over users), `difference` that of the retrieval less that of the
    most liked items, user by user.
    """
    dataset = model.dataset
    known = liked_items(dataset, ("train", "valid", "history"))
    answered = items_of(dataset, (dataset.log[SPLIT] != "test").to_numpy())
    liked = liked_items(dataset, ("test",))
    wanted = [np.setdiff1d(mine, seen) for mine, seen in zip(liked, answered, strict=True)]
    asked = np.flatnonzero([len(k) > 0 and len(w) > 0 for k, w in zip(known, wanted, strict=True)])
    if not len(asked):
        return None
    asked = np.sort(np.random.default_rng(model.config.seed).permutation(asked)[:_MOST_USERS])
    items = dataset.items.height
    learned = np.concatenate(training_likes(dataset, ("train", "valid")))
    popular = np.bincount(learned, minlength=items).astype(np.float32)
    found: list[Ints] = []
    liked_most: list[Ints] = []
    at_once = max(_SCORES_AT_ONCE // items, 1)
    with (reporter or Reporter(quiet=True)).task("retrieval: users", len(asked)) as task:
        for start in range(0, len(asked), at_once):
            some = asked[start : start + at_once].tolist()
            without = [answered[u] for u in some]
            found += model.top([Reader(model.token(u), known[u]) for u in some], without, _LONGEST)
            liked_most += top_items(np.broadcast_to(popular, (len(some), items)), without, _LONGEST)
            task.update(start + len(some))
    relevant = [wanted[u] for u in asked.tolist()]
    retrieval, most_liked = (_measured(lists, relevant) for lists in (found, liked_most))
    each = {"retrieval": retrieval, "the most liked items": most_liked}
    systems = {name: _summed_up(rows, 0.0) for name, rows in each.items()}
    systems[DIFFERENCE] = _summed_up({m: retrieval[m] - most_liked[m] for m in MEASURES}, -1.0)
    return RetrievalResult(users=len(asked), systems=systems)


def _summed_up(rows: Mapping[str, Floats], least: float) -> RetrievalMeasures:
    return RetrievalMeasures(**{measure: _interval(values, least) for measure, values in rows.items()})


def _measured(lists: Sequence[Ints], relevant: Sequence[Ints]) -> dict[str, Floats]:
    values = (recall_at(20, lists, relevant), recall_at(40, lists, relevant), ndcg_at(100, lists, relevant))
    return dict(zip(MEASURES, values, strict=True))


def _interval(values: Floats, least: float) -> Interval:
    """Mean and interval of values between `least` and 1."""
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("inf")
    mean = float(values.mean())
    return Interval(mean=mean, low=max(mean - half, least), high=min(mean + half, 1.0))

"""One order of candidates out of all that is known of them: boosted trees on the sources' scores. [ours]

LambdaMART on validation users: for each candidate the scores of the linear model (also with everything as recent, and
of the newest item alone), of its parts, of CLLM4Rec where it takes part, how near its text, words and fields are to the
history, how often it followed the newest item, how popular it is, was lately, and how new. Out-of-fold lists say
whether that gains more than noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from corella.retrieval.catalogue import Catalogue
from corella.retrieval.linear import Linear, history_rows
from corella.retrieval.measures import ndcg_at

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

FEATURES = (
    "linear", "linear / best", "linear place", "linear, all as recent", "linear, newest item",
    "text, newest item", "text, nearest", "text, mean", "words, newest item", "words, nearest", "words, mean",
    "fields, newest item", "fields, nearest", "fields, mean", "together", "together / best", "next", "next / best",
    "followed newest item", "popularity", "popularity lately", "new", "history length", "popularity of newest item",
    "language model",
)  # fmt: skip
_FOLDS = 3
_NEWEST = 50
"""Items of a history whose texts are compared."""
_ROUNDS = 150


def candidate_features(
    linear: Linear,
    catalogue: Catalogue,
    histories: Sequence[Ints],
    scores: Floats,
    candidates: Sequence[Ints],
    language_model: Floats | None = None,
) -> list[Floats]:
    """For each history float32 [candidates, FEATURES].

    `scores`: the linear model's, [histories, items]; `candidates`: codes, best first; `language_model`: CLLM4Rec's
    scores, [histories, items].
    """
    even = linear.scores(histories, 1.0)
    newest = linear.scores([history[-1:] for history in histories])
    rows = history_rows(histories, linear.items, linear.strengths.recency)
    parts = [(rows @ weights).toarray() for weights in (catalogue.together, catalogue.next)]
    found = []
    for n, (history, items) in enumerate(zip(histories, candidates, strict=True)):
        said = scores[n, items]
        last = int(history[-1]) if len(history) else -1
        followed = catalogue.follows[last].toarray()[0, items] if last >= 0 else np.zeros(len(items))
        told = np.full(len(items), np.nan)
        if language_model is not None:
            told = (language_model[n, items] - language_model[n].mean()) / (language_model[n].std() + 1e-9)
        columns = (
            *_with_share(said), np.arange(len(items)), even[n, items], newest[n, items],
            *_nearness(catalogue, history[-_NEWEST:], items), *_with_share(parts[0][n, items]),
            *_with_share(parts[1][n, items]), np.log1p(followed), catalogue.popularity[items],
            catalogue.lately[items], catalogue.new[items], np.full(len(items), np.log1p(len(history))),
            np.full(len(items), catalogue.popularity[last] if last >= 0 else 0.0), told,
        )  # fmt: skip
        found.append(np.stack(columns, axis=1).astype(np.float32))
    return found


def _with_share(said: Floats) -> tuple[Floats, Floats]:
    return said, said / max(float(said.max(initial=0.0)), 1e-9)


def _nearness(catalogue: Catalogue, history: Ints, items: Ints) -> list[Floats]:
    """Cosines with the newest item, the nearest one, and their mean: of texts, of words, of fields."""
    found: list[Floats] = []
    for table in (catalogue.vectors, catalogue.words, catalogue.fields):
        if table is None or not len(history):
            found += [np.zeros(len(items), np.float32)] * 3
            continue
        near = table[history] @ table[items].T
        near = near if isinstance(near, np.ndarray) else near.toarray()
        found += [near[-1], near.max(axis=0), near.mean(axis=0)]
    return found


@dataclass(frozen=True)
class Fusion:
    """Boosted trees; `text` is LightGBM's own format, so nothing is pickled."""

    text: str

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def order(self, features: Floats) -> Ints:
        """The order of candidates, best first, by their features [candidates, FEATURES]."""
        if not len(features):
            return np.zeros(0, np.int64)
        return np.argsort(-self._booster.predict(features, num_threads=1), kind="stable")


@dataclass(frozen=True)
class FusionTrial:
    """A fusion fitted on all validation users, and what it gains out of fold."""

    fusion: Fusion
    ndcg: npt.NDArray[np.float64]
    """Of every user, by the trees of the folds that the user is not in."""
    without: npt.NDArray[np.float64]
    """Of the candidates' own order."""

    @property
    def worthwhile(self) -> bool:
        """Whether the gain is more than noise (95 %, over users)."""
        return _more_than_noise(self.ndcg - self.without)

    def beats(self, other: "FusionTrial") -> bool:
        """Whether this gains more than noise over another one for the same users."""
        return _more_than_noise(self.ndcg - other.ndcg)


def _more_than_noise(gain: npt.NDArray[np.float64]) -> bool:
    return len(gain) > 1 and bool(gain.mean() > 1.96 * gain.std(ddof=1) / len(gain) ** 0.5)


def fit_fusion(
    features: Sequence[Floats], candidates: Sequence[Ints], wanted: Sequence[Ints], at: int, seed: int
) -> FusionTrial | None:
    """Fit on validation users; None where too few candidates are wanted to learn from.

    `features`, `candidates`: of each user; `wanted`: what the validation rows hold; quality is NDCG@`at`.
    """
    hits = [np.isin(items, mine).astype(np.int32) for items, mine in zip(candidates, wanted, strict=True)]
    useful = np.array([0 < hit.sum() < len(hit) for hit in hits], dtype=bool)
    fold = np.random.default_rng(seed).integers(0, _FOLDS, len(hits))
    if any((useful & (fold != f)).sum() < 20 for f in range(_FOLDS)):
        return None
    orders: list[Ints] = [np.arange(len(items)) for items in candidates]
    for f in range(_FOLDS):
        fitted = _train(features, hits, np.flatnonzero(useful & (fold != f)), at, seed)
        for user in np.flatnonzero(fold == f).tolist():
            orders[user] = fitted.order(features[user])
    lists = [items[order] for items, order in zip(candidates, orders, strict=True)]
    whole = _train(features, hits, np.flatnonzero(useful), at, seed)
    return FusionTrial(whole, ndcg_at(at, lists, wanted), ndcg_at(at, candidates, wanted))


def _train(
    features: Sequence[Floats], hits: Sequence[npt.NDArray[np.int32]], users: Ints, at: int, seed: int
) -> Fusion:
    import lightgbm

    settings = {
        "objective": "lambdarank", "learning_rate": 0.03, "num_leaves": 15, "min_data_in_leaf": 200, "lambda_l2": 10.0,
        "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "seed": seed, "deterministic": True,
        "force_col_wise": True, "verbose": -1, "lambdarank_truncation_level": min(2 * at, 100),
    }  # fmt: skip
    data = lightgbm.Dataset(
        np.concatenate([features[u] for u in users.tolist()]), np.concatenate([hits[u] for u in users.tolist()]),
        group=[len(hits[u]) for u in users.tolist()], feature_name=[f"f{n}" for n in range(len(FEATURES))],
    )  # fmt: skip
    return Fusion(lightgbm.train(settings, data, _ROUNDS).model_to_string())

"""What is known of a sample before the language model runs, and a cheap guess of what it would say.

Features: count features, categorical fields, history length, the CRM's last hidden layer (principal components),
the item text's embedding (mean of the language model's own input embeddings, principal components), and how near
the item's text is to what the user liked and disliked before. The *distilled head* is boosted trees that predict
the language model's logit from the features that do not depend on the CRM; it learns from training rows, with the
logits that the language model gave them before it learned from them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from corella.crm.encoder import CRMEncoder
from corella.crm.trees import Trees, lightgbm_features
from corella.data.dataset import Dataset
from corella.data.samples import Events, Samples
from corella.data.scope import Scope
from corella.data.world import World, check_world
from corella.llm.backbone import Backbone, embed_texts

Floats = npt.NDArray[np.float32]

TEXT_SIZE = 16
HIDDEN_SIZE = 8
_BLOCK = 4096
MINIMUM_READ = 1000
"""Training targets that the language model must have read before a distilled head is fitted."""


@dataclass(frozen=True)
class Projection:
    """Principal components of rows of vectors. Plain data that JSON can hold."""

    mean: list[float]
    components: list[list[float]]

    def __call__(self, vectors: Floats) -> Floats:
        """[n, width] -> [n, components]."""
        return (vectors - np.array(self.mean, np.float32)) @ np.array(self.components, np.float32).T


def fit_projection(vectors: Floats, size: int) -> Projection:
    """The first `size` principal components of rows (fewer, where there are fewer rows or columns)."""
    pca = PCA(min(size, *vectors.shape), svd_solver="covariance_eigh").fit(vectors)
    return Projection(pca.mean_.astype(float).tolist(), pca.components_.astype(float).tolist())


@dataclass(frozen=True, eq=False)
class TextSignals:
    """Embeddings of item texts and of what users liked and disliked, for every event a running sum. Made by
    `text_signals`."""

    backbone: Backbone
    projection: Projection
    items: Floats
    """[items + 1, components], each of length 1; the last one, of an unknown item, is 0."""
    events: Events
    world: World

    @cached_property
    def sums(self) -> list[npt.NDArray[np.float64]]:
        """[events + 1, components]: of liked and of disliked items before each event."""
        return [_running(self.items[self.events.item] * (self.events.label == said)[:, None]) for said in (1, 0)]

    @cached_property
    def counts(self) -> list[npt.NDArray[np.int64]]:
        """[events + 1]: how many these are."""
        return [np.r_[0, np.cumsum(self.events.label == said)] for said in (1, 0)]

    def narrowed(self, scope: Scope) -> "TextSignals":
        """The same signals for the small world of a request."""
        items = self.items[np.r_[scope.items, -1]]
        if scope.new_items:
            texts = [unknown.text for unknown in scope.new_items.values()]
            items[list(scope.new_items)] = _reduced(self.projection, self.backbone, texts)
        return TextSignals(self.backbone, self.projection, items, scope.events, scope.world)

    def history_start(self, samples: Samples) -> npt.NDArray[np.int64]:
        """Where each sample's history begins among the events, int64 [n]."""
        return np.where(samples.user >= 0, self.events.start[samples.user], samples.history_end)

    def __call__(self, samples: Samples) -> Floats:
        """float32 [n, text + 2]: the item's embedding, its nearness to the user's liked and to the disliked items.
        Raises `WrongWorldError` for samples of another world."""
        check_world(samples, self.world)
        item = self.items[samples.item]
        start, end = self.history_start(samples), samples.history_end
        near = []
        for sums, counts in zip(self.sums, self.counts, strict=True):
            mean = (sums[end] - sums[start]) / np.maximum(counts[end] - counts[start], 1)[:, None]
            near.append((mean * item).sum(1))
        return np.concatenate([item, np.stack(near, axis=1)], axis=1).astype(np.float32)


def text_signals(dataset: Dataset, backbone: Backbone, projection: Projection | None = None) -> TextSignals:
    """Signals of a dataset. `projection`: the one fitted when the router was; unset: fitted on this catalogue."""
    texts = dataset.items["text"].to_list()
    projection = projection or fit_projection(embed_texts(texts, backbone), TEXT_SIZE)
    known = _reduced(projection, backbone, texts)
    items = np.concatenate([known, np.zeros((1, known.shape[1]), np.float32)])
    return TextSignals(backbone, projection, items, dataset.events, dataset.world)


def _reduced(projection: Projection, backbone: Backbone, texts: Sequence[str]) -> Floats:
    """Embeddings of texts, projected, and of length 1; in blocks, for they are wide before."""
    parts = [np.zeros((0, len(projection.components)), np.float32)]
    for start in range(0, len(texts), _BLOCK):
        reduced = projection(embed_texts(texts[start : start + _BLOCK], backbone))
        parts.append(reduced / (np.linalg.norm(reduced, axis=1, keepdims=True) + 1e-6))
    return np.concatenate(parts)


def _running(values: Floats) -> npt.NDArray[np.float64]:
    """Running sums from 0; float64, since users' sums are differences of sums over the whole log."""
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0, dtype=np.float64)])


def cheap_features(encoder: CRMEncoder, text: TextSignals, samples: Samples) -> Floats:
    """Everything known of samples that does not depend on a trained model, float32 [n, features]."""
    length = np.log1p(samples.history_end - text.history_start(samples)).astype(np.float32)
    return np.concatenate([lightgbm_features(encoder, samples), length[:, None], text(samples)], axis=1)


def fit_distilled_head(
    features: Callable[[Samples], Floats],
    train: Samples,
    first_logits: Floats,
    first_step: npt.NDArray[np.int64],
    seed: int,
) -> Trees | None:
    """Fit on the training rows that the language model has read, None where they are fewer than `MINIMUM_READ`.

    `features` of samples, [n, features]; `first_logits`, `first_step`: see `JointResult`.
    """
    import lightgbm

    read = np.flatnonzero(first_step >= 0)
    if len(read) < MINIMUM_READ:
        return None
    # The first answers come from a model that has learned little.
    weight = (first_step[read] / max(first_step.max(), 1)).clip(0.05).astype(np.float32)
    settings = {
        "objective": "l2", "learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 40, "lambda_l2": 5.0,
        "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1, "verbose": -1, "seed": seed,
        "deterministic": True, "force_col_wise": True, "num_threads": 1,
    }  # fmt: skip
    booster = lightgbm.train(
        settings, lightgbm.Dataset(features(train.take(read)), first_logits[read], weight=weight), 300
    )
    return Trees(booster.model_to_string())


@dataclass(frozen=True, eq=False)
class RouterFeatures:
    """Everything that the router reads besides the CRM's logit."""

    text: TextSignals
    head: Trees | None
    """The distilled head: guesses the language model's logit from cheap features."""
    projection: Projection
    """Of the CRM's last hidden layer."""

    def cheap(self, encoder: CRMEncoder, samples: Samples) -> tuple[Floats, npt.NDArray[np.float64] | None]:
        """What depends on no trained model, float32 [n, f], and the guessed logits of the language model, [n]."""
        features = cheap_features(encoder, self.text, samples)
        return features, self.head(features) if self.head else None

    def __call__(
        self, encoder: CRMEncoder, samples: Samples, hidden: Floats
    ) -> tuple[Floats, npt.NDArray[np.float64] | None]:
        """Features, float32 [n, f], and guessed logits, [n]. `hidden`: the CRM's last hidden layer, [n, width]."""
        cheap, guess = self.cheap(encoder, samples)
        return np.concatenate([cheap, self.projection(hidden)], axis=1), guess

    def narrowed(self, scope: Scope) -> "RouterFeatures":
        """The same for the small world of a request."""
        return replace(self, text=self.text.narrowed(scope))

"""LightGBM on count features, text features and categorical fields: what an engineer picks without neural models.

Training rows hardly show items that nobody interacted with, and trees that have learned to trust counts get worse on
them. So a second model is trained on rows that all look so, and answers for those items; unless validation rows say
that being the first tells something of its own (an author votes for their own statement).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corella.config import LightGBMConfig
from corella.crm.encoder import CRMEncoder
from corella.data.on_disk import OnDisk
from corella.data.samples import Samples

Shown = Callable[[Samples], Samples]
"""How samples are shown to a model: as they are, or as if nobody had interacted with their items."""

_FEW_ROWS = 20_000
_BATCH = 65_536


@dataclass(frozen=True)
class Trees:
    """Boosted trees in LightGBM's own text format, so nothing is pickled."""

    text: str
    new_items: str | None = None
    """Those for items that nobody has interacted with; None: the same as for all."""

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    @cached_property
    def _for_new_items(self) -> "Trees | None":
        return None if self.new_items is None else Trees(self.new_items)

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Raw scores of rows, float64 [n]. One thread: a request is small, and a server has others to answer."""
        return np.asarray(self._booster.predict(features, raw_score=True, num_threads=1), dtype=np.float64)

    def logits(self, encoder: CRMEncoder, samples: Samples) -> npt.NDArray[np.float32]:
        """Logits of samples that the trees of `train_trees` give, float32 [n]."""
        logits = self(lightgbm_features(encoder, samples)).astype(np.float32)
        new = np.flatnonzero(samples.popularity[:, 0] == 0)
        if self._for_new_items is not None and len(new):
            logits[new] = self._for_new_items(lightgbm_features(encoder, encoder.unseen(samples.take(new))))
        return logits

    def contributions(self, encoder: CRMEncoder, samples: Samples) -> npt.NDArray[np.float64]:
        """What each column of `feature_names` adds to each sample's logit, beside what all have in common; float64 [n,
        columns]. Shapley values, by the trees' own account (LightGBM's `pred_contrib`)."""
        features = lightgbm_features(encoder, samples)
        found = np.asarray(self._booster.predict(features, pred_contrib=True, num_threads=1), dtype=np.float64)[:, :-1]
        new = np.flatnonzero(samples.popularity[:, 0] == 0)
        if self._for_new_items is not None and len(new):
            found[new] = self._for_new_items.contributions(encoder, encoder.unseen(samples.take(new)))
        return found


def feature_names(encoder: CRMEncoder, counts: Sequence[str], text: Sequence[str]) -> list[str]:
    """Names of the columns of `lightgbm_features`; `counts` and `text`: those of the dataset."""
    columns = [*list(encoder.spec.user_columns)[1:], *list(encoder.spec.item_columns)[1:]]
    return [*counts, *(text if encoder.spec.text_mean else ()), *columns]


def lightgbm_features(encoder: CRMEncoder, samples: Samples) -> npt.NDArray[np.float32]:
    """Count features, text features if the encoder has them, then the categorical columns but the ids, as numbers;
    float32 [n, features]."""
    fields = encoder.fields(samples).numpy()
    ids = (0, len(encoder.spec.user_columns))
    columns = [c for c in range(fields.shape[1]) if c not in ids]
    return np.concatenate([encoder.features(samples), fields[:, columns].astype(np.float32)], axis=1)


def rows_of(encoder: CRMEncoder, samples: Samples, shown: Shown) -> Any:
    """What LightGBM reads of samples as they are shown: a matrix, or, of features that are on disk, a sequence that it
    reads in parts."""
    if not isinstance(samples.counts, OnDisk):
        return lightgbm_features(encoder, shown(samples))
    import lightgbm

    class Rows(lightgbm.Sequence):  # type: ignore[misc]
        """Rows that are asked for one by one come in ascending order, so a part is kept."""

        batch_size = _BATCH

        def __init__(self) -> None:
            self._first, self._kept = -1, np.zeros((0, 0))

        def __len__(self) -> int:
            return len(samples)

        def __getitem__(self, index: Any) -> npt.NDArray[np.float64]:
            if isinstance(index, slice):
                part = shown(samples.take(np.arange(len(samples))[index]))
                return lightgbm_features(encoder, part).astype(np.float64)  # LightGBM takes no other here
            first = index // _BATCH * _BATCH
            if first != self._first:
                self._first, self._kept = first, self[first : first + _BATCH]
            return np.asarray(self._kept[index - first])

    return Rows()


def train_trees(
    encoder: CRMEncoder,
    train: Samples,
    valid: Samples,
    config: LightGBMConfig,
    seed: int,
    on_round: Callable[[int], None] = lambda rounds: None,
    new_items: bool = False,
) -> Trees:
    """Train with early stopping on the AUC of `valid`. Deterministic for a seed and a machine.

    `on_round(trees so far)` is called after every tree.
    `new_items`: whether items without interactions may get trees of their own.
    """
    alone = Trees(_train(encoder, train, valid, config, seed, on_round, lambda samples: samples))
    if not new_items:
        return alone
    both = Trees(alone.text, _train(encoder, train, valid, config, seed, on_round, encoder.unseen))
    new = valid.take(np.flatnonzero(valid.popularity[:, 0] == 0))
    losses = [_log_loss(new.label, trees.logits(encoder, new)) for trees in (alone, both)]
    return both if losses[1] <= losses[0] else alone


def _log_loss(label: npt.NDArray[np.int64], logit: npt.NDArray[np.float32]) -> float:
    """Total logistic loss; 0 of no rows."""
    return float(np.logaddexp(0, np.where(label == 1, -logit, logit)).sum())


def _train(
    encoder: CRMEncoder,
    train: Samples,
    valid: Samples,
    config: LightGBMConfig,
    seed: int,
    on_round: Callable[[int], None],
    shown: Shown,
) -> str:
    """One boosted model of samples as they are shown, as text."""
    import lightgbm

    ours, theirs = rows_of(encoder, train, shown), lightgbm_features(encoder, shown(valid))
    settings = {
        "objective": "binary", "metric": "auc", "learning_rate": config.learning_rate, "num_leaves": config.leaves,
        "min_data_in_leaf": config.least_rows, "lambda_l2": config.l2, "feature_fraction": config.feature_share,
        "bagging_fraction": config.row_share, "bagging_freq": 1, "seed": seed, "deterministic": True,
        "force_col_wise": True, "verbose": -1,
        # On few rows several threads spend their time waiting for each other.
        "num_threads": 1 if len(train) < _FEW_ROWS else torch.get_num_threads(),
    }  # fmt: skip
    fields = list(range(encoder.features(train.take(np.arange(0))).shape[1], theirs.shape[1]))
    data = lightgbm.Dataset(ours, train.label, categorical_feature=fields if config.categories else [])
    check = lightgbm.Dataset(theirs, valid.label, reference=data)
    callbacks = [lambda state: on_round(state.iteration + 1), lightgbm.early_stopping(config.patience, verbose=False)]
    booster = lightgbm.train(settings, data, num_boost_round=config.rounds, valid_sets=[check], callbacks=callbacks)
    return str(booster.model_to_string(num_iteration=booster.best_iteration))

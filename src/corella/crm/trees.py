"""LightGBM on count features, text features and categorical fields: what an engineer picks without neural models.

Training rows hardly show items that nobody interacted with, and trees that have learned to trust counts get worse on
them. So a second model is trained on rows that all look so, and answers for those items; unless validation rows say
that being the first tells something of its own (an author votes for their own statement).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corella.crm.encoder import CRMEncoder
from corella.data.dataset import Samples

ROUNDS = 2000
"""Trees at most; training stops early on validation."""
_PATIENCE = 100
_FEW_ROWS = 20_000


@dataclass
class Trees:
    """Boosted trees in LightGBM's own text format, so nothing is pickled."""

    text: str
    new_items: str | None = None
    """Those for items that nobody has interacted with; None: the same as for all."""
    _booster: Any = field(default=None, repr=False, compare=False)

    def state(self) -> dict[str, str | None]:
        """Everything as JSON-able data, the keywords of its class."""
        return {"text": self.text, "new_items": self.new_items}

    @cached_property
    def _for_new_items(self) -> "Trees | None":
        return None if self.new_items is None else Trees(self.new_items)

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Raw scores of rows, float64 [n]. One thread: a request is small, and a server has others to answer."""
        import lightgbm

        if self._booster is None:
            self._booster = lightgbm.Booster(model_str=self.text)
        return np.asarray(self._booster.predict(features, raw_score=True, num_threads=1), dtype=np.float64)

    def logits(self, encoder: CRMEncoder, samples: Samples) -> npt.NDArray[np.float32]:
        """Logits of samples that the trees of `train_trees` give, float32 [n]."""
        logits = self(lightgbm_features(encoder, samples)).astype(np.float32)
        new = np.flatnonzero(samples.popularity[:, 0] == 0)
        if self._for_new_items is not None and len(new):
            logits[new] = self._for_new_items(lightgbm_features(encoder, encoder.unseen(samples.take(new))))
        return logits


def lightgbm_features(encoder: CRMEncoder, samples: Samples) -> npt.NDArray[np.float32]:
    """Count features, text features if the encoder has them, then the categorical columns but the ids, as numbers;
    float32 [n, features]."""
    fields = encoder.fields(samples).numpy()
    ids = (0, len(encoder.spec.user_columns))
    columns = [c for c in range(fields.shape[1]) if c not in ids]
    return np.concatenate([encoder.features(samples), fields[:, columns].astype(np.float32)], axis=1)


def train_trees(
    encoder: CRMEncoder,
    train: Samples,
    valid: Samples,
    seed: int,
    tuned: Mapping[str, float] | None = None,
    on_round: Callable[[int], None] = lambda rounds: None,
    new_items: bool = False,
) -> Trees:
    """Train with early stopping on the AUC of `valid`. Deterministic for a seed and a machine.

    `tuned`: LightGBM's parameters in place of the defaults. `on_round(trees so far)` is called after every tree.
    `new_items`: whether items without interactions may get trees of their own.
    """
    alone = Trees(_train(encoder, train, valid, seed, tuned, on_round))
    if not new_items:
        return alone
    both = Trees(alone.text, _train(encoder, encoder.unseen(train), encoder.unseen(valid), seed, tuned, on_round))
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
    seed: int,
    tuned: Mapping[str, float] | None,
    on_round: Callable[[int], None],
) -> str:
    """One boosted model, as text."""
    import lightgbm

    ours, theirs = (lightgbm_features(encoder, part) for part in (train, valid))
    settings = {
        "objective": "binary", "metric": "auc", "learning_rate": 0.03, "num_leaves": 15,
        "min_data_in_leaf": 100, "lambda_l2": 5.0, "feature_fraction": 0.7, "bagging_fraction": 0.8,
        "bagging_freq": 1, "seed": seed, "deterministic": True, "force_col_wise": True, "verbose": -1,
        # On few rows several threads spend their time waiting for each other.
        "num_threads": 1 if len(train) < _FEW_ROWS else torch.get_num_threads(), **(tuned or {}),
    }  # fmt: skip
    data = lightgbm.Dataset(ours, train.label)
    check = lightgbm.Dataset(theirs, valid.label, reference=data)
    callbacks = [lambda state: on_round(state.iteration + 1), lightgbm.early_stopping(_PATIENCE, verbose=False)]
    booster = lightgbm.train(settings, data, num_boost_round=ROUNDS, valid_sets=[check], callbacks=callbacks)
    return str(booster.model_to_string(num_iteration=booster.best_iteration))

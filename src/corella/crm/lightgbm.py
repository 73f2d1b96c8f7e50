"""LightGBM on counting features and categorical fields: what an engineer picks without neural models."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from corella.crm.inputs import CRMEncoder
from corella.data.dataset import Samples


def lightgbm_features(encoder: CRMEncoder, samples: Samples) -> npt.NDArray[np.float32]:
    """Counting features, then the categorical columns but the ids, as numbers; float32 [n, features]."""
    fields = encoder.fields(samples).numpy()
    ids = (0, len(encoder.spec.user_columns))
    columns = [c for c in range(fields.shape[1]) if c not in ids]
    return np.concatenate([samples.counts, fields[:, columns].astype(np.float32)], axis=1)


def lightgbm_logits(
    encoder: CRMEncoder,
    train: Samples,
    valid: Samples,
    others: list[Samples],
    seed: int,
    tuned: Mapping[str, float] | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Train with early stopping on `valid`; return the logits of `valid` and of each of `others`, float32.

    `tuned`: LightGBM's parameters in place of the defaults.
    """
    import lightgbm

    lists = [lightgbm_features(encoder, part) for part in (train, valid, *others)]
    settings = {
        "objective": "binary", "metric": "auc", "learning_rate": 0.03, "num_leaves": 15,
        "min_data_in_leaf": 100, "lambda_l2": 5.0, "feature_fraction": 0.7, "bagging_fraction": 0.8,
        "bagging_freq": 1, "seed": seed, "deterministic": True, "force_col_wise": True, "verbose": -1, **(tuned or {}),
    }  # fmt: skip
    data = lightgbm.Dataset(lists[0], train.label)
    check = lightgbm.Dataset(lists[1], valid.label, reference=data)
    stop = lightgbm.early_stopping(100, verbose=False)
    booster = lightgbm.train(settings, data, num_boost_round=2000, valid_sets=[check], callbacks=[stop])
    return [booster.predict(features, raw_score=True).astype(np.float32) for features in lists[1:]]

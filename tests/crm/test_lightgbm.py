"""LightGBM on counting features: deterministic, and it never reads an id."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from corella.crm.inputs import CRMEncoder, make_spec
from corella.crm.lightgbm import lightgbm_features, lightgbm_logits
from corella.data.dataset import Dataset


@pytest.fixture(scope="module")
def encoder(tiny_dataset: Dataset) -> CRMEncoder:
    return CRMEncoder(make_spec(tiny_dataset), tiny_dataset)


def test_logits(tiny_dataset: Dataset, encoder: CRMEncoder) -> None:
    train, valid, test = (tiny_dataset.samples(part) for part in ("train", "valid", "test"))
    one, other = (lightgbm_logits(encoder, train, valid, [test, train], seed=1) for _ in range(2))
    assert [len(part) for part in one] == [len(valid), len(test), len(train)]
    assert all(np.isfinite(part).all() and part.dtype == np.float32 for part in one)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert roc_auc_score(train.label, one[2]) > 0.8


def test_ids_are_not_features(tiny_dataset: Dataset, encoder: CRMEncoder) -> None:
    samples = tiny_dataset.samples("train")
    features = lightgbm_features(encoder, samples)
    assert features.shape == (len(samples), len(tiny_dataset.count_names) + 1)
    assert np.array_equal(features[:, :-1], samples.counts)
    gender = encoder.batch(samples).fields[:, 1].numpy()
    assert np.array_equal(features[:, -1], gender)

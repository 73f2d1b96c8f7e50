"""LightGBM on counting features: deterministic, and it never reads an id."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from corella.crm.inputs import CRMEncoder, make_spec
from corella.crm.lightgbm import Trees, lightgbm_features, train_trees
from corella.data.dataset import Dataset


@pytest.fixture(scope="module")
def encoder(tiny_dataset: Dataset) -> CRMEncoder:
    return CRMEncoder(make_spec(tiny_dataset), tiny_dataset)


def test_logits(tiny_dataset: Dataset, encoder: CRMEncoder) -> None:
    train, valid, test = (tiny_dataset.samples(part) for part in ("train", "valid", "test"))
    rounds: list[int] = []
    one = train_trees(encoder, train, valid, seed=1, on_round=rounds.append)
    assert train_trees(encoder, train, valid, seed=1) == one
    assert rounds == list(range(1, len(rounds) + 1))
    for part in (train, test):
        logits = one.logits(encoder, part)
        assert logits.dtype == np.float32 and logits.shape == (len(part),) and np.isfinite(logits).all()
        assert np.array_equal(Trees(one.text).logits(encoder, part), logits)
    assert roc_auc_score(train.label, one.logits(encoder, train)) > 0.8
    assert one.logits(encoder, train.take(np.arange(0))).shape == (0,)


def test_ids_are_not_features(tiny_dataset: Dataset, encoder: CRMEncoder) -> None:
    samples = tiny_dataset.samples("train")
    features = lightgbm_features(encoder, samples)
    assert features.shape == (len(samples), len(tiny_dataset.count_names) + 1)
    assert np.array_equal(features[:, :-1], samples.counts)
    gender = encoder.batch(samples).fields[:, 1].numpy()
    assert np.array_equal(features[:, -1], gender)

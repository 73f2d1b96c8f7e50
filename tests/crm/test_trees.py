"""LightGBM on count features: deterministic, and it never reads an id."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from corella.config import LightGBMConfig
from corella.crm.encoder import CRMEncoder, make_encoder
from corella.crm.spec import make_spec
from corella.crm.trees import Trees, lightgbm_features, train_trees
from corella.data.dataset import Dataset
from corella.data.samples import Samples


@pytest.fixture(scope="module")
def encoder(tiny_dataset: Dataset) -> CRMEncoder:
    return make_encoder(make_spec(tiny_dataset), tiny_dataset)


def test_logits(tiny_dataset: Dataset, encoder: CRMEncoder) -> None:
    train, valid, test = (tiny_dataset.samples(part) for part in ("train", "valid", "test"))
    rounds: list[int] = []
    one = train_trees(encoder, train, valid, LightGBMConfig(), seed=1, on_round=rounds.append)
    assert train_trees(encoder, train, valid, LightGBMConfig(), seed=1) == one
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


def test_new_items_have_trees_of_their_own(tiny_dataset: Dataset, encoder: CRMEncoder) -> None:
    """Items with interactions are scored as before; of others no count of theirs is read."""
    train, valid = tiny_dataset.samples("train"), tiny_dataset.samples("valid")
    known, both = (train_trees(encoder, train, valid, LightGBMConfig(), seed=1, new_items=new) for new in (False, True))
    np.testing.assert_array_equal(both.logits(encoder, train), np.where(
        train.popularity[:, 0] > 0, known.logits(encoder, train), both.logits(encoder, encoder.unseen(train))
    ))  # fmt: skip
    new = encoder.unseen(valid)
    odd = replace(new, counts=new.counts + np.eye(new.counts.shape[1])[tiny_dataset.count_names.index("item_answers")])
    np.testing.assert_array_equal(both.logits(encoder, new), both.logits(encoder, odd.take(np.arange(len(odd)))))
    assert both.new_items is not None and Trees(**asdict(both)) == both


def test_where_being_the_first_tells_something_new_items_have_no_trees(
    tiny_dataset: Dataset, encoder: CRMEncoder
) -> None:
    """Whoever meets an item first likes it: that must not be hidden."""
    train, valid = tiny_dataset.samples("train"), tiny_dataset.samples("valid")
    place = tiny_dataset.count_names.index("item_answers")

    def firsts(samples: Samples) -> Samples:
        first = np.arange(len(samples)) % 2 == 0
        counts = np.where(np.arange(samples.counts.shape[1]) == place, np.where(first, 0, 2)[:, None], samples.counts)
        popularity = np.where(first[:, None], 0, np.maximum(samples.popularity, 1))
        label = np.where(first, 1, samples.label)
        return replace(samples, counts=counts.astype(np.float32), popularity=popularity, label=label)

    assert (
        train_trees(encoder, firsts(train), firsts(valid), LightGBMConfig(), seed=1, new_items=True).new_items is None
    )

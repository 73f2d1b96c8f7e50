"""Training: the same seed gives the same weights, the best are kept, a planted signal is found."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from corella.config import Config, CRMConfig
from corella.crm.encoder import CRMEncoder, make_encoder
from corella.crm.models import MODELS, build_crm
from corella.crm.spec import make_spec
from corella.crm.training import CRMFit, batches, crm_logits, crm_outputs, train_crm
from corella.data.dataset import Dataset


@pytest.fixture(scope="module")
def encoder(tiny_dataset: Dataset) -> CRMEncoder:
    torch.set_num_threads(1)
    return make_encoder(make_spec(tiny_dataset), tiny_dataset)


def _trained(dataset: Dataset, encoder: CRMEncoder, config: CRMConfig, seed: int = 1) -> tuple[nn.Module, CRMFit]:
    torch.manual_seed(seed)
    model = build_crm(encoder.spec, config)
    fit = train_crm(model, encoder, dataset.samples("train"), dataset.samples("valid"), config, seed)
    return model, fit


def test_same_seed_same_weights(tiny_dataset: Dataset, encoder: CRMEncoder, tiny_config: Config) -> None:
    config = tiny_config.crm.model_copy(update={"epochs": 2, "id_dropout": 0.3})
    one, other = (_trained(tiny_dataset, encoder, config)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    third = _trained(tiny_dataset, encoder, config, seed=2)[0].state_dict()
    assert not all(torch.equal(one[name], third[name]) for name in one)


def test_best_weights_are_kept(tiny_dataset: Dataset, encoder: CRMEncoder, tiny_config: Config) -> None:
    """Trained far into overfitting: the validation AUC of what is kept is the maximum, not the last."""
    config = tiny_config.crm.model_copy(update={"epochs": 40, "patience": 1000, "dropout": 0.0, "learning_rate": 0.03})
    model, fit = _trained(tiny_dataset, encoder, config)
    valid = tiny_dataset.samples("valid")
    auc = roc_auc_score(valid.label, crm_logits(model, encoder, valid))
    assert auc == max(fit.valid_auc) == fit.valid_auc[fit.best]
    assert fit.valid_auc[-1] < max(fit.valid_auc)
    assert len(fit.valid_auc) >= 2 * config.epochs - 2
    assert fit.rows == config.epochs * len(tiny_dataset.rows("train"))


def test_training_stops_when_patience_is_spent(tiny_dataset: Dataset, encoder: CRMEncoder, tiny_config: Config) -> None:
    config = tiny_config.crm.model_copy(update={"epochs": 200, "patience": 3})
    _, fit = _trained(tiny_dataset, encoder, config)
    assert len(fit.valid_auc) == fit.best + 1 + 3
    assert fit.rows < 200 * len(tiny_dataset.rows("train"))


@pytest.mark.parametrize("name", MODELS)
def test_a_planted_signal_is_learned(
    name: str, tiny_dataset: Dataset, encoder: CRMEncoder, tiny_config: Config
) -> None:
    """Gender and genre decide together, neither alone; a user's likes by genre give it away, too."""
    config = tiny_config.crm.model_copy(update={"model": name, "epochs": 20, "patience": 12, "learning_rate": 0.03})
    model, _ = _trained(tiny_dataset, encoder, config)
    held_out = tiny_dataset.samples(np.r_[tiny_dataset.rows("valid"), tiny_dataset.rows("test")])
    assert roc_auc_score(held_out.label, crm_logits(model, encoder, held_out)) > 0.9


def test_steps_are_reported(tiny_dataset: Dataset, encoder: CRMEncoder, tiny_config: Config) -> None:
    config = tiny_config.crm.model_copy(update={"epochs": 1})
    seen: list[tuple[int, int, float]] = []
    train, valid = tiny_dataset.samples("train"), tiny_dataset.samples("valid")
    model = build_crm(encoder.spec, config)
    train_crm(model, encoder, train, valid, config, 1, lambda *step: seen.append(step))
    assert [rows for rows, _, _ in seen] == [*range(64, len(train), 64), len(train)]
    assert {total for _, total, _ in seen} == {len(train)}
    assert all(np.isfinite(loss) for _, _, loss in seen)


def test_batches_are_a_partition(tiny_dataset: Dataset) -> None:
    samples = tiny_dataset.samples("valid")
    order = np.random.default_rng(0).permutation(len(samples))
    parts = list(batches(samples.take(order), 7))
    assert np.array_equal(np.concatenate([part.row for part in parts]), samples.row[order])
    assert {len(part) for part in parts[:-1]} == {7}


def test_scores_and_hidden_layers_of_nothing(tiny_dataset: Dataset, encoder: CRMEncoder, tiny_config: Config) -> None:
    model = build_crm(encoder.spec, tiny_config.crm)
    some, none = tiny_dataset.samples("valid"), tiny_dataset.samples("valid").take(np.arange(0))
    assert crm_logits(model, encoder, none).shape == (0,)
    assert crm_outputs(model, encoder, none)[1].shape == (0, model.hidden_sizes[-1])  # type: ignore[index]
    assert crm_outputs(model, encoder, some)[1].shape == (len(some), model.hidden_sizes[-1])  # type: ignore[index]

"""The language model's answers as targets of a conventional model."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from corella.config import Config
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.crm.training import crm_logits, train_crm
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.joint.distillation import Lesson, draw_pairs, joined, lesson_of_training
from corella.ranking.fit import fit_ranking


def test_targets_by_hand(tiny_dataset: Dataset) -> None:
    """Rows answered late get a mixture, rows answered early or never keep their label."""
    train = tiny_dataset.samples("train")
    logits, step = np.full(len(train), np.nan, np.float32), np.full(len(train), -1)
    logits[:200] = np.where(train.label[:200] == 1, 1.0, -1.0) * np.where(np.arange(200) % 10 == 0, -1, 1)
    step[:200] = np.where(np.arange(200) < 20, 3, 40)
    lesson, calibrator = lesson_of_training(train, logits, step, weight=0.25)
    teacher = expit(calibrator.scale * logits[20:200] + calibrator.bias)
    np.testing.assert_allclose(lesson.target[20:200], 0.75 * train.label[20:200] + 0.25 * teacher, rtol=1e-5)
    np.testing.assert_array_equal(lesson.target[:20], train.label[:20])
    np.testing.assert_array_equal(lesson.target[200:], train.label[200:])


def test_pairs_are_new_and_see_only_the_past(tiny_dataset: Dataset) -> None:
    pairs = draw_pairs(tiny_dataset, 300, seed=1)
    train = tiny_dataset.samples("train")
    answered = set(zip(train.user.tolist(), train.item.tolist(), strict=True))
    assert 0 < len(pairs) <= 300
    assert not answered & set(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True))
    last_train = tiny_dataset.rows("train").max()
    events = tiny_dataset.events
    for user, end in zip(pairs.user, pairs.history_end, strict=True):
        assert (events.row[events.start[user] : end] <= last_train).all()
    assert (pairs.label == -1).all()


def test_pairs_need_the_order_of_time(tiny_dataset: Dataset) -> None:
    mixed = tiny_dataset.log.with_columns(pl.col("timestamp").reverse())
    with pytest.raises(UserError, match="order of time"):
        draw_pairs(replace(tiny_dataset, log=mixed), 5, seed=1)


def test_joined(tiny_dataset: Dataset) -> None:
    one, other = tiny_dataset.samples("valid"), tiny_dataset.samples("test")
    both = joined(Lesson(one, np.zeros(len(one), np.float32)), Lesson(other, np.ones(len(other), np.float32)))
    np.testing.assert_array_equal(both.samples.row, np.concatenate([one.row, other.row]))
    assert both.target.sum() == len(other)


def test_a_student_learns_its_targets_not_the_labels(tiny_dataset: Dataset, tiny_config: Config) -> None:
    encoder = make_encoder(make_spec(tiny_dataset), tiny_dataset)
    train, valid = tiny_dataset.samples("train"), tiny_dataset.samples("valid")
    config = tiny_config.crm.model_copy(update={"epochs": 3, "patience": 1000, "evaluations_per_epoch": 1})
    auc = []
    for target in (None, (1 - train.label).astype(np.float32)):
        torch.manual_seed(1)
        model = build_crm(encoder.spec, config)
        train_crm(model, encoder, train, valid, config, 1, target=target)
        auc.append(roc_auc_score(train.label, crm_logits(model, encoder, train)))
    assert auc[0] > 0.55
    assert auc[1] < 0.45


def test_a_system_distils(tiny_system_config: Callable[..., Config], tiny_dataset: Dataset) -> None:
    model = fit_ranking(tiny_system_config(joint={"distil": 0.5, "distil_pairs": 20}), tiny_dataset)
    before = max(v for k, v in model.facts.crm_valid_auc.items() if k != "distilled")
    valid = tiny_dataset.samples("valid")
    now = roc_auc_score(valid.label, crm_logits(model.neural, model.encoder, valid))
    assert now == pytest.approx(max(before, model.facts.crm_valid_auc["distilled"]))

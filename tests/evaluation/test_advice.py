"""What validation rows say of the budget, on the tiny system."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from corella.collaboration.system import CoReLLa
from corella.config import Config
from corella.data.dataset import Dataset
from corella.evaluation.advice import advice, validation_gain
from corella.evaluation.intervals import Difference


def test_everything_routed_is_the_blend(tiny_system: CoReLLa) -> None:
    valid = tiny_system.dataset.samples(tiny_system.valid_rows)
    router = tiny_system.router
    crm = router.crm(tiny_system.conventional(valid)[0])
    blended = router.combine(crm, router.llm(tiny_system.valid_llm))
    wanted = roc_auc_score(valid.label, blended) - roc_auc_score(valid.label, crm)
    assert validation_gain(tiny_system, 1.0).mean == pytest.approx(wanted, abs=1e-9)


def test_a_language_model_that_knows_lies_or_repeats(tiny_system: CoReLLa) -> None:
    valid = tiny_system.dataset.samples(tiny_system.valid_rows)
    knows = copy.copy(tiny_system)
    knows.router = copy.copy(tiny_system.router)
    knows.router.config = tiny_system.router.config.model_copy(update={"combine": "replace"})
    knows.valid_llm = (10.0 * valid.label - 5.0).astype(np.float32)
    found = validation_gain(knows, 1.0)
    assert found.mean > 0 and found.high > 0
    knows.valid_llm = -knows.valid_llm
    assert validation_gain(knows, 1.0).high < 0
    knows.valid_llm = tiny_system.conventional(valid)[0]
    assert abs(validation_gain(knows, 1.0).mean) < 1e-9
    assert validation_gain(tiny_system, 0.0).mean == 0


def test_sentences() -> None:
    assert advice(Difference(0.01, 0.005, 0.015, 0.01), 0.2).endswith("+.0100 [+.0050, +.0150].")
    assert "cannot be told from nothing" in advice(Difference(0.001, -0.002, 0.004, 0.5), 0.2)
    assert "does harm" in advice(Difference(-0.01, -0.015, -0.005, 0.01), 0.2)


def test_a_budget_of_requests_routes_whole_users(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset
) -> None:
    model = CoReLLa(tiny_system_config(routing={"budget_unit": "requests"})).fit(tiny_dataset)
    valid = model.dataset.samples(model.valid_rows)
    users = np.unique(valid.user)
    first = users[np.argmax(model.router.validation_priority)]
    crm = model.router.crm(model.conventional(valid)[0])
    blended = model.router.combine(crm, model.router.llm(model.valid_llm))
    wanted = roc_auc_score(valid.label, np.where(valid.user == first, blended, crm)) - roc_auc_score(valid.label, crm)
    assert validation_gain(model, 1 / len(users)).mean == pytest.approx(wanted, abs=1e-9)

"""What validation rows say of asking per request, and the rung that follows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from corella.config import Config
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.files import read_value, write_value
from corella.intervals import Difference
from corella.ranking.decision import Decision, RungChoice, asking_gain, decide, standing
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking
from corella.ranking.model import FittedRanking

Configure = Callable[..., Config]

_GAIN, _NOTHING, _HARM = (Difference(m, m - 0.005, m + 0.005, 0.1) for m in (0.01, 0.001, -0.01))


@pytest.mark.parametrize(
    ("setting", "text", "asking", "rung", "below"),
    [
        ("auto", _GAIN, _NOTHING, 1, 1),
        ("auto", _GAIN, _GAIN, 2, 1),
        ("auto", _NOTHING, _GAIN, 2, 0),
        ("auto", _HARM, _HARM, 0, 0),
        ("auto", None, _NOTHING, 0, 0),
        ("auto", _GAIN, None, 1, 1),
        (0, _GAIN, _GAIN, 0, 0),
        (1, _HARM, _GAIN, 1, 1),
        (2, _GAIN, _HARM, 2, 1),
        (2, _NOTHING, _HARM, 2, 0),
        (2, None, None, 2, 0),
    ],
)
def test_the_cheapest_that_is_not_significantly_worse(
    setting: RungChoice, text: Difference | None, asking: Difference | None, rung: int, below: int
) -> None:
    assert (decide(setting, text, asking), standing(setting, text)) == (rung, below)


def _asking(model: FittedRanking, share: float, z_llm: Any = None) -> Difference:
    valid = model.dataset.samples(model.validation.rows)
    said = model.validation.logits if z_llm is None else np.asarray(z_llm, np.float32)
    return asking_gain(model.router, model.conventional(valid)[0], said, valid, share, 1)


def test_everything_routed_is_the_blend(tiny_system: FittedRanking) -> None:
    valid = tiny_system.dataset.samples(tiny_system.validation.rows)
    router = tiny_system.router
    crm = router.crm(tiny_system.conventional(valid)[0])
    blended = router.combine(crm, router.llm(tiny_system.validation.logits))
    wanted = roc_auc_score(valid.label, blended) - roc_auc_score(valid.label, crm)
    assert _asking(tiny_system, 1.0).mean == pytest.approx(wanted, abs=1e-9)
    assert _asking(tiny_system, 0.0).mean == 0


def test_a_language_model_that_knows_lies_or_repeats(tiny_system: FittedRanking) -> None:
    valid = tiny_system.dataset.samples(tiny_system.validation.rows)
    config = tiny_system.router.config.model_copy(update={"combine": "replace"})
    knows = replace(tiny_system, router=replace(tiny_system.router, config=config))
    truth = 10.0 * valid.label - 5.0
    found = _asking(knows, 1.0, truth)
    assert found.mean > 0 and found.high > 0
    assert _asking(knows, 1.0, -truth).high < 0
    assert abs(_asking(knows, 1.0, knows.conventional(valid)[0]).mean) < 1e-9


def test_a_budget_of_requests_routes_whole_users(tiny_system_config: Configure, tiny_dataset: Dataset) -> None:
    model = fit_ranking(tiny_system_config(routing={"budget_unit": "requests"}), tiny_dataset)
    valid = model.dataset.samples(model.validation.rows)
    users = np.unique(valid.user)
    first = users[np.argmax(model.router.validation_priority)]
    crm = model.router.crm(model.conventional(valid)[0])
    blended = model.router.combine(crm, model.router.llm(model.validation.logits))
    wanted = roc_auc_score(valid.label, np.where(valid.user == first, blended, crm)) - roc_auc_score(valid.label, crm)
    assert _asking(model, 1 / len(users)).mean == pytest.approx(wanted, abs=1e-9)


def test_asked_by_default_only_where_that_is_served(
    tiny_system: FittedRanking, tiny_dataset: Dataset, tiny_system_config: Configure, tmp_path: Path
) -> None:
    """A budget does not force the language model on anybody; the setting or a share does."""
    assert (tiny_system.decision.rung, tiny_system.share) == (2, 0.2)
    model = fit_ranking(tiny_system_config(routing={"rung": "auto", "budget": 0.5}), tiny_dataset)
    decision, test = model.decision, tiny_dataset.samples("test")
    assert decision.asking == _asking(model, 0.5)
    assert decision.rung == (2 if decision.asking.low > 0 else 0)
    for rung, share in ((0, 0.0), (2, 0.5)):
        other = replace(model, decision=replace(decision, rung=rung))
        assert (other.share, other.affordable) == (share, 0.5)
        assert other.predict(test).routed.any() == (rung == 2)
    assert model.predict(test, 0.5).routed.any()
    save_ranking(model, tmp_path / "model")
    assert load_ranking(tmp_path / "model").decision == decision


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    for decision in (Decision(1, "auto", _GAIN, None), Decision(2, 2, None, _HARM)):
        write_value(tmp_path / "decision.json", decision)
        assert read_value(tmp_path / "decision.json", Decision) == decision


def test_text_cannot_be_served_without_an_encoder(tiny_system_config: Configure, tiny_dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"routing.rung is 1"):
        fit_ranking(tiny_system_config(routing={"rung": 1}), tiny_dataset)

"""The rungs of a trained system whose texts say more than its ids, from training to the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from corella.checkpoint import Checkpoints
from corella.config import Config
from corella.data.dataset import Dataset
from corella.evaluation.evaluate import evaluate
from corella.evaluation.pricing import validation_prices
from corella.evaluation.rungs import ALL, COLD_ITEMS, COLD_USERS, WARM
from corella.ranking.fit import fit_ranking
from corella.ranking.model import FittedRanking
from corella.report.wording import recommendation

Configure = Callable[..., Config]
Evaluated = tuple[dict[str, Any], Path]


@pytest.fixture(scope="module")
def system(told: Dataset, tiny_system_config: Configure) -> FittedRanking:
    """One that decides for itself what it serves, and would ask about cold-start items first."""
    return fit_ranking(tiny_system_config(routing={"rung": "auto", "budget": 0.3, "policy": "cold"}), told)


@pytest.fixture(scope="module")
def evaluated(system: FittedRanking, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    run = tmp_path_factory.mktemp("run")
    found = evaluate(system, Checkpoints(run))
    found.predictions.write_parquet(run / "predictions.parquet")
    return found.metrics, run


def test_validation_rows_decide(system: FittedRanking) -> None:
    prices = validation_prices(system)
    zero, one, two = prices.rungs
    assert [(rung.rung, rung.below) for rung in prices.rungs] == [(0, None), (1, 0), (2, system.served_rung)]
    assert (prices.part, prices.setting) == ("validation", "auto")
    decided = (system.decision.text, system.decision.asking)
    assert (one.groups[ALL].gain, two.groups[ALL].gain) == decided
    worth = [gain is not None and gain.low > 0 for gain in decided]
    assert prices.served == (2 if worth[1] else int(worth[0]))
    assert system.share == (0.3 if prices.served == 2 else 0.0)
    valid = system.dataset.samples("valid")
    aucs = [roc_auc_score(valid.label, system.base_logits(valid, rung)) for rung in (0, 1)]
    assert [zero.groups[ALL].auc, one.groups[ALL].auc] == pytest.approx(aucs)


def test_prices_of_the_rungs(system: FittedRanking) -> None:
    zero, one, two = (rung.price for rung in validation_prices(system).rungs)
    texts, space = system.dataset.texts, system.dataset.space
    assert texts is not None and space is not None
    assert (zero.memory, zero.share) == (0, None)
    assert one.memory > texts.vectors.nbytes + space.places.vectors.nbytes
    assert two.memory == sum(4 * p.numel() for p in system.llm.backbone.model.parameters())
    assert zero.milliseconds > 0 and one.milliseconds >= 0
    assert two.milliseconds_asked == system.facts.milliseconds_per_sample
    assert two.milliseconds == pytest.approx(0.3 * two.milliseconds_asked)
    # The seconds of every stage are told once.
    spent = [price.training_seconds for price in (zero, one, two)]
    assert min(spent) > 0
    assert sum(spent) == pytest.approx(sum(system.facts.seconds.values()))


def test_evaluation_tells_them_of_test_rows(system: FittedRanking, evaluated: Evaluated) -> None:
    metrics, run = evaluated
    prices = metrics.rungs
    assert (prices.part, prices.served, len(prices.rungs)) == ("test", system.decision.rung, 3)
    test, table = system.dataset.samples("test"), pl.read_parquet(run / "predictions.parquet")
    base = roc_auc_score(test.label, system.base_logits(test, system.served_rung))
    two = prices.rungs[2].groups[ALL]
    assert two.auc == pytest.approx(metrics.final.auc)
    assert two.gain is not None and two.gain.mean == pytest.approx(metrics.final.auc - base)
    groups = prices.rungs[1].groups
    assert groups.keys() == {ALL, COLD_ITEMS, COLD_USERS, WARM}
    assert groups[COLD_ITEMS].samples == (test.popularity[:, 0] < 5).sum()
    assert groups[COLD_USERS].samples == (table["answers_before"] < 5).sum()
    # What the budget would buy is measured whatever is served, and cold-start items are asked about first.
    routed = table["routed"].to_numpy()
    assert 0 < prices.rungs[2].price.share == pytest.approx(routed.mean())  # type: ignore[operator]
    seen = test.popularity[:, 0]
    assert seen[routed].max() <= seen[~routed].min()
    assert "(test rows)" in recommendation(prices)


def test_a_budget_of_nothing_leaves_two_rungs(told: Dataset, tiny_system_config: Configure) -> None:
    joint = {"stage2_targets": 40, "stage3_targets": 40}
    model = fit_ranking(tiny_system_config(joint=joint, routing={"rung": 0, "budget": 0.0}), told)
    prices = validation_prices(model)
    assert [rung.rung for rung in prices.rungs] == [0, 1]
    assert (prices.served, model.served_rung, model.share) == (0, 0, 0.0)
    test = told.samples("test")
    np.testing.assert_array_equal(model.predict(test).crm, model.router.crm(model.base_logits(test, 0)))
    assert "as routing.rung=0 wants" in recommendation(prices)

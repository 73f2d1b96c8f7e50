"""The conventional half without and with text: both are kept, and validation decides which one is served."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corella.calibration import Blend
from corella.config import Config
from corella.crm.models import build_crm
from corella.crm.rungs import fresh_rungs, load_rungs, text_gain
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking
from corella.ranking.model import FittedRanking
from corella.serving.state.live import Live

Configure = Callable[..., Config]


@pytest.fixture(scope="module")
def system(told: Dataset, tiny_system_config: Configure) -> FittedRanking:
    return fit_ranking(tiny_system_config(), told)


def test_both_rungs_are_trained_and_the_better_is_served(system: FittedRanking, told: Dataset) -> None:
    test = told.samples("test")
    text = system.decision.text
    assert text is not None and system.served_rung == int(text.low > 0)
    zero, one = (system.base_logits(test, rung) for rung in (0, 1))
    assert zero.dtype == one.dtype == np.float32
    assert not np.array_equal(zero, one)
    np.testing.assert_array_equal(system.conventional(test)[0], (zero, one)[system.served_rung])
    with pytest.raises(UserError, match="no rung 2"):
        system.base_logits(test, 2)


def test_both_come_back_from_disk(system: FittedRanking, told: Dataset, tmp_path: Path) -> None:
    save_ranking(system, tmp_path / "model")
    again, test = load_ranking(tmp_path / "model"), told.samples("test")
    assert (again.served_rung, len(again.rungs)) == (system.served_rung, 2)
    for rung in (0, 1):
        np.testing.assert_array_equal(again.base_logits(test, rung), system.base_logits(test, rung))


def test_without_an_encoder_there_is_one(tiny_system: FittedRanking, tiny_dataset: Dataset) -> None:
    assert (len(tiny_system.rungs), tiny_system.served_rung, tiny_system.decision.text) == (1, 0, None)
    with pytest.raises(UserError, match="no rung 1: this model has 1"):
        tiny_system.base_logits(tiny_dataset.samples("test"), 1)


def test_settings_leave_text_out(told: Dataset, tiny_config: Config) -> None:
    crm = tiny_config.crm.model_copy(update={"text": False})
    assert len(fresh_rungs(told, crm, build_crm, 1)) == 1


def test_the_rung_above_adds_to_the_one_below(told: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    below, above = fresh_rungs(told, tiny_config.crm, build_crm, 1)
    test = told.samples("test")
    alone = above.outputs(test)[0]
    above = replace(above, added=Blend(0.5, 2.0, 1.0))
    expected = 0.5 * below.outputs(test)[0] + 2 * alone + 1
    np.testing.assert_allclose(above.outputs(test)[0], expected, rtol=1e-5, atol=1e-6)
    for place, rung in enumerate((below, above)):
        rung.save(tmp_path, place)
    again = load_rungs(tmp_path, told, tiny_config.crm, build_crm)[1]
    np.testing.assert_array_equal(again.outputs(test)[0], above.outputs(test)[0])


def test_a_rung_is_worth_what_it_adds_on_validation_rows(
    system: FittedRanking, told: Dataset, tiny_config: Config
) -> None:
    """A trained rung beside one that has learned nothing, and beside itself."""
    valid, trained = told.samples("valid"), system.rungs[1]
    assert text_gain([fresh_rungs(told, tiny_config.crm, build_crm, 1)[0], trained], valid, 1).low > 0.05
    same = text_gain([trained, trained], valid, 1)
    assert same.low == same.mean == same.high == 0


def test_a_request_is_scored_like_rows_of_the_log(system: FittedRanking, told: Dataset) -> None:
    """Both rungs, narrowed to the world of a request, say what they say of the same samples of a query."""
    now, items = 2000, told.items["item_id"].to_list()[:5]
    scope, samples = Live(told).scope("u03", items, now=now)
    rows = pl.DataFrame({"user_id": ["u03"] * 5, "item_id": items, "timestamp": [now] * 5})
    for rung in system.rungs:
        found = rung.narrowed(scope).outputs(samples)[0]
        np.testing.assert_allclose(found, rung.outputs(told.query(rows))[0], rtol=1e-4, atol=1e-5)

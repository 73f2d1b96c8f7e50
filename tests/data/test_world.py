"""Samples of one world are never scored by a view of another one: their codes mean other users and items."""

import numpy as np
import pytest

from corella.data.dataset import Dataset
from corella.data.world import WrongWorldError
from corella.ranking.model import FittedRanking
from corella.ranking.views import request_view
from corella.serving.state.live import Live


def test_samples_are_scored_in_their_own_world(tiny_system: FittedRanking, tiny_dataset: Dataset) -> None:
    items = tiny_dataset.items["item_id"].to_list()[:5]
    scope, asked = Live(tiny_dataset).scope("u03", items, now=2000)
    view, whole = request_view(tiny_system, scope), tiny_dataset.samples("test")
    assert np.isfinite(view.predict(asked, 1.0).logit).all()
    for model, samples in ((tiny_system, asked), (view, whole)):
        with pytest.raises(WrongWorldError, match="were given to a view of"):
            model.predict(samples)
        with pytest.raises(WrongWorldError):
            model.llm_logits(samples)
        with pytest.raises(WrongWorldError):
            model.features.text(samples)
    other, _ = Live(tiny_dataset).scope("u03", items, now=2000)
    with pytest.raises(WrongWorldError):
        request_view(tiny_system, other).predict(asked)  # every request is a world of its own


def test_samples_keep_their_world(tiny_dataset: Dataset) -> None:
    scope, asked = Live(tiny_dataset).scope("u03", tiny_dataset.items["item_id"].to_list()[:5], now=2000)
    assert asked.take(np.array([0, 2])).world is scope.world
    with pytest.raises(WrongWorldError):
        asked.followed_by(tiny_dataset.samples("test"))
    test = tiny_dataset.samples("test")
    assert test.followed_by(tiny_dataset.samples("valid")).user.tolist()[: len(test)] == test.user.tolist()

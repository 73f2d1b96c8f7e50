"""The search for strengths on scores that the test names."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from corella.config import RetrievalConfig
from corella.retrieval.choose import Held, Tried, choose_strengths, start_strengths
from corella.retrieval.histories import top_items
from corella.retrieval.linear import Linear, Strengths, count_together
from corella.retrieval.measures import ndcg_at

HELD = Held([np.array([0])] * 8, [np.array([1])] * 8)
NOTHING = np.zeros((2, 0), np.float32)


def _config(**given: Any) -> RetrievalConfig:
    return RetrievalConfig.model_validate({"measure_at": 1, **given})


def _model(strengths: Strengths) -> Linear:
    return Linear(np.zeros((2, 2), np.float32), strengths, NOTHING, NOTHING.T)


def _told(quality: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model of some strengths have the NDCG that `quality` gives it, the same for every user but for a sign."""
    monkeypatch.setattr(Held, "ndcg", lambda _self, linear, _at: np.asarray(quality(linear.strengths), dtype=float))


def test_it_climbs_while_the_gain_is_more_than_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best text strength lies two steps above the start, the best penalty one below."""

    def quality(s: Strengths) -> np.ndarray:
        return np.full(8, 1.0 - abs(np.log(s.text / 9 + 1e-9)) / 50 - abs(np.log(s.penalty * 3)) / 50)

    _told(quality, monkeypatch)
    start = Strengths(1.0, 1.0, 0.0, 1.0)
    chosen = choose_strengths(_model, start, HELD, _config(following=0.0, recency=1.0), 20)
    assert (chosen.model.strengths.text, chosen.model.strengths.penalty) == pytest.approx((9.0, 1 / 3))


def test_it_does_not_follow_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean that grows by less than its standard error moves nothing."""
    noise = np.array([1.0, -1.0] * 4)

    def quality(s: Strengths) -> np.ndarray:
        return 0.5 + 0.01 * np.log(s.penalty) + 0.4 * noise * np.sign(np.log(s.penalty))

    _told(quality, monkeypatch)
    start = Strengths(1.0, 0.0, 0.0, 1.0)
    chosen = choose_strengths(_model, start, HELD, _config(following=0.0, text=0.0, recency=1.0), 20)
    assert chosen.model.strengths == start


def test_nothing_is_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that harm are not read, and an order that harms is not either."""
    _told(lambda s: np.full(8, 0.5 - 0.1 * (s.text > 0) - 0.1 * (s.following > 0)), monkeypatch)
    chosen = choose_strengths(_model, Strengths(1.0, 30.0, 3.0, 1.0), HELD, _config(recency=1.0), 20)
    assert (chosen.model.strengths.text, chosen.model.strengths.following) == (0.0, 0.0)


def test_recency_is_chosen_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    _told(lambda s: np.full(8, 0.5 - abs(s.recency - 0.8)), monkeypatch)
    tried: list[Tried] = []
    chosen = choose_strengths(_model, Strengths(1.0), HELD, _config(), 3, tried.append)
    assert chosen.model.strengths.recency == 0.8
    assert 1 <= len(tried) <= 3


def test_what_is_configured_stays() -> None:
    counts = count_together([np.array([0, 1])], 2)
    config = _config(penalty=7.0, text=5.0, following=0.0, recency=0.9)
    assert start_strengths(counts, True, config) == Strengths(7.0, 5.0, 0.0, 0.9)
    assert start_strengths(counts, False, config).text == 0.0
    tried: list[Tried] = []
    chosen = choose_strengths(_model, start_strengths(counts, True, config), HELD, config, 9, tried.append)
    assert len(tried) == 1 and chosen.model.strengths == Strengths(7.0, 5.0, 0.0, 0.9)


def test_without_validation_users_the_start_stands() -> None:
    start = Strengths(1.0, 2.0, 3.0, 0.7)
    chosen = choose_strengths(_model, start, Held([], []), _config(recency=0.7), 9)
    assert chosen.model.strengths == start and chosen.quality == 0.0


def test_ndcg_of_held_out_users_by_hand() -> None:
    """The first likes 0 and wants 1, which 0 speaks for; the second likes 1 and wants 2, for which nothing does."""
    weights = np.zeros((4, 4), np.float32)
    weights[0, 1], weights[1, 3] = 1.0, 1.0
    model = replace(_model(Strengths(1.0)), weights=weights)
    held = Held([np.array([0]), np.array([1])], [np.array([1]), np.array([2])])
    assert held.ndcg(model, 1).tolist() == [1.0, 0.0]


def test_ndcg_of_places_is_that_of_lists() -> None:
    """Counting what is above gives what sorting gives."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(30, 30)).astype(np.float32)
    model = Linear(weights, Strengths(1.0, recency=0.8), np.zeros((30, 0), np.float32), np.zeros((0, 30), np.float32))
    drawn = [rng.permutation(30)[:9] for _ in range(20)]
    held = Held([d[:5] for d in drawn], [d[5 : 6 + n % 4] for n, d in enumerate(drawn)])
    lists = top_items(model.scores(held.histories), held.histories, 10)
    np.testing.assert_allclose(held.ndcg(model, 10), ndcg_at(10, lists, held.wanted))

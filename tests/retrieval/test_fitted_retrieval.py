"""The fitted retrieval: who is recommended what and why, saved and loaded, new items, CLLM4Rec as a source."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corella.config import Config
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.retrieval import fit as fit_module
from corella.retrieval.cllm4rec.system import CLLM4Rec
from corella.retrieval.fit import fit_retrieval, held_out
from corella.retrieval.histories import Reader, likes_of, training_likes
from corella.retrieval.system import Retrieval
from small_fusion import by_language_model


def test_recommendations(tiny_retrieval: Retrieval, told: Dataset) -> None:
    users = told.users["user_id"].to_list()
    catalogue = set(told.items["item_id"].to_list())
    for k in (1, 5, 100):
        for user, row in zip(users, tiny_retrieval.recommend(users, k), strict=True):
            seen = set(told.log.filter(user_id=user)["item_id"].to_list())
            assert len(row) == min(k, len(catalogue) - len(seen)) == len(set(row))
            assert set(row) <= catalogue - seen
    short, long = tiny_retrieval.recommend(users, 3), tiny_retrieval.recommend(users, 8)
    assert [row[:3] for row in long] == short
    few = ["i03", "i04"]
    assert all(set(row) <= set(few) for row in tiny_retrieval.recommend(users, 5, candidates=few))


def test_mistakes(tiny_retrieval: Retrieval) -> None:
    with pytest.raises(UserError, match="no user_id 'nobody'"):
        tiny_retrieval.recommend(["nobody"])
    with pytest.raises(UserError, match="a list of users"):
        tiny_retrieval.recommend("u01")
    with pytest.raises(UserError, match="at least one item"):
        tiny_retrieval.recommend(["u01"], k=0)


def test_somebody_who_has_only_a_history(tiny_retrieval: Retrieval) -> None:
    row = tiny_retrieval.recommend_for(["i01", "i03"], 6)
    assert len(row) == 6 and not {"i01", "i03"} & set(row)
    assert tiny_retrieval.recommend_for([], 3) != []


def test_the_reasons_sum_to_the_score(tiny_retrieval: Retrieval, told: Dataset) -> None:
    (item,) = tiny_retrieval.recommend(["u05"], 1)[0]
    reasons = tiny_retrieval.reasons("u05", item)
    history = likes_of(told, 5)
    code = told.items["item_id"].to_list().index(item)
    assert sum(said for _, said in reasons) == pytest.approx(tiny_retrieval.linear.scores([history])[0, code], abs=1e-5)
    assert {name for name, _ in reasons} == {told.items["item_id"][int(i)] for i in history}


def test_saved_and_loaded(tiny_retrieval: Retrieval, tmp_path: Path) -> None:
    tiny_retrieval.save(tmp_path / "model")
    again = Retrieval.load(tmp_path / "model")
    assert again.recommend(["u05", "u06"], 10) == tiny_retrieval.recommend(["u05", "u06"], 10)
    assert again.said == tiny_retrieval.said
    readers = [Reader(-1, np.array([1, 3]))]
    texts = ["Comedy film"]
    np.testing.assert_array_equal(again.new_item_scores(readers, texts), tiny_retrieval.new_item_scores(readers, texts))
    (tmp_path / "model" / "said.json").write_text("{}")
    with pytest.raises(UserError, match=r"said\.json"):
        Retrieval.load(tmp_path / "model")


def test_a_new_item_is_liked_by_those_who_like_its_kind(tiny_retrieval: Retrieval, told: Dataset) -> None:
    """Texts say the genre: who liked a genre's items alone scores a new one of it above others."""
    texts = told.items["text"].to_list()
    for kind in ("Action film", "Comedy film"):
        mine = np.array([n for n, text in enumerate(texts) if text == kind])[:3]
        other = next(text for text in texts if text != kind)
        new = tiny_retrieval.new_item_scores([Reader(-1, mine)], [kind, other])
        assert new[0, 0] > new[0, 1]


def test_without_texts_no_new_item_is_scored(tiny_system_config: Callable[..., Config], tiny_dataset: Dataset) -> None:
    model = fit_retrieval(tiny_system_config(), replace(tiny_dataset, texts=None))
    assert model.linear.strengths.text == 0.0
    with pytest.raises(UserError, match="reads no texts"):
        model.new_item_scores([Reader(-1, np.array([1]))], ["a film"])


def test_validation_rows_are_learned_last(
    tiny_retrieval: Retrieval, tiny_system_config: Callable[..., Config], told: Dataset
) -> None:
    """The strengths are the same; the weights have seen more."""
    more = fit_retrieval(tiny_system_config(retrieval={"text": 5.0}), told)
    assert more.linear.strengths == tiny_retrieval.linear.strengths
    assert not np.array_equal(more.linear.weights, tiny_retrieval.linear.weights)


def test_it_never_sees_test_rows(tiny_system_config: Callable[..., Config], told: Dataset) -> None:
    """Other labels in test rows change nothing."""
    turned = pl.when(split="test").then(1 - pl.col("label")).otherwise("label").cast(pl.Int8).alias("label")
    other = replace(told, log=told.log.with_columns(turned))
    assert not np.array_equal(other.label, told.label)
    one, two = (fit_retrieval(tiny_system_config(), d) for d in (told, other))
    np.testing.assert_array_equal(one.linear.weights, two.linear.weights)
    for name in ("popularity", "lately", "new"):
        np.testing.assert_array_equal(getattr(one.catalogue, name), getattr(two.catalogue, name))


def test_a_large_catalogue_takes_the_sparse_form(tiny_system_config: Callable[..., Config], told: Dataset) -> None:
    dense, sparse = (
        fit_retrieval(tiny_system_config(retrieval={"dense_items": n, "neighbours": 500, "refit": False}), told)
        for n in (1000, 0)
    )
    assert dense.linear.strengths.penalty == sparse.linear.strengths.penalty
    assert len(sparse.recommend(["u05"], 5)[0]) == 5


def test_a_middling_catalogue_is_searched_on_its_nearest_items(
    tiny_system_config: Callable[..., Config], told: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all items near the search finds the same; the model is the one of all pairs either way."""
    config = tiny_system_config(retrieval={"neighbours": 500, "refit": False})
    plain = fit_retrieval(config, told)
    monkeypatch.setattr(fit_module, "_SEARCHED_DENSE", 5)
    searched = fit_retrieval(config, told)
    assert isinstance(searched.linear.weights, np.ndarray)
    assert searched.said.strengths == plain.said.strengths
    np.testing.assert_allclose(searched.linear.weights, plain.linear.weights, atol=1e-6)


def test_cllm4rec_is_a_source(
    tiny_retrieval: Retrieval, tiny_system_config: Callable[..., Config], told: Dataset, tmp_path: Path
) -> None:
    """A fusion that reads nothing else orders the candidates as CLLM4Rec does, saved and loaded too."""
    quick = {"pretraining_epochs": 1, "fine_tuning_epochs": 1, "llm_weight": 1.0, "start": "encoder", "layers": 1}
    beside = CLLM4Rec(tiny_system_config(retrieval=quick)).fit(told)
    model = replace(tiny_retrieval, language_model=beside, fusion=by_language_model())
    model.save(tmp_path / "model")
    for made in (model, Retrieval.load(tmp_path / "model")):
        found = made.recommend(["u05"], 12)[0]
        codes = [told.items["item_id"].to_list().index(item) for item in found]
        said = beside.scores([Reader(made.token(5), likes_of(told, 5))])[0][codes]
        place = np.argsort(np.argsort(-said))
        assert np.corrcoef(place, np.arange(len(codes)))[0, 1] > 0.9


def test_who_chooses(told: Dataset) -> None:
    likes = training_likes(told)
    held = held_out(told, likes, 1)
    assert 0 < len(held.histories) == len(held.wanted)
    assert all(len(h) and len(w) for h, w in zip(held.histories, held.wanted, strict=True))

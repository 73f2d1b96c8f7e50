"""Items that came after a retrieval was fitted: found by their texts, with reasons that sum to their scores."""

import numpy as np
import pytest

from corella.data.dataset import Dataset
from corella.retrieval.live import LiveRetrieval
from corella.retrieval.system import Retrieval


def _live(retrieval: Retrieval, *texts_of: int) -> LiveRetrieval:
    """With new items whose texts are those of fitted ones."""
    live = LiveRetrieval(retrieval)
    assert retrieval.dataset.vectors is not None
    for n, code in enumerate(texts_of):
        live.put(f"new{n}", retrieval.dataset.vectors[code])
    return live


def test_without_new_items_it_is_the_fitted_retrieval(tiny_retrieval: Retrieval, told: Dataset) -> None:
    live = _live(tiny_retrieval)
    rows = told.log.filter(user_id="u03")
    liked, seen = rows.filter(label=1)["item_id"].to_list(), rows["item_id"].to_list()
    assert [live.retrieve("u03", liked, seen, 6)] == tiny_retrieval.recommend(["u03"], 6)
    allowed = np.arange(told.items.height) % 2 == 0
    found = live.retrieve("u03", liked, seen, 6, allowed)
    assert found and {live.knows[item] % 2 for item in found} == {0}
    assert live.retrieve("nobody", ["no such item"], [], 3)  # it knows nothing of it, and answers all the same


def test_a_new_item_is_found_by_what_its_text_says(tiny_retrieval: Retrieval, told: Dataset) -> None:
    genres = told.items["text"].to_list()
    liked_genre = genres[0]
    other = next(n for n, text in enumerate(genres) if text != liked_genre)
    live = _live(tiny_retrieval, 0, other)
    liked = [tiny_retrieval.item_names[n] for n, text in enumerate(genres) if text == liked_genre][:4]
    one, two = live.scores(liked, ["new0", "new1"])
    assert one > two
    assert "new0" in live.retrieve("", liked, liked, 5)
    assert "new0" not in live.retrieve("", liked, liked, 5, allowed_new=["new1"])
    assert "new0" not in live.retrieve("", liked, [*liked, "new0"], 5)
    assert live.similar(liked[0], 40)[0].part >= live.similar(liked[0], 40)[-1].part
    assert liked[0] not in {one.item_id for one in live.similar(liked[0], 40)}
    assert {one.item_id for one in live.similar("new0", 5)} and live.similar("no such item", 5) == []


def test_reasons_of_all_items_sum_to_their_scores(tiny_retrieval: Retrieval) -> None:
    live = _live(tiny_retrieval, 0, 7)
    names = tiny_retrieval.item_names
    liked = [names[3], "new0", names[5], names[3], "no such item", names[9]]
    for_fitted, for_new = live.because(liked, [names[1], "new1"])
    code = live.knows[names[1]]
    assert sum(one.part for one in for_fitted) == pytest.approx(float(live._fitted_scores(liked)[code]), abs=1e-5)
    assert sum(one.part for one in for_new) == pytest.approx(float(live.scores(liked, ["new1"])[0]), abs=1e-5)
    assert sum(one.share for one in for_fitted if one.part > 0) == pytest.approx(1)
    assert live.because(liked, [names[1]], 2) == [for_fitted[:2]]
    parts = [one.part for one in for_fitted]
    assert parts == sorted(parts, reverse=True) and {one.item_id for one in for_fitted} == set(liked)
    assert any(one.item_id == "new0" and one.part != 0 for one in for_fitted)

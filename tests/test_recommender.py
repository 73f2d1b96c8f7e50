"""Retrieval and ranking together and each alone, in Python and on the command line."""

import numpy as np
import polars as pl
import pytest

from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.evaluation.examples import example_recommendations
from corella.evaluation.results import Example
from corella.ranking.model import FittedRanking
from corella.recommender import Recommender, unanswered
from corella.retrieval.system import Retrieval


def test_both(tiny_retrieval: Retrieval, tiny_system: FittedRanking, tiny_dataset: Dataset) -> None:
    """The candidates are the retrieval's, their order is the ranking's."""
    found = tiny_retrieval.recommend(["u05"], 6)[0]
    rows = Recommender(tiny_retrieval, tiny_system).recommend("u05", k=4, candidates=6, share=0.5)
    assert len(rows) == 4
    assert {found[r.retrieved_at - 1] for r in rows if r.retrieved_at} == {r.item_id for r in rows}
    final = [r.probability for r in rows]
    assert final == sorted(final, reverse=True)  # type: ignore[type-var]
    asked = tiny_dataset.query(pl.DataFrame({"user_id": ["u05"] * 6, "item_id": found}))
    expected = np.sort(tiny_system.predict(asked, 0.5).probability)[::-1][:4]
    np.testing.assert_allclose(final, expected, atol=1e-6)
    titles = dict(zip(tiny_dataset.items["item_id"], tiny_dataset.items["text"], strict=True))
    assert all(r.text == titles[r.item_id] for r in rows)
    for row in rows:
        assert (row.llm_probability is None) == (row.probability == row.crm_probability)


def test_retrieval_alone(tiny_retrieval: Retrieval) -> None:
    rows = Recommender(tiny_retrieval).recommend("u03", 5)
    assert [r.item_id for r in rows] == tiny_retrieval.recommend(["u03"], 5)[0]
    assert [r.retrieved_at for r in rows] == [1, 2, 3, 4, 5]
    assert all(r.probability is None for r in rows)


def test_ranking_alone(tiny_system: FittedRanking, tiny_dataset: Dataset) -> None:
    everything = unanswered(tiny_dataset, "u03")
    assert not set(everything) & set(tiny_dataset.log.filter(user_id="u03")["item_id"])
    rows = Recommender(ranking=tiny_system).recommend("u03", 1000, share=0.0)
    assert {r.item_id for r in rows} == set(everything)
    assert all(r.retrieved_at is None and r.llm_probability is None for r in rows)


def test_examples_for_the_report(tiny_retrieval: Retrieval, tiny_system: FittedRanking, tiny_dataset: Dataset) -> None:
    """Users of test rows, short histories before long ones; what they answered is not recommended."""
    examples = example_recommendations(Recommender(tiny_retrieval, tiny_system), tiny_dataset, known=2)
    assert [e.trained for e in examples[:2]] == [True, True]
    tested = set(tiny_dataset.log.filter(split="test")["user_id"])
    likes = []
    for example in examples:
        log = tiny_dataset.log.filter(user_id=example.user_id)
        texts = dict(zip(tiny_dataset.items["item_id"], tiny_dataset.items["text"], strict=True))
        newest = [texts[i] for i in log.filter(label=1)["item_id"].reverse()]
        assert example.liked == newest[:8]
        assert not {row.item_id for row in example.items} & set(log["item_id"])
        assert example.user_id in tested
        likes.append(log["label"].sum())
    assert likes[0] <= likes[1]
    assert all(Example.model_validate_json(example.model_dump_json()) == example for example in examples)


def test_mistakes(tiny_retrieval: Retrieval, tiny_system: FittedRanking) -> None:
    with pytest.raises(UserError, match="a retrieval model, a ranking model, or both"):
        Recommender().recommend("u01")
    for recommender in (Recommender(tiny_retrieval, tiny_system), Recommender(ranking=tiny_system)):
        with pytest.raises(UserError, match="no user_id 'nobody'"):
            recommender.recommend("nobody")

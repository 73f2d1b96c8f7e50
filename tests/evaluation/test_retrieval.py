"""Recall and NDCG of a retrieval, by hand on a few users."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from corella.config import DataConfig
from corella.data.dataset import make_dataset
from corella.evaluation import retrieval as retrieval_module
from corella.evaluation.results import Interval, RetrievalMeasures
from corella.evaluation.retrieval import evaluate_retrieval
from corella.report.recommendations import retrieval_rows
from corella.retrieval.histories import Reader, top_items

ITEMS = [f"i{n}" for n in range(60)]


class Oracle:
    """A retrieval whose best items the test names."""

    def __init__(self, rows: list[tuple[str, int, int, str]], best: dict[int, list[int]], **given: Any) -> None:
        log = pl.DataFrame(rows, schema=["user_id", "item", "label", "split"], orient="row")
        log = log.with_columns(
            item_id=pl.lit("i") + pl.col("item").cast(pl.String), label=pl.col("label").cast(pl.Int8)
        )
        config = DataConfig.model_validate(
            {"source": "tables", "interactions": {"path": "x.csv"}, "label": "label", "order": [], **given}
        )
        users = log.select("user_id").unique().sort("user_id").with_columns(text=pl.lit("A user."))
        items = pl.DataFrame({"item_id": ITEMS, "text": ITEMS})
        self.dataset = make_dataset(log.drop("item"), users, items, config)
        self.config, self.best, self.asked = SimpleNamespace(seed=1), best, []

    def token(self, user: int) -> int:
        return user

    def top(self, readers: list[Reader], without: list[Any], k: int) -> Any:
        self.asked += readers
        found = np.zeros((len(readers), len(ITEMS)), np.float32)
        for row, reader in zip(found, readers, strict=True):
            for place, item in enumerate(self.best[reader.user]):
                row[self.code(item)] = 100 - place
        return top_items(found, without, k)

    def code(self, item: int) -> int:
        return self.dataset.items["item_id"].to_list().index(f"i{item}")


ROWS = [
    ("a", 1, 1, "train"), ("a", 2, 0, "train"), ("a", 3, 1, "valid"), ("a", 4, 1, "test"), ("a", 5, 1, "test"),
    ("a", 6, 0, "test"), ("b", 1, 1, "train"), ("b", 7, 1, "test"), ("c", 8, 1, "test"), ("d", 1, 1, "train"),
    ("e", 4, 1, "train"), ("e", 5, 1, "train"), ("e", 7, 1, "train"), ("f", 4, 1, "valid"), ("f", 7, 1, "train"),
    ("g", 7, 1, "train"),
]  # fmt: skip


def _measures(row: RetrievalMeasures) -> tuple[Interval, ...]:
    return row.recall20, row.recall40, row.ndcg100


def test_by_hand() -> None:
    """a finds one like first and the other behind 20 others, b its only one third; c told nothing before, d likes
    nothing later."""
    model = Oracle(ROWS, {0: [3, 1, 2, 4, *range(20, 40), 5], 1: [30, 31, 7]})
    found: Any = evaluate_retrieval(model)  # type: ignore[arg-type]
    assert found.users == 2 and [reader.user for reader in model.asked] == [0, 1]
    histories = [[model.code(1), model.code(3)], [model.code(1)]]
    assert [reader.history.tolist() for reader in model.asked] == histories
    retrieval, popular, difference = found.systems.values()
    # Likes to learn from: i1 and i7 three, i4 two, i5 and i3 one. For a, who has answered i1 and i3: i7, i4, i5.
    third, fourth = 1 / np.log2(3), 1 / np.log2(4)
    assert popular.ndcg100.mean == pytest.approx(((third + fourth) / (1 + third) + 1) / 2)
    assert retrieval.recall20.mean == pytest.approx((0.5 + 1) / 2)
    assert retrieval.recall40.mean == pytest.approx(1)
    assert difference.recall20.mean == pytest.approx(retrieval.recall20.mean - popular.recall20.mean)
    assert difference.recall20.low < difference.recall20.mean < difference.recall20.high
    assert [row[0] for row in retrieval_rows(found)] == [
        "retrieval",
        "the most liked items",
        "difference, user by user",
    ]


def test_answers_before_are_never_recommended_and_ndcg_is_by_place() -> None:
    rows = [("a", 1, 1, "train"), ("a", 2, 0, "valid"), ("a", 5, 1, "test"), ("b", 9, 1, "train"), ("b", 1, 1, "test")]
    found: Any = evaluate_retrieval(Oracle(rows, {0: [1, 2, 7, 5], 1: [1]}))  # type: ignore[arg-type]
    ndcg = found.systems["retrieval"].ndcg100
    assert ndcg.mean == pytest.approx((1 / np.log2(3) + 1) / 2)  # 1 and 2 are answered: 5 stands second


def test_what_was_answered_already_need_not_be_found() -> None:
    """Somebody who likes an item again: it is never recommended, and no list can lack it. Repeats count once."""
    rows = [("a", 1, 1, "train"), ("a", 1, 1, "test"), ("a", 5, 1, "test"), ("a", 5, 1, "test"),
            ("b", 2, 1, "train"), ("b", 2, 1, "test")]  # fmt: skip
    found: Any = evaluate_retrieval(Oracle(rows, {0: [1, 5]}, duplicates="keep"))  # type: ignore[arg-type]
    assert found.users == 1
    assert all(row.mean == 1.0 for row in _measures(found.systems["retrieval"]))


def test_in_batches_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    best = {0: [3, 1, 2, 4, 5], 1: [30, 31, 7]}
    whole = evaluate_retrieval(Oracle(ROWS, best))  # type: ignore[arg-type]
    monkeypatch.setattr(retrieval_module, "_SCORES_AT_ONCE", 60)
    assert evaluate_retrieval(Oracle(ROWS, best)) == whole  # type: ignore[arg-type]


def test_nobody_to_ask() -> None:
    rows = [("a", 1, 1, "train"), ("b", 2, 1, "test"), ("c", 3, 0, "train"), ("c", 4, 1, "test")]
    assert evaluate_retrieval(Oracle(rows, {})) is None  # type: ignore[arg-type]

"""What the fusion knows of items, by hand on a few rows."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from corella.data.dataset import Dataset
from corella.retrieval.catalogue import field_rows, make_catalogue, word_rows
from corella.retrieval.histories import training_likes
from corella.retrieval.linear import count_together


def test_of_training_rows_alone(told: Dataset) -> None:
    """Popularity counts likes of training rows; an item that comes first in them is oldest."""
    counts = count_together(training_likes(told), told.items.height)
    known = make_catalogue(told, ("train",), counts, None, 1.0)
    rows = told.log.filter(split="train", label=1)
    for code, item in enumerate(told.items["item_id"]):
        assert np.expm1(known.popularity[code]) == pytest.approx(rows.filter(item_id=item).height, abs=1e-4)
    assert known.new[told.item[told.rows("train")[told.label[told.rows("train")] == 1][0]]] == 0.0
    assert known.vectors is None and known.together.shape == known.next.shape == known.follows.shape


def test_words_in_one_text_alone_say_nothing() -> None:
    rows = word_rows(["alpha beta", "alpha gamma", "delta"])
    near = (rows @ rows.T).toarray()
    assert near[0, 1] == pytest.approx(1.0) and near[2].tolist() == [0.0, 0.0, 0.0]
    assert word_rows(["one", ""]).shape[0] == 2


def test_an_item_without_a_field_is_near_none(told: Dataset) -> None:
    genres = [["a"], ["a", "b"], [], ["b"]] + [["c"]] * (told.items.height - 4)
    items = told.items.with_columns(genres=pl.Series(genres, dtype=pl.List(pl.String)))
    config = told.config.model_copy(update={"item_fields": [], "list_fields": ["genres"]})
    rows = field_rows(replace(told, items=items, config=config))
    near = (rows @ rows.T).toarray()
    assert near[0, 1] == pytest.approx(0.5**0.5) and near[0, 3] == 0 and near[2].sum() == 0
    assert near[4, 5] == pytest.approx(1.0)

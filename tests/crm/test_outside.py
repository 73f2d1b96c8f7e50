"""Probabilities from outside: joined onto the right rows, and every mistake named."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corella.crm.outside import outside_logits
from corella.data.dataset import Dataset, make_dataset
from corella.errors import UserError


@pytest.fixture
def table(tiny_dataset: Dataset) -> pl.DataFrame:
    """A probability for every row of the log, in another order."""
    frame = tiny_dataset.log.select("user_id", "item_id", "timestamp")
    probability = np.random.default_rng(0).random(frame.height)
    return frame.with_columns(pl.Series("probability", probability)).sample(fraction=1, shuffle=True, seed=1)


def _expected(table: pl.DataFrame, dataset: Dataset, split: str) -> np.ndarray:
    p = {(u, i): p for u, i, p in table.select("user_id", "item_id", "probability").rows()}
    rows = dataset.log.filter(pl.col("split") == split).select("user_id", "item_id").rows()
    return np.array([np.log(p[key] / (1 - p[key])) for key in rows])


@pytest.mark.parametrize("suffix", ["parquet", "csv", "frame"])
def test_rows_are_joined(table: pl.DataFrame, tiny_dataset: Dataset, tmp_path: Path, suffix: str) -> None:
    source: pl.DataFrame | Path = table
    if suffix != "frame":
        source = tmp_path / f"crm.{suffix}"
        table.write_parquet(source) if suffix == "parquet" else table.write_csv(source)
    logits = outside_logits(source, tiny_dataset, tiny_dataset.samples("test"))
    assert logits.dtype == np.float32
    assert np.allclose(logits, _expected(table, tiny_dataset, "test"), atol=1e-5)


@given(p=st.floats(0, 1))
def test_logits_are_finite_and_give_the_probability_back(p: float, tiny_dataset: Dataset) -> None:
    row = tiny_dataset.samples(np.array([5]))
    frame = tiny_dataset.log[row.row].select("user_id", "item_id").with_columns(probability=pl.lit(p))
    logit = float(outside_logits(frame, tiny_dataset, row)[0])
    assert 1 / (1 + np.exp(-logit)) == pytest.approx(min(max(p, 1e-6), 1 - 1e-6), rel=1e-3)


def test_missing_rows_are_counted_and_the_first_is_named(table: pl.DataFrame, tiny_dataset: Dataset) -> None:
    test = tiny_dataset.log.filter(pl.col("split") == "test")
    first, third = test.row(0, named=True), test.row(2, named=True)
    gone = pl.struct("user_id", "item_id").is_in(
        [{"user_id": r["user_id"], "item_id": r["item_id"]} for r in (third, first)]
    )
    message = f"no probability for 2 of {test.height} samples; the first: user_id '{first['user_id']}'"
    with pytest.raises(UserError, match=message):
        outside_logits(table.filter(~gone), tiny_dataset, tiny_dataset.samples("test"))
    outside_logits(table.filter(~gone), tiny_dataset, tiny_dataset.samples("train"))


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), None, "high"])
def test_values_that_are_no_probability(
    table: pl.DataFrame, tiny_dataset: Dataset, tmp_path: Path, value: object
) -> None:
    text = pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(value).cast(pl.String)).otherwise("probability")
    path = tmp_path / "crm.csv"
    table.with_columns(pl.col("probability").cast(pl.String)).with_columns(probability=text).write_csv(path)
    with pytest.raises(UserError, match=r"1 rows have no probability between 0 and 1; the first: row 5,"):
        outside_logits(path, tiny_dataset, tiny_dataset.samples("test"))


def test_missing_column_is_suggested(table: pl.DataFrame, tiny_dataset: Dataset) -> None:
    renamed = table.rename({"probability": "probabilty"})
    with pytest.raises(UserError, match="no column 'probability'; did you mean 'probabilty'"):
        outside_logits(renamed, tiny_dataset, tiny_dataset.samples("test"))


def test_duplicates(table: pl.DataFrame, tiny_dataset: Dataset) -> None:
    twice = pl.concat([table, table.head(1)])
    with pytest.raises(UserError, match="1 rows repeat an earlier user_id, item_id, timestamp"):
        outside_logits(twice, tiny_dataset, tiny_dataset.samples("test"))
    with pytest.raises(UserError, match="no column 'timestamp'"):
        outside_logits(twice.drop("timestamp"), tiny_dataset, tiny_dataset.samples("test"))


@pytest.mark.parametrize("kind", ["integer", "text", "datetime"])
def test_repeated_pairs_are_told_apart_by_their_time(table: pl.DataFrame, tiny_dataset: Dataset, kind: str) -> None:
    log = tiny_dataset.log.drop("user", "item")
    again = log.tail(1).with_columns(pl.col("timestamp") + 100)
    dataset = make_dataset(pl.concat([log, again]), tiny_dataset.users, tiny_dataset.items, tiny_dataset.config)
    more = again.select("user_id", "item_id", "timestamp").with_columns(probability=pl.lit(0.25))
    both = pl.concat([more, table])
    if kind != "integer":
        time = pl.col("timestamp")
        both = both.with_columns(time.cast(pl.String) if kind == "text" else pl.from_epoch(time, "s"))
    last = dataset.samples(np.array([dataset.log.height - 2, dataset.log.height - 1]))
    logits = outside_logits(both, dataset, last)
    assert logits[1] == pytest.approx(np.log(1 / 3), rel=1e-5)
    assert logits[0] == pytest.approx(_expected(table, tiny_dataset, "test")[-1], rel=1e-4)


def test_new_rows_have_no_outside_probability(table: pl.DataFrame, tiny_dataset: Dataset) -> None:
    samples = tiny_dataset.query(pl.DataFrame({"user_id": ["u00"], "item_id": ["i00"]}))
    with pytest.raises(UserError, match="rows of the log only"):
        outside_logits(table, tiny_dataset, samples)

"""Vocabularies come from training rows only; a batch shows what came before its samples, and nothing else."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corella.config import Config, DataConfig
from corella.crm.encoder import CRMBatch, make_encoder
from corella.crm.spec import CRMSpec, make_spec
from corella.data.dataset import Dataset, make_dataset
from corella.data.samples import Samples


def _rebuilt(dataset: Dataset, log: pl.DataFrame, config: DataConfig | None = None) -> Dataset:
    """The dataset made again from another log."""
    log = log.drop("user", "item", strict=False)
    return make_dataset(log, dataset.users, dataset.items, config or dataset.config)


def _same(one: CRMBatch, other: CRMBatch) -> bool:
    names = [field.name for field in dataclasses.fields(CRMBatch) if "lists" not in field.name]
    lists = zip((*one.lists, *one.seen_lists), (*other.lists, *other.seen_lists), strict=True)
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in names) and all(
        torch.equal(a, b) for a, b in lists
    )


@pytest.fixture(scope="module")
def spec(tiny_dataset: Dataset) -> CRMSpec:
    return make_spec(tiny_dataset)


def test_vocabulary_is_that_of_the_training_rows(tiny_dataset: Dataset, spec: CRMSpec) -> None:
    train = tiny_dataset.log.filter(pl.col("split") == "train")
    assert spec.item_columns["item_id"] == sorted(set(train["item_id"]))
    assert spec.user_columns["user_id"] == sorted(set(train["user_id"]))
    assert "i39" not in spec.item_columns["item_id"]
    assert spec.list_columns["genres"] == ["Action", "Comedy", "Drama"]
    assert spec.table_size == (29 + 1) + (2 + 1) + (39 + 1) + (3 + 1)


def test_values_not_seen_in_training_are_unknown(tiny_dataset: Dataset, spec: CRMSpec) -> None:
    test = tiny_dataset.samples("test")
    ids = tiny_dataset.log[test.row]
    fields = make_encoder(spec, tiny_dataset).batch(test).fields
    item = fields[:, 2].numpy() - spec.offsets["item_id"]
    user = fields[:, 0].numpy() - spec.offsets["user_id"]
    assert np.array_equal(item == 0, (ids["item_id"] == "i39").to_numpy())
    assert np.array_equal(user == 0, (ids["user_id"] == "u29").to_numpy())
    assert (item == 0).any()
    assert (user == 0).any()


def test_codes_of_minus_one_are_unknown_without_history(tiny_dataset: Dataset, spec: CRMSpec) -> None:
    samples = tiny_dataset.query(pl.DataFrame({"user_id": ["nobody"], "item_id": ["nothing"]}))
    batch = make_encoder(spec, tiny_dataset).batch(samples)
    offsets = spec.offsets
    assert batch.fields.tolist() == [[offsets["user_id"], offsets["gender"], offsets["item_id"]]]
    assert (batch.lists[0] == offsets["genres"]).all()
    assert (batch.answers == 2).all()


def test_lists_by_hand(tiny_dataset: Dataset, spec: CRMSpec) -> None:
    samples = tiny_dataset.samples("train").take(np.arange(100))
    index = make_encoder(spec, tiny_dataset).batch(samples).lists[0].numpy() - spec.offsets["genres"]
    names = np.array(["", *spec.list_columns["genres"]])
    for code, row in zip(samples.item, index, strict=True):
        assert [n for n in names[row] if n] == tiny_dataset.items["genres"][int(code)].to_list()


@pytest.mark.parametrize("answers", ["all", "likes"])
def test_history_by_hand(tiny_dataset: Dataset, answers: str) -> None:
    config = tiny_dataset.config.model_copy(update={"history_answers": answers})
    dataset = _rebuilt(tiny_dataset, tiny_dataset.log, config)
    spec = make_spec(dataset)
    samples = dataset.samples(np.arange(0, dataset.log.height, 7))
    batch = make_encoder(spec, dataset).batch(samples)
    index = {name: i + 1 for i, name in enumerate(spec.item_columns["item_id"])}
    log = dataset.log.select("user_id", "item_id", "label").rows()
    lengths = set()
    for n, row in enumerate(samples.row):
        past = [(i, y) for u, i, y in log[:row] if u == log[row][0] and (y == 1 or answers == "all")][-8:]
        pad = 8 - len(past)
        assert batch.answers[n].tolist() == [2] * pad + [y for _, y in past]
        shown = (batch.history_ids[n] - spec.offsets["item_id"]).tolist()
        assert shown == [0] * pad + [index.get(i, 0) for i, _ in past]
        lengths.add(len(past))
    genres = {i: set(g) for i, g in dataset.items.select("item_id", "genres").rows()}
    names = ["", *spec.list_columns["genres"]]
    ids = [None, *spec.item_columns["item_id"]]
    for (item, *_), listed in zip((batch.seen - spec.offsets["item_id"]).tolist(), batch.seen_lists[0], strict=True):
        shown = {names[int(g) - spec.offsets["genres"]] for g in listed} - {""}
        assert ids[item] is None or shown == genres[ids[item]]
    assert {0, 8} <= lengths


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_at_or_after_a_sample_changes_its_batch(tiny_dataset: Dataset, data: st.DataObject) -> None:
    """The planted leak: labels from the sample on are flipped, items after it are exchanged."""
    log = tiny_dataset.log
    first_later = int(tiny_dataset.rows("valid")[0])
    row = data.draw(st.integers(first_later, log.height - 1))
    here = pl.int_range(pl.len())
    changed = log.with_columns(
        label=pl.when(here >= row).then(1 - pl.col("label")).otherwise("label").cast(pl.Int8),
        item_id=pl.when(here > row).then(pl.col("item_id").reverse()).otherwise("item_id"),
    )
    other = _rebuilt(tiny_dataset, changed)
    assert not np.array_equal(other.label, tiny_dataset.label)
    at = np.array([row])
    one = make_encoder(make_spec(tiny_dataset), tiny_dataset).batch(tiny_dataset.samples(at))
    assert _same(one, make_encoder(make_spec(other), other).batch(other.samples(at)))


def test_the_past_does_change_a_batch(tiny_dataset: Dataset, spec: CRMSpec) -> None:
    """The test above could not fail if nothing ever changed a batch."""
    flipped = _rebuilt(tiny_dataset, tiny_dataset.log.with_columns(label=1 - pl.col("label")))
    row = tiny_dataset.rows("test")[-1:]
    one = make_encoder(spec, tiny_dataset).batch(tiny_dataset.samples(row))
    assert not _same(one, make_encoder(spec, flipped).batch(flipped.samples(row)))


def test_vocabulary_of_a_split_by_column_in_any_order(tiny_dataset: Dataset) -> None:
    """A split column may send the very first row to validation; training rows still make the vocabulary."""
    parts = np.array(["valid", "train", "test", "train", "train"])[np.arange(tiny_dataset.log.height) % 5]
    log = tiny_dataset.log.with_columns(pl.Series("split", parts))
    split = tiny_dataset.config.split.model_copy(update={"by": "column"})
    dataset = _rebuilt(tiny_dataset, log, tiny_dataset.config.model_copy(update={"split": split}))
    assert make_spec(dataset).item_columns["item_id"] == sorted(set(log.filter(pl.col("split") == "train")["item_id"]))


def test_history_rows_count_only_where_a_training_row_shows_them(tiny_dataset: Dataset) -> None:
    """u00's rows before its training rows are shown; u01 has none, so its history shows nothing."""
    parts = [
        "test" if row >= 850 else "valid" if row >= 800 else "history" if user in ("u00", "u01") else "train"
        for row, user in enumerate(tiny_dataset.log["user_id"])
    ]
    of_first = np.flatnonzero((tiny_dataset.log["user_id"] == "u00").to_numpy())
    parts[int(of_first[of_first < 800][-1])] = "train"
    log = tiny_dataset.log.with_columns(pl.Series("split", parts))
    users = make_spec(_rebuilt(tiny_dataset, log)).user_columns["user_id"]
    assert "u00" in users
    assert "u01" not in users


def test_counts_are_standardised_on_training_rows(tiny_dataset: Dataset, spec: CRMSpec) -> None:
    train: Samples = tiny_dataset.samples("train")
    counts = make_encoder(spec, tiny_dataset).batch(train).counts.numpy()
    assert np.allclose(counts.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(counts.std(axis=0), 1, atol=1e-4)


def test_config_is_the_dataset_s(tiny_dataset: Dataset, tiny_config: Config, spec: CRMSpec) -> None:
    assert spec.history_length == tiny_config.data.history_length
    assert not spec.likes_only
    assert len(spec.count_mean) == len(tiny_dataset.count_names)


def test_an_item_as_if_nobody_had_interacted_with_it(tiny_dataset: Dataset) -> None:
    """All that is counted of the item is gone, what is counted of the user and of genres stays."""
    encoder = make_encoder(make_spec(tiny_dataset), tiny_dataset)
    samples = tiny_dataset.samples("test")
    hidden, names = encoder.unseen(samples), tiny_dataset.count_names
    gone = {"item_answers": 0.0, "item_log_seconds": -1.0, "neighbours_agreement": 0.0, "neighbours_mean": 0.0}
    for column, name in enumerate(names):
        if name in gone:
            assert (hidden.counts[:, column] == gone[name]).all()
        elif name == "item_share":
            assert len(set(hidden.counts[:, column].tolist())) == 1
        else:
            np.testing.assert_array_equal(hidden.counts[:, column], samples.counts[:, column])
    assert not hidden.popularity.any() and samples.popularity.any()
    some = encoder.hidden(samples, 0.5, np.random.default_rng(0))
    column = names.index("item_answers")
    changed = (some.counts != samples.counts).any(axis=1)
    assert 0.3 < changed.mean() < 0.7
    assert (some.counts[changed, column] == 0).all()
    np.testing.assert_array_equal(encoder.hidden(samples, 0.0, np.random.default_rng(0)).counts, samples.counts)


def test_rare_values_are_left_out_and_told(tiny_dataset: Dataset) -> None:
    whole, some = make_spec(tiny_dataset), make_spec(tiny_dataset, most=5)
    assert not whole.rare and len(some.item_columns["item_id"]) == len(some.user_columns["user_id"]) == 5
    train = tiny_dataset.log.filter(pl.col("split") == "train")
    often = train["item_id"].value_counts(sort=True)["count"].to_list()
    kept = train.filter(pl.col("item_id").is_in(some.item_columns["item_id"])).height
    assert kept == sum(often[:5])
    assert some.rare["item_id"] == pytest.approx(1 - kept / train.height)
    assert set(some.rare) == {"user_id", "item_id"}  # genders and genres are few
    assert some.item_columns["item_id"] == sorted(some.item_columns["item_id"])

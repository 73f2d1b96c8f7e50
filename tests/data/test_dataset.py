"""Samples, events and history pointers by hand; a prepared folder comes back as it was."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import corella.data.prepare as prepare_module
from corella.config import Config, TableConfig
from corella.config.loading import load_config
from corella.data.dataset import Dataset
from corella.data.prepare import load_dataset, prepare
from corella.data.store import load_prepared
from corella.data.tables.database import from_environment
from corella.errors import UserError

Build = Callable[..., Dataset]

LOG = pl.DataFrame(
    {
        "user_id": ["v", "u", "v", "u", "u", "v", "w"],
        "item_id": ["a", "b", "b", "a", "c", "c", "a"],
        "timestamp": [1, 2, 3, 4, 5, 6, 7],
        "label": [1, 0, 0, 1, 0, 1, 1],
        "split": ["history", "train", "train", "train", "valid", "valid", "test"],
    }
)
TWO_TESTS = pl.concat(
    [LOG, LOG.tail(1).with_columns(item_id=pl.lit("b"), timestamp=8, label=0)], how="vertical_relaxed"
)


def test_samples_and_events_by_hand(build: Callable[..., Dataset]) -> None:
    dataset = build(TWO_TESTS, split={"by": "column"})
    assert dataset.users["user_id"].to_list() == ["u", "v", "w"]
    assert dataset.items["item_id"].to_list() == ["a", "b", "c"]
    assert dataset.events.start.tolist() == [0, 3, 6, 8]
    assert dataset.events.item.tolist() == [1, 0, 2, 0, 1, 2, 0, 1]
    assert dataset.events.label.tolist() == [0, 1, 0, 1, 0, 1, 1, 0]
    assert dataset.events.row.tolist() == [1, 3, 4, 0, 2, 5, 6, 7]
    train = dataset.samples("train")
    assert train.row.tolist() == [1, 2, 3]
    assert train.user.tolist() == [0, 1, 0]
    assert train.item.tolist() == [1, 1, 0]
    assert train.label.tolist() == [0, 0, 1]
    assert train.history_end.tolist() == [0, 4, 1]
    assert dataset.samples("test").popularity.tolist() == [[2, 2], [2, 0]]
    assert len(dataset.samples(np.array([5, 0]))) == 2
    assert train.take(train.label == 1).row.tolist() == [3]
    with pytest.raises(UserError, match="no split 'tset'; did you mean 'test'"):
        dataset.samples("tset")


def test_query_needs_both_ids(build: Callable[..., Dataset]) -> None:
    dataset = build(TWO_TESTS, split={"by": "column"})
    with pytest.raises(UserError, match="no column 'item_id'; did you mean 'itemid'"):
        dataset.query(pl.DataFrame({"user_id": ["u"], "itemid": ["a"]}))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The tables above as files, and a cache of the test's own."""
    monkeypatch.setenv("CORELLA_CACHE", str(tmp_path / "cache"))
    TWO_TESTS.write_csv(tmp_path / "log.csv")
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"], "genres": [["X"], ["X", "Y"], []]})
    items.write_parquet(tmp_path / "items.parquet")
    pl.DataFrame({"user_id": ["u", "v"], "city": ["Rome", None]}).write_csv(tmp_path / "users.csv")
    data = {
        "source": "tables",
        "interactions": {"path": tmp_path / "log.csv"},
        "items": {"path": tmp_path / "items.parquet"},
        "users": {"path": tmp_path / "users.csv"},
        "label": "label",
        "split": {"by": "column"},
        "list_fields": ["genres"],
        "user_fields": ["city"],
        "item_text": "{title}, {genres}",
        "user_text": "From {city}. Likes it?",
        "counts": {"groups": [["user"], ["item"], ["user", "genres"]]},
    }
    return load_config(settings={"data": data})


def test_a_prepared_folder_comes_back_as_it_was(config: Config, tmp_path: Path) -> None:
    made = prepare(config.data, config.seed, tmp_path / "out")
    read = load_prepared(tmp_path / "out")
    assert read.log.equals(made.log)
    assert read.users.equals(made.users)
    assert read.items.equals(made.items)
    assert read.config == made.config
    assert read.preparation == made.preparation
    np.testing.assert_array_equal(read.counts, made.counts)
    np.testing.assert_array_equal(read.popularity, made.popularity)
    assert read.text is not None and made.text is not None and read.text.shape == (8, len(read.text_names))
    np.testing.assert_array_equal(read.text, made.text)
    assert read.vectors is not None and made.vectors is not None
    np.testing.assert_array_equal(read.vectors, made.vectors)
    assert read.vectors.shape == (3, 384)
    assert read.items["text"].to_list() == ["A, X", "B, X Y", "C"]
    assert read.users["text"].to_list() == ["From Rome. Likes it?", *["From unknown. Likes it?"] * 2]
    assert read.preparation.facts == {"interactions read": 8, "interactions kept": 8, "users": 3, "items": 3}
    assert [(p.split, p.rows) for p in read.preparation.splits] == [
        ("train", 3), ("valid", 2), ("test", 2), ("history", 1),
    ]  # fmt: skip


def test_a_changed_file_is_noticed(config: Config, tmp_path: Path) -> None:
    prepare(config.data, config.seed, tmp_path / "out")
    table = tmp_path / "out" / "log" / "00000.parquet"
    table.write_bytes(table.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"log/00000\.parquet differs from its SHA-256"):
        load_prepared(tmp_path / "out")
    table.unlink()
    with pytest.raises(UserError, match=r"log/00000\.parquet is in the manifest but not on disk"):
        load_prepared(tmp_path / "out")


def test_preparing_again_replaces_the_folder_but_nothing_else(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    prepare(config.data, config.seed, folder)
    (folder / "manifest.json").unlink()  # as after a kill
    prepare(config.data, config.seed, folder)
    assert load_prepared(folder).log.height == 8
    (folder / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds thesis\.tex.*give a new or empty folder"):
        prepare(config.data, config.seed, folder)
    assert (folder / "thesis.tex").exists()
    assert load_prepared(folder).log.height == 8


def test_the_cache_is_used_the_second_time(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def counted(data: object, seed: int, folder: Path, reporter: object) -> Dataset:
        calls.append(folder)
        return prepare(config.data, seed, folder)

    monkeypatch.setattr(prepare_module, "prepare", counted)
    first, second = load_dataset(config), load_dataset(config)
    assert len(calls) == 1
    assert calls[0].is_relative_to(tmp_path / "cache")
    assert first.log.equals(second.log)
    TWO_TESTS.head(7).write_csv(tmp_path / "log.csv")  # other input, another folder
    with pytest.raises(UserError, match="all 1 test rows have label 1"):
        load_dataset(config)
    assert len(set(calls)) == 2


def test_a_failed_preparation_leaves_the_old_one(config: Config, tmp_path: Path) -> None:
    prepare(config.data, config.seed, tmp_path / "out")
    TWO_TESTS.head(7).write_csv(tmp_path / "log.csv")
    with pytest.raises(UserError):
        prepare(config.data, config.seed, tmp_path / "out")
    assert load_prepared(tmp_path / "out").log.height == 8


def test_a_database_uri_is_filled_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
    assert from_environment("postgresql://ann:${SHOP_PASSWORD}@db/shop") == "postgresql://ann:s3cret@db/shop"
    with pytest.raises(UserError, match="NOT_SET"):
        from_environment("postgresql://ann:${NOT_SET}@db/shop")


def test_names_and_files_of_a_configuration(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
    assert load_dataset(path).log.equals(load_dataset(str(path)).log)
    assert load_dataset(config, tmp_path / "own").log.height == 8
    assert (tmp_path / "own" / "manifest.json").is_file()


def test_a_folder_of_ones_own_follows_the_settings_and_the_files(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert load_dataset(config, folder).users["text"][0] == "From Rome. Likes it?"
    other = config.model_copy(update={"data": config.data.model_copy(update={"user_text": "Of {city}"})})
    assert load_dataset(other, folder).users["text"][0] == "Of Rome"
    stamp = (folder / "log" / "00000.parquet").stat().st_mtime_ns
    assert load_dataset(other, folder).users["text"][0] == "Of Rome"
    assert (folder / "log" / "00000.parquet").stat().st_mtime_ns == stamp  # nothing has changed


def test_ties_are_warned_of(config: Config, tmp_path: Path) -> None:
    def warnings(**given: object) -> list[str]:
        data = config.data.model_copy(update=given)
        return prepare(data, 1, tmp_path / "out").preparation.warnings

    log = pl.read_csv(config.data.interactions.path)  # type: ignore[union-attr, arg-type]
    log.with_columns(timestamp=pl.lit(5)).write_csv(tmp_path / "tied.csv")
    tied = TableConfig(path=tmp_path / "tied.csv")
    (said,) = [w for w in warnings(interactions=tied) if "strict_time" in w]
    assert said.startswith("100% of the interactions have the time of another one of the same user")
    assert not any("strict_time" in w for w in warnings())


def test_new_rows_of_a_log_in_the_order_of_its_file(build: Build) -> None:
    log = pl.DataFrame(
        {
            "user_id": ["u"] * 20, "item_id": [f"i{n}" for n in range(20)], "label": [0, 1] * 10,
            "timestamp": list(range(20)),
        }
    )  # fmt: skip
    asked = pl.DataFrame({"user_id": ["u"], "item_id": ["i3"], "timestamp": [5]})
    for times, seen in ((log["timestamp"], 5), (log["timestamp"].reverse(), 20)):
        dataset = build(log.with_columns(times), order=[])
        assert dataset.in_time_order == (seen == 5)
        assert dataset.query(asked).history_end.tolist() == [seen]


def test_a_digest_tells_all_that_a_model_reads(config: Config, tmp_path: Path) -> None:
    made = prepare(config.data, config.seed, tmp_path / "out")
    known = made.digest()
    assert known == load_prepared(tmp_path / "out").digest()
    retitled = made.items.with_columns(text=pl.lit("another"))
    regrouped = made.items.with_columns(genres=pl.lit(["X"]))
    moved = made.log.with_columns(split=pl.lit("train"))
    others = [
        replace(made, items=retitled), replace(made, items=regrouped), replace(made, log=moved),
        replace(made, counts=made.counts + 1), replace(made, users=made.users.with_columns(city=pl.lit("Bonn"))),
    ]  # fmt: skip
    assert len({known, *(other.digest() for other in others)}) == 6

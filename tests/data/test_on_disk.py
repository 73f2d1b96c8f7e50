"""Features that stay on disk: the same numbers, every row once, few parts at a time."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corella.config import Config
from corella.config.loading import merge
from corella.crm.encoder import make_encoder
from corella.crm.spec import make_spec
from corella.crm.trees import train_trees
from corella.data.on_disk import OnDisk, Parts, held, mixed
from corella.data.prepare import load_dataset
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking


def parts_of(folder: Path, sizes: list[int], most: float = 0) -> tuple[OnDisk, np.ndarray]:
    """Parts of so many rows, and what they hold."""
    rows = np.random.default_rng(0).random((sum(sizes), 3)).astype(np.float32)
    files, first = [], 0
    for n, size in enumerate(sizes):
        path = folder / f"{n}.parquet"
        pl.DataFrame(rows[first : first + size], schema=["a", "b", "c"]).write_parquet(path)
        files.append(path)
        first += size
    return OnDisk(Parts(files, ["a", "b", "c"], most), np.arange(sum(sizes))), rows


def test_rows_are_those_of_memory(tmp_path: Path) -> None:
    disk, rows = parts_of(tmp_path, [7, 1, 30, 0, 12])
    some = np.array([49, 3, 3, 8, 0, 37])
    assert disk.shape == (50, 3) and len(disk[some]) == 6
    np.testing.assert_array_equal(held(disk[some]), rows[some])
    np.testing.assert_array_equal(np.concatenate([disk[10:20], rows[:2]]), np.concatenate([rows[10:20], rows[:2]]))
    np.testing.assert_array_equal(held(disk[rows[:, 0] > 0.5][2:4]), rows[rows[:, 0] > 0.5][2:4])
    assert held(disk[:0]).shape == (0, 3)


def test_a_pass_reads_every_row_once_and_few_parts_at_a_time(tmp_path: Path) -> None:
    sizes = [10] * 9
    disk, _ = parts_of(tmp_path, sizes)
    asked = disk[np.flatnonzero(np.arange(90) % 3)]  # training rows are not all of them
    rng = np.random.default_rng(1)
    first, second = mixed(asked, rng), mixed(asked, rng)
    for order in (first, second):
        assert sorted(order.tolist()) == list(range(60))
        part = asked.rows[order] // 10
        windows = [set(part[n : n + 14].tolist()) for n in range(0, 60, 14)]
        assert all(len(window) <= 4 for window in windows)  # two parts are mixed, at most two windows meet
        assert any(len(set(part[n : n + 4].tolist())) > 1 for n in range(0, 60, 4))
    assert first.tolist() != second.tolist()
    assert mixed(asked, np.random.default_rng(1)).tolist() == first.tolist()


@pytest.fixture
def two_ways(tmp_path: Path, tiny_config: Config, random_log: pl.DataFrame) -> tuple[Config, Config]:
    """Settings of one log: in memory, and on disk."""
    rng = np.random.default_rng(2)
    user, item = np.divmod(rng.choice(40 * 30, 900, replace=False), 30)
    log = pl.DataFrame(
        {
            "user_id": user, "item_id": item, "timestamp": np.arange(900),
            "label": ((user % 2 == item % 2) ^ (rng.random(900) < 0.1)).astype(int),
        }
    )  # fmt: skip
    log.write_parquet(tmp_path / "log.parquet")
    given = {
        "data": {
            "interactions": {"path": str(tmp_path / "log.parquet")}, "text": {"encoder": "none"}, "user_fields": [],
            "list_fields": [], "counts": {"groups": [["user"], ["item"], ["user", "item"]]},
        },
        "joint": {"stages": [1]}, "crm": {"epochs": 2},
    }  # fmt: skip
    memory = Config.model_validate(merge(tiny_config.model_dump(mode="json"), given))
    return memory, memory.model_copy(update={"data": memory.data.model_copy(update={"memory": 1.0})})


def test_samples_and_trees_are_those_of_memory(tmp_path: Path, two_ways: tuple[Config, Config]) -> None:
    memory, disk = (load_dataset(config, tmp_path / str(n)) for n, config in enumerate(two_ways))
    assert isinstance(disk.counts, OnDisk) and disk.digest() == memory.digest()
    ours, theirs = disk.samples("valid"), memory.samples("valid")
    np.testing.assert_array_equal(held(ours.counts), theirs.counts)
    np.testing.assert_array_equal(ours.history_end, theirs.history_end)
    specs = [make_spec(dataset) for dataset in (disk, memory)]
    np.testing.assert_allclose(specs[0].count_mean, specs[1].count_mean, rtol=1e-5)
    np.testing.assert_allclose(specs[0].count_scale, specs[1].count_scale, rtol=1e-5)
    found = []
    for dataset in (disk, memory):
        encoder, train, valid = make_encoder(specs[1], dataset), dataset.samples("train"), dataset.samples("valid")
        found.append(train_trees(encoder, train, valid, two_ways[0].lightgbm, 1, new_items=True))
    assert found[0] == found[1]  # LightGBM reads the same rows


def test_a_ranking_trained_from_disk(
    tmp_path: Path, two_ways: tuple[Config, Config], tiny_backbone_folder: Path
) -> None:
    _, config = two_ways
    config = Config.model_validate(
        merge(config.model_dump(mode="json"), {"llm": {"backbone": str(tiny_backbone_folder)}})
    )
    dataset = load_dataset(config, tmp_path / "prepared")
    model = fit_ranking(config, dataset)
    test = dataset.samples("test")
    logits = model.rungs[0].outputs(test)[0]
    assert np.mean((logits > 0) == (test.label == 1)) > 0.7
    save_ranking(model, tmp_path / "model")
    back = load_ranking(tmp_path / "model")
    assert isinstance(back.dataset.counts, OnDisk)
    np.testing.assert_allclose(back.rungs[0].outputs(back.dataset.samples("test"))[0], logits, atol=1e-5)

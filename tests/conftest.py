"""A small dataset that every part of the system can be tried on in a second."""

import os

# Threads that wait must not burn the processor: LightGBM on tiny tables is ten times slower beside a busy neighbour.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from corella.config import Config
from corella.config.loading import merge
from corella.data.dataset import Dataset, make_dataset
from corella.data.split import order_log, split_log
from corella.ranking.fit import fit_ranking
from corella.ranking.model import FittedRanking
from corella.retrieval.fit import fit_retrieval
from corella.retrieval.system import Retrieval
from small_tables import build, encoded_texts, genre_items, random_log, raw_tables, settings  # noqa: F401  # fixtures for all tests
from tiny_model import write_tiny_model

_LONGEST = (
    "test_engine", "test_tutorials", "test_fleet", "test_workers", "test_launch", "test_readme", "test_trainer",
    "test_page", "test_everybody", "test_end_to_end", "test_gpu_script", "test_worker", "test_live", "test_parts",
)  # fmt: skip
"""Files that take half a minute or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, or one processor would wait for the other at the end."""
    place = {name: n for n, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


_USERS, _ITEMS, _ROWS = 30, 40, 900
_GENRES = ["Action", "Comedy", "Drama"]


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """A configuration that fits `tiny_dataset`, its models small."""
    return Config.model_validate(
        {
            "data": {
                "source": "tables",
                "interactions": {"path": "log.parquet"},
                "label": "label",
                "user_fields": ["gender"],
                "list_fields": ["genres"],
                "history_length": 8,
                "counts": {"groups": [["user"], ["item"], ["user", "genres"]]},
            },
            "crm": {"embedding_size": 4, "hidden": [16, 8], "batch_size": 64, "learning_rate": 0.01},
        }
    )


@pytest.fixture(scope="session")
def tiny_dataset(tiny_config: Config) -> Dataset:
    """900 answers of 30 users to 40 items. Men like Action, women Comedy, with few exceptions.

    Times have ties; the last user and the last item come only after the training rows; item 0 has no genre.
    """
    rng = np.random.default_rng(3)
    pairs = rng.choice(_USERS * _ITEMS, _ROWS, replace=False)
    user, item = pairs // _ITEMS, pairs % _ITEMS
    late = (user == _USERS - 1) | (item == _ITEMS - 1)
    time = np.where(late, rng.integers(950, 1000, _ROWS), rng.integers(0, 1000, _ROWS))
    first = np.arange(_ITEMS) % 2
    liked = np.where(rng.random(_ROWS) < 0.05, rng.integers(0, 2, _ROWS), first[item] == user % 2)
    extra = rng.integers(0, 2, _ITEMS)
    genres = [[_GENRES[f], "Drama"] if e else [_GENRES[f]] for f, e in zip(first, extra, strict=True)]
    genres[0] = []
    users = pl.DataFrame({"user_id": [f"u{i:02}" for i in range(_USERS)], "gender": ["M", "F"] * 15})
    items = pl.DataFrame(
        {"item_id": [f"i{i:02}" for i in range(_ITEMS)], "title": [f"Film {i}" for i in range(_ITEMS)]}
    ).with_columns(pl.Series("genres", genres), text="title")
    log = pl.DataFrame(
        {
            "user_id": users["user_id"].gather(user),
            "item_id": items["item_id"].gather(item),
            "timestamp": time,
            "label": pl.Series(liked, dtype=pl.Int8),
        }
    )
    config = tiny_config.data
    log = split_log(order_log(log, config), config.split, seed=1, items=items)
    return make_dataset(log, users.with_columns(text="gender"), items, config)


@pytest.fixture(scope="session")
def told(tiny_dataset: Dataset) -> Dataset:
    """The tiny dataset without genres, but with titles that say them."""
    genre = pl.col("genres").list.first().fill_null("Action")
    items = tiny_dataset.items.with_columns(text=genre + pl.lit(" film"), genres=pl.lit([], dtype=pl.List(pl.String)))
    log = tiny_dataset.log.drop("user", "item")
    return make_dataset(log, tiny_dataset.users, items, tiny_dataset.config, encoded_texts(items))


@pytest.fixture(scope="session")
def tiny_backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama and its tokenizer."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny-llama"))


Configure = Callable[..., Config]


@pytest.fixture(scope="session")
def tiny_system_config(tiny_config: Config, tiny_backbone_folder: Path) -> Configure:
    """A function: the configuration of the whole tiny system, with the given sections on top."""
    base = merge(
        tiny_config.model_dump(mode="json"),
        {
            "threads": 1,
            "crm": {"epochs": 3, "id_dropout": 0.1},
            "llm": {
                "backbone": str(tiny_backbone_folder), "dtype": "float32", "window_tokens": 128, "batch_tokens": 1024,
                "lora_rank": 4, "lora_dropout": 0.0,
            },
            "joint": {"stage2_targets": 200, "stage3_targets": 200, "targets_per_step": 32, "learning_rate": 0.003},
            "routing": {"policy": "entropy", "rung": 2},
            "evaluation": {"bootstrap": 30},
        },
    )  # fmt: skip

    def configure(**sections: Any) -> Config:
        return Config.model_validate(merge(base, sections))

    return configure


@pytest.fixture(scope="session")
def tiny_retrieval(tiny_system_config: Configure, told: Dataset) -> Retrieval:
    """A retrieval that reads texts, and does not learn from validation rows. Do not change it."""
    return fit_retrieval(tiny_system_config(retrieval={"refit": False, "text": 5.0}), told)


@pytest.fixture(scope="session")
def tiny_system(tiny_system_config: Configure, tiny_dataset: Dataset) -> FittedRanking:
    """The whole system, fitted on `tiny_dataset`. Do not change it."""
    return fit_ranking(tiny_system_config(), tiny_dataset)

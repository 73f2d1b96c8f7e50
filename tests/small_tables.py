"""Tiny datasets made in memory, and random ones with a seed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from corella.columns import FILE_ROW, RawTables
from corella.config import DataConfig
from corella.data.clean import clean
from corella.data.dataset import Dataset, make_dataset
from corella.data.split import order_log, split_log
from corella.features.text.encoder import fit_tfidf
from corella.features.text.items import ItemTexts

Build = Callable[..., Dataset]


def _numbered(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_row_index(FILE_ROW, offset=2)


def encoded_texts(items: pl.DataFrame) -> ItemTexts:
    """The texts of a table of items, read by the encoder that needs no weights."""
    texts = items["text"].to_list()
    encoder = fit_tfidf(texts, 4)
    return ItemTexts(encoder.encode(texts), encoder)


@pytest.fixture
def settings() -> Callable[..., DataConfig]:
    """A `DataConfig` for tables in memory, with the given settings."""

    def make(**given: Any) -> DataConfig:
        return DataConfig.model_validate(
            {"source": "tables", "interactions": {"path": "log.parquet"}, "label": "label", **given}
        )

    return make


@pytest.fixture
def raw_tables() -> Callable[..., RawTables]:
    """`RawTables` of frames, with file rows; items and users are made up where not given."""

    def make(log: pl.DataFrame, items: pl.DataFrame | None = None, users: pl.DataFrame | None = None) -> RawTables:
        if items is None:
            items = log.select("item_id").unique(maintain_order=True).drop_nulls()
            items = items.with_columns(title=pl.format("Item {}", "item_id"))
        names = {"interactions": "log.csv", "items": "items.csv", "users": "users.csv"}
        return RawTables(_numbered(log), None if users is None else _numbered(users), _numbered(items), names)

    return make


@pytest.fixture
def build(settings: Callable[..., DataConfig], raw_tables: Callable[..., RawTables]) -> Build:
    """Clean, order, split and count frames in memory; the keyword arguments are `data` settings. `encoded`: their texts
    are read by an encoder too."""

    def make(
        log: pl.DataFrame,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        encoded: bool = False,
        **given: Any,
    ) -> Dataset:
        config = settings(**given)
        clean_log, clean_users, clean_items, _ = clean(raw_tables(log, items, users), config)
        ordered = split_log(order_log(clean_log, config), config.split, seed=1, items=clean_items)
        return make_dataset(ordered, clean_users, clean_items, config, encoded_texts(clean_items) if encoded else None)

    return make


@pytest.fixture
def random_log() -> pl.DataFrame:
    """160 answers of 12 users to 15 items, times with many ties, file order shuffled against time."""
    rng = np.random.default_rng(7)
    pairs = rng.permutation(12 * 15)[:160]
    return pl.DataFrame(
        {
            "user_id": pairs // 15,
            "item_id": pairs % 15,
            "timestamp": rng.integers(0, 60, 160),
            "label": rng.integers(0, 2, 160),
        }
    )


@pytest.fixture
def genre_items() -> pl.DataFrame:
    """15 items with up to three of four genres, one of them named twice."""
    genres = [["A", "B"], ["A"], [], ["B", "C", "D"], ["D", "D"]] * 3
    return pl.DataFrame({"item_id": range(15), "title": [f"T{i}" for i in range(15)], "genres": genres})

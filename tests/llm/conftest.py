"""Hand-made logs, and the tiny language model in float32."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from corella.config import DataConfig, LLMConfig
from corella.data.dataset import Dataset, make_dataset
from corella.llm.backbone import Backbone, load_backbone

Row = tuple[str, str, int]
"""User, item, label; the time is the row's number."""
Build = Callable[..., Dataset]
LLM = Callable[..., LLMConfig]


@pytest.fixture(scope="session")
def llm(tiny_backbone_folder: Path) -> LLM:
    """A function: language model settings for the tiny model."""

    def make(**given: Any) -> LLMConfig:
        return LLMConfig.model_validate({"backbone": str(tiny_backbone_folder), "dtype": "float32", **given})

    return make


@pytest.fixture(scope="session")
def backbone(llm: LLM) -> Backbone:
    """The tiny model, answers ` Yes` and ` No`."""
    torch.set_num_threads(1)
    loaded = load_backbone(llm())
    loaded.model.eval()
    return loaded


@pytest.fixture(scope="session")
def build() -> Build:
    """A function: the dataset of rows (user, item, label), in their order; user and item texts by id."""

    def make(
        rows: Sequence[Row],
        texts: dict[str, str],
        users: dict[str, str],
        ratings: Sequence[float] = (),
        timestamps: Sequence[int] = (),
        **given: Any,
    ) -> Dataset:
        columns = {"user_id": [r[0] for r in rows], "item_id": [r[1] for r in rows], "label": [r[2] for r in rows]}
        log = pl.DataFrame(columns, schema_overrides={"label": pl.Int8})
        log = log.with_columns(timestamp=pl.int_range(pl.len()), split=pl.lit("train"))
        if timestamps:
            log = log.with_columns(timestamp=pl.Series(timestamps))
        if ratings:
            log = log.with_columns(rating=pl.Series(ratings))
        config = DataConfig.model_validate({"source": "tables", "interactions": {"path": "x.csv"}, **given})
        return make_dataset(
            log,
            pl.DataFrame({"user_id": list(users), "text": list(users.values())}),
            pl.DataFrame({"item_id": list(texts), "text": list(texts.values())}),
            config,
        )

    return make

"""A dataset with what came since: counted once, split by time, without those who left."""

import polars as pl
import pytest

from corella.data.dataset import Dataset
from corella.data.extend import Newer, extended
from corella.errors import UserError


def _newer(rows: list[tuple[str, str, int, int]], **more: object) -> Newer:
    """Interactions (user, item, label, time) without ratings."""
    columns = {"user_id": pl.String, "item_id": pl.String, "label": pl.Int8, "timestamp": pl.Int64}
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_columns(rating=pl.lit(None, pl.Float64))
    nothing = {
        "items": pl.DataFrame(schema={"item_id": pl.String, "text": pl.String}),
        "users": pl.DataFrame(schema={"user_id": pl.String, "text": pl.String}),
        "left": lambda name: False, "replaces": True,
    }  # fmt: skip
    return Newer(frame, **{**nothing, **more})  # type: ignore[arg-type]


def test_what_both_have_is_counted_once(tiny_dataset: Dataset) -> None:
    log = tiny_dataset.log
    last = int(log["timestamp"].max())  # type: ignore[arg-type]
    again = log.select("user_id", "item_id", "label", "timestamp").rows()[-5:]
    found = extended(tiny_dataset, _newer([*again, ("u00", "n1", 1, last + 9), ("new", "i01", 1, last + 10)]), 1)
    assert found.log.height == log.height + 1  # the item n1 is nowhere, so its row is none
    assert found.log.row(-1, named=True)["user_id"] == "new"
    assert found.log["split"].to_list() == sorted(found.log["split"], key=["train", "valid", "test"].index)
    assert found.users.filter(user_id="new")["text"].item() != ""


def test_the_last_answer_counts_unless_all_do(tiny_dataset: Dataset) -> None:
    user, item, label = tiny_dataset.log.select("user_id", "item_id", "label").row(0)
    last = int(tiny_dataset.log["timestamp"].max())  # type: ignore[arg-type]
    changed = _newer([(user, item, 1 - label, last + 1)])
    found = extended(tiny_dataset, changed, 1).log.filter(user_id=user, item_id=item)
    assert found.select("label", "timestamp").rows() == [(1 - label, last + 1)]
    first = extended(tiny_dataset, _newer([(user, item, 1 - label, last + 1)], replaces=False), 1)
    assert first.log.filter(user_id=user, item_id=item)["label"].to_list() == [label]


def test_items_and_people_that_were_put(tiny_dataset: Dataset) -> None:
    last = int(tiny_dataset.log["timestamp"].max())  # type: ignore[arg-type]
    items = pl.DataFrame({"item_id": ["n1", "i01"], "text": ["New", "Changed"], "genres": [["Action"], ["Drama"]]})
    users = pl.DataFrame({"user_id": ["new"], "text": ["Somebody"], "gender": ["F"]})
    found = extended(tiny_dataset, _newer([("new", "n1", 1, last + 1)], items=items, users=users), 1)
    assert found.items.filter(item_id="n1").select("text", "genres").row(0) == ("New", ["Action"])
    assert found.items.filter(item_id="i01")["text"].item() == "Changed"
    assert found.items.height == tiny_dataset.items.height + 1
    assert found.users.filter(user_id="new").select("text", "gender").row(0) == ("Somebody", "F")


def test_who_left_is_in_nothing(tiny_dataset: Dataset) -> None:
    found = extended(tiny_dataset, _newer([], left=lambda name: name == "u03"), 1)
    assert "u03" not in found.log["user_id"].to_list() and "u03" not in found.users["user_id"].to_list()
    with pytest.raises(UserError, match="nothing is left"):
        extended(tiny_dataset, _newer([], left=lambda name: True), 1)

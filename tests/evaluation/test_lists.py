"""One list a user: which rows, at which moment, and what is said of their order."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corella.collaboration.system import CoReLLa
from corella.config import Config
from corella.data.dataset import Dataset
from corella.evaluation.lists import LONGEST, evaluate_lists, list_samples
from corella.evaluation.metrics import user_auc
from corella.progress import Reporter

_QUIET = Reporter(quiet=True)


def test_all_items_of_a_list_know_the_same(tiny_dataset: Dataset) -> None:
    test = tiny_dataset.samples("test")
    lists = list_samples(tiny_dataset, test, 100, seed=1)
    assert lists is not None
    first = {int(user): int(test.history_end[test.user == user].min()) for user in np.unique(test.user)}
    label = dict(zip(zip(test.user, test.item, strict=True), test.label, strict=True))
    assert len(lists) > 0
    for user in np.unique(lists.user):
        mine = lists.user == user
        (end,) = set(lists.history_end[mine].tolist())
        assert end <= first[user]  # rows of the very moment of the first one are no history
        assert set(lists.label[mine].tolist()) == {0, 1}
        assert mine.sum() <= LONGEST
        pairs = zip(lists.user[mine], lists.item[mine], strict=True)
        assert [label[pair] for pair in pairs] == lists.label[mine].tolist()
    both = {user for user in first if len(set(test.label[test.user == user].tolist())) == 2}
    assert set(lists.user.tolist()) == both  # no list of this small dataset is cut
    assert (lists.row == -1).all()


def test_later_answers_change_nothing(tiny_dataset: Dataset) -> None:
    """Flipping the answers of the test rows leaves what a list knows as it is."""
    flipped = pl.when(pl.col("split") == "test").then(1 - pl.col("label")).otherwise("label").cast(pl.Int8)
    twin = replace(tiny_dataset, log=tiny_dataset.log.with_columns(label=flipped))
    before, after = (list_samples(d, d.samples("test"), 100, seed=1) for d in (tiny_dataset, twin))
    assert before is not None
    assert after is not None
    late = tiny_dataset.log.filter(pl.col("split") == "test")["timestamp"].min()
    now = tiny_dataset.log[tiny_dataset.samples("test").row]["timestamp"]
    assert late == now.min()
    assert np.array_equal(before.history_end, after.history_end)
    assert np.array_equal(before.label, 1 - after.label)


def test_users_are_drawn_and_long_lists_cut(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corella.evaluation.lists.LONGEST", 2)
    test = tiny_dataset.samples("test")
    few = list_samples(tiny_dataset, test, 12, seed=1)
    assert few is not None
    sizes = np.unique(few.user, return_counts=True)[1]
    assert 5 <= len(sizes) <= 12
    assert sizes.tolist() == [2] * len(sizes)


def test_without_times_or_enough_users_there_are_no_lists(tiny_dataset: Dataset, tiny_system: CoReLLa) -> None:
    timeless = replace(tiny_dataset, log=tiny_dataset.log.drop("timestamp"))
    assert list_samples(timeless, timeless.samples("test"), 100, seed=1) is None
    test = tiny_dataset.samples("test")
    assert list_samples(tiny_dataset, test, 4, seed=1) is None  # an interval needs five
    likes = test.take(np.flatnonzero(test.label == 1))
    assert list_samples(tiny_dataset, likes, 100, seed=1) is None
    assert evaluate_lists(tiny_system, likes, "dcnv2+counts", "half", None, _QUIET) is None


def test_the_order_within_lists(tiny_system: CoReLLa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, test = tiny_system, tiny_system.dataset.samples("test")
    found = evaluate_lists(model, test, "dcnv2+counts", "half", tmp_path, _QUIET)
    lists = list_samples(model.dataset, test, 100, model.config.seed)
    assert found is not None
    assert lists is not None
    at = {row["system"]: row["user_auc"] for row in found["systems"]}
    assert list(at) == ["lightgbm", "dcnv2+counts", "half", "llm", "half & llm", "final"]
    assert at["half"] == pytest.approx(user_auc(lists.label, model.conventional(lists)[0], lists.user))
    assert at["llm"] == pytest.approx(user_auc(lists.label, model.llm_logits(lists), lists.user))
    assert at["final"] == pytest.approx(user_auc(lists.label, model.predict(lists).logit, lists.user))
    for d in found["differences"]:
        assert d["mean"] == pytest.approx(at[d["b"]] - at["half"])
        assert d["low"] <= d["mean"] <= d["high"]
    assert (found["users"], found["samples"]) == (len(np.unique(lists.user)), len(lists))

    # What the language model has read is kept.
    monkeypatch.setattr(CoReLLa, "llm_logits", lambda *_: pytest.fail("read twice"))
    assert evaluate_lists(model, test, "dcnv2+counts", "half", tmp_path, _QUIET) == found


def test_no_lists_are_asked_for(
    tiny_system_config: Callable[..., Config], tiny_system: CoReLLa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_system, "config", tiny_system_config(evaluation={"lists": 0}))
    assert (
        evaluate_lists(tiny_system, tiny_system.dataset.samples("test"), "dcnv2+counts", "half", None, _QUIET) is None
    )

"""One list a user: which rows, at which moment, and what is said of their order."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corella.checkpoint import Checkpoints
from corella.config import Config
from corella.data.dataset import Dataset
from corella.evaluation.metrics import user_auc
from corella.evaluation.slates import LONGEST, evaluate_slates, slate_samples
from corella.evaluation.systems import System
from corella.llm.pointwise import PointwisePrompts
from corella.progress import Reporter
from corella.ranking.model import FittedRanking

NEURAL, HALF = System(("dcnv2+counts",)), System(("half",))
_QUIET = Reporter(quiet=True)


def test_all_items_of_a_list_know_the_same(tiny_dataset: Dataset) -> None:
    test = tiny_dataset.samples("test")
    slates = slate_samples(tiny_dataset, test, 100)
    assert slates is not None
    first = {int(user): int(test.history_end[test.user == user].min()) for user in np.unique(test.user)}
    label = dict(zip(zip(test.user, test.item, strict=True), test.label, strict=True))
    assert len(slates) > 0
    for user in np.unique(slates.user):
        mine = slates.user == user
        (end,) = set(slates.history_end[mine].tolist())
        assert end <= first[user]  # rows of the very moment of the first one are no history
        assert set(slates.label[mine].tolist()) == {0, 1}
        assert mine.sum() <= LONGEST
        pairs = zip(slates.user[mine], slates.item[mine], strict=True)
        assert [label[pair] for pair in pairs] == slates.label[mine].tolist()
    both = {user for user in first if len(set(test.label[test.user == user].tolist())) == 2}
    assert set(slates.user.tolist()) == both  # no list of this small dataset is cut
    assert (slates.row == -1).all()


@pytest.mark.parametrize("late", [True, False])
def test_a_list_knows_nothing_of_its_moment_or_later(tiny_dataset: Dataset, late: bool) -> None:
    """All answers from the moment of a list on, flipped, leave what it knows as it is; its user's before it do not."""
    log, test = tiny_dataset.log, tiny_dataset.samples("test")
    before = slate_samples(tiny_dataset, test, 100)
    assert before is not None
    changed = set()
    for user in np.unique(before.user)[:8]:
        first = log.row(int(test.row[test.user == user].min()), named=True)  # the log is in the order of time
        own = pl.col("user_id") == first["user_id"]
        hit = pl.col("timestamp") >= first["timestamp"] if late else own & (pl.col("timestamp") < first["timestamp"])
        flipped = pl.when(hit).then(1 - pl.col("label")).otherwise("label").cast(pl.Int8)
        twin = replace(tiny_dataset, log=log.with_columns(label=flipped))
        after = slate_samples(twin, twin.samples("test"), 100)
        assert after is not None
        was, now = before.take(before.user == user), after.take(after.user == user)
        assert np.array_equal(now.item, was.item)
        assert np.array_equal(now.history_end, was.history_end)
        assert np.array_equal(now.label, 1 - was.label) == late
        if not all(np.allclose(getattr(now, name), getattr(was, name)) for name in ("counts", "popularity")):
            changed.add(user)
    assert len(changed) == (0 if late else 8)


def test_the_first_answer_of_an_item_counts(tiny_dataset: Dataset) -> None:
    log, test = tiny_dataset.log, tiny_dataset.samples("test")
    user = test.user[0]
    rows = test.row[test.user == user]
    first, other = rows[0], next(row for row in rows if log["label"][int(row)] != log["label"][int(rows[0])])
    item_id = log["item_id"].to_list()
    item_id[other] = item_id[first]
    twin = replace(tiny_dataset, log=log.with_columns(item_id=pl.Series(item_id)))
    slates = slate_samples(twin, test, 100)
    assert slates is not None
    mine = slates.user == user
    assert mine.sum() == len(rows) - 1
    assert slates.label[mine & (slates.item == test.item[0])].tolist() == [test.label[0]]


def test_users_are_drawn_and_long_slates_cut(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corella.evaluation.slates.LONGEST", 2)
    test = tiny_dataset.samples("test")
    few = slate_samples(tiny_dataset, test, 7)
    assert few is not None
    assert np.unique(few.user, return_counts=True)[1].tolist() == [2] * 7


def test_runs_of_all_seeds_score_the_same_slates(tiny_system: FittedRanking, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        FittedRanking, "llm_logits", lambda _, slates, *__: drawn.append(slates.item) or np.zeros(len(slates))
    )
    test = tiny_system.dataset.samples("test")
    for seed in (1, 2):
        settings = {"seed": seed, "evaluation": tiny_system.config.evaluation.model_copy(update={"slates": 7})}
        model = replace(tiny_system, config=tiny_system.config.model_copy(update=settings))
        assert evaluate_slates(model, test, NEURAL, HALF, Checkpoints(), _QUIET) is not None
    assert np.array_equal(*drawn)


def test_without_times_or_enough_users_there_are_no_slates(tiny_dataset: Dataset, tiny_system: FittedRanking) -> None:
    timeless = replace(tiny_dataset, log=tiny_dataset.log.drop("timestamp"))
    assert slate_samples(timeless, timeless.samples("test"), 100) is None
    test = tiny_dataset.samples("test")
    assert slate_samples(tiny_dataset, test, 4) is None  # an interval needs five
    likes = test.take(np.flatnonzero(test.label == 1))
    assert slate_samples(tiny_dataset, likes, 100) is None
    assert evaluate_slates(tiny_system, likes, NEURAL, HALF, Checkpoints(), _QUIET) is None


def test_the_order_within_slates(tiny_system: FittedRanking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, test = tiny_system, tiny_system.dataset.samples("test")
    found = evaluate_slates(model, test, NEURAL, HALF, Checkpoints(tmp_path), _QUIET)
    slates = slate_samples(model.dataset, test, 100)
    assert found is not None
    assert slates is not None
    at = {row.system: row.user_auc for row in found.systems}
    assert list(at) == ["lightgbm", NEURAL.name, HALF.name, "llm", "half & llm", "final"]
    assert at["half"] == pytest.approx(user_auc(slates.label, model.conventional(slates)[0], slates.user))
    assert at["llm"] == pytest.approx(user_auc(slates.label, model.llm_logits(slates), slates.user))
    assert at["final"] == pytest.approx(user_auc(slates.label, model.predict(slates).logit, slates.user))
    for d in found.differences:
        assert d.mean == pytest.approx(at[d.b] - at["half"])
        assert d.low <= d.mean <= d.high
    assert found.share_routed == model.predict(slates).routed.mean()
    assert (found.users, found.samples) == (len(np.unique(slates.user)), len(slates))

    # What the language model has read is kept.
    monkeypatch.setattr(FittedRanking, "llm_logits", lambda *_: pytest.fail("read twice"))
    assert evaluate_slates(model, test, NEURAL, HALF, Checkpoints(tmp_path), _QUIET) == found


def test_slates_with_a_prompt_an_item(tiny_system: FittedRanking, tiny_system_config: Callable[..., Config]) -> None:
    model, test = tiny_system, tiny_system.dataset.samples("test")
    with_timelines = evaluate_slates(model, test, NEURAL, HALF, Checkpoints(), _QUIET)
    prompts = PointwisePrompts(model.dataset, model.llm.backbone, tiny_system_config(llm={"prompt": "pointwise"}).llm)
    model = replace(model, llm=replace(model.llm, prompts=prompts))
    found = evaluate_slates(model, test, NEURAL, HALF, Checkpoints(), _QUIET)
    slates = slate_samples(model.dataset, test, 100)
    assert found is not None
    assert with_timelines is not None
    assert slates is not None
    auc, of_timelines = (at.systems[3].user_auc for at in (found, with_timelines))
    assert auc == pytest.approx(user_auc(slates.label, model.llm_logits(slates), slates.user))
    assert auc != of_timelines


def test_no_slates_are_asked_for(tiny_system_config: Callable[..., Config], tiny_system: FittedRanking) -> None:
    model = replace(tiny_system, config=tiny_system_config(evaluation={"slates": 0}))
    test = model.dataset.samples("test")
    assert evaluate_slates(model, test, NEURAL, HALF, Checkpoints(), _QUIET) is None

"""Branches: many items asked about behind one reading of a log say what each says alone, and see only their past."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corella.config import LLMConfig
from corella.data.dataset import Dataset
from corella.llm.backbone import Backbone
from corella.llm.batches import branch_mask
from corella.llm.prompts import Prompt
from corella.llm.scoring import answer_logits, score_samples
from corella.llm.timeline import TimelinePrompts, timeline_prompts

Build = Callable[..., Dataset]
LLM = Callable[..., LLMConfig]
ITEMS = {f"i{i}": f"Title {i} " + "long " * (i * i // 8) for i in range(9)}
USERS = {f"u{i}": f"User {i}. Likes it?" for i in range(4)}


def _dataset(build: Build, seed: int, rows: int, **given: Any) -> Dataset:
    rng = np.random.default_rng(seed)
    log = [(f"u{rng.integers(4)}", f"i{rng.integers(9)}", int(rng.integers(2))) for _ in range(rows)]
    return build(log, ITEMS, USERS, **given)


def _alone(backbone: Backbone, prompts: TimelinePrompts, samples: Any, share: float) -> np.ndarray:
    """Each sample in a prompt of its own."""
    logits = []
    for i in range(len(samples)):
        one = samples.take(np.array([i]))
        (window,) = prompts.plan(one, share)
        rendered = prompts.render(window, one)
        assert len(rendered.branch) == 0
        with torch.inference_mode():
            logits.append(answer_logits(backbone, [rendered]).logit.item())
    return np.array(logits)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6), st.integers(1, 50), st.integers(40, 300), st.floats(0, 0.8))
def test_new_items_together_equal_each_alone(
    build: Build, backbone: Backbone, llm: LLM, seed: int, rows: int, size: int, share: float
) -> None:
    dataset = _dataset(build, seed, rows)
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame({
        "user_id": [f"u{u}" for u in rng.integers(5, size=12)],  # u4 is unknown
        "item_id": [f"i{i}" for i in rng.integers(9, size=12)],
        "timestamp": rng.integers(0, rows + 3, size=12),
    })  # fmt: skip
    samples = dataset.query(frame)
    prompts = timeline_prompts(dataset, backbone, llm(window_tokens=size))
    windows = prompts.plan(samples, share)
    assert sorted(np.concatenate([w.sample for w in windows]).tolist()) == list(range(12))
    assert all(len(prompts.render(w, samples).ids) == w.tokens for w in windows)
    together = score_samples(backbone, prompts, samples, 600, share)
    np.testing.assert_allclose(together, _alone(backbone, prompts, samples, share), atol=1e-4)


def test_a_user_is_read_once(build: Build, backbone: Backbone, llm: LLM) -> None:
    """Nine items for one user: the log's tokens once, the items' lines behind them."""
    dataset = _dataset(build, 3, 40)
    samples = dataset.query(pl.DataFrame({"user_id": ["u1"] * 9, "item_id": list(ITEMS)}))
    prompts = timeline_prompts(dataset, backbone, llm(window_tokens=2000))
    (window,) = prompts.plan(samples, 0.5)
    rendered = prompts.render(window, samples)
    text = backbone.tokenizer.decode(rendered.ids)
    assert text.count("User 1. Likes it?") == 1
    assert len(rendered.branch) == 9
    assert len(set(rendered.sees.tolist())) == 1
    assert rendered.sees[0] == rendered.branch[0]


def test_mask_by_hand() -> None:
    """Three trunk tokens, a branch of two that sees two of them, a branch of one that sees all."""
    ids = np.arange(6)
    branch, sees = np.array([3, 5]), np.array([2, 3])
    prompt = Prompt(ids, np.array([4, 5]), np.arange(2), np.array([4, 5]), np.zeros(0, np.int64), branch, sees)
    mask, places = branch_mask([prompt], 6, torch.float32)
    seen = (mask[0, 0] == 0).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0], [1, 1, 1, 0, 0, 1],
    ]  # fmt: skip
    assert places.tolist() == [[0, 1, 2, 2, 3, 3]]


def test_likes_only(build: Build, backbone: Backbone, llm: LLM) -> None:
    """Dislikes are asked about, but stand in nobody's history."""
    log = [("u", "a", 1), ("u", "b", 0), ("u", "c", 1)]
    dataset = build(log, {"a": "Alpha", "b": "Beta", "c": "Gamma"}, {"u": "Ann."}, history_answers="likes")
    prompts = timeline_prompts(dataset, backbone, llm(counts_in_words=False))
    samples = dataset.samples("train")
    texts = []
    for i in range(3):
        one = samples.take(np.array([i]))
        (window,) = prompts.plan(one, 0.5)
        texts.append(backbone.tokenizer.decode(prompts.render(window, one).ids))
    assert texts == ["Ann.\nAlpha:", "Ann.\nAlpha: Yes\nBeta:", "Ann.\nAlpha: Yes\nGamma:"]
    (window,) = prompts.plan(samples, 0.5)
    rendered = prompts.render(window, samples)
    assert backbone.tokenizer.decode(rendered.ids) == "Ann.\nAlpha: Yes\nAlpha:\nBeta:\nGamma:"
    together = score_samples(backbone, prompts, samples, 600, 0.5)
    np.testing.assert_allclose(together, _alone(backbone, prompts, samples, 0.5), atol=1e-4)


def test_strict_time_hides_the_same_second(build: Build, backbone: Backbone, llm: LLM) -> None:
    log = pl.DataFrame(
        {"user_id": ["u"] * 4, "item_id": list("abcd"), "label": [1, 0, 1, 0], "timestamp": [5, 7, 7, 9]}
    )
    texts, users = {"a": "Alpha", "b": "Beta", "c": "Gamma", "d": "Delta"}, {"u": "Ann."}
    rows = [("u", i, y) for i, y in zip("abcd", [1, 0, 1, 0], strict=True)]
    dataset = build(rows, texts, users, timestamps=log["timestamp"].to_list(), strict_time=True)
    samples = dataset.samples("train")
    assert samples.history_end.tolist() == [0, 1, 1, 3]
    np.testing.assert_allclose(np.expm1(samples.counts[:, 0]), [0, 1, 1, 3], rtol=1e-6)
    prompts = timeline_prompts(dataset, backbone, llm(counts_in_words=False))
    shown = []
    for i in range(4):
        one = samples.take(np.array([i]))
        (window,) = prompts.plan(one, 0.5)
        shown.append(backbone.tokenizer.decode(prompts.render(window, one).ids))
    assert shown[2] == "Ann.\nAlpha: Yes\nGamma:"
    assert shown[3] == "Ann.\nAlpha: Yes\nBeta: No\nGamma: Yes\nDelta:"


@pytest.mark.parametrize("given", [{"history_answers": "likes"}, {"strict_time": True}])
def test_no_later_answer_reaches_a_branch(build: Build, backbone: Backbone, llm: LLM, given: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    rows = [(f"u{rng.integers(3)}", f"i{rng.integers(9)}", int(rng.integers(2))) for _ in range(50)]
    flipped = [(u, i, 1 - y if n >= 25 else y) for n, (u, i, y) in enumerate(rows)]
    scores = []
    for log in (rows, flipped):
        dataset = build(log, ITEMS, USERS, **given)
        prompts = timeline_prompts(dataset, backbone, llm(window_tokens=90))
        scores.append(score_samples(backbone, prompts, dataset.samples("train"), 512, 0.4))
    np.testing.assert_allclose(scores[0][:26], scores[1][:26], atol=1e-5)
    assert np.abs(scores[0][26:] - scores[1][26:]).max() > 1e-4

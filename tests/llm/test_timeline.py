"""Timeline prompts: the exact text, every sample once, packed equals alone, and no answer seen before its time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corella.columns import DESCRIPTION
from corella.config import LLMConfig
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.llm.backbone import Backbone
from corella.llm.prompts import SHARE_WORDS, Prompt, share_word
from corella.llm.scoring import answer_logits, group_by_tokens, score_samples
from corella.llm.timeline import Window, timeline_prompts

Build = Callable[..., Dataset]
LLM = Callable[..., LLMConfig]
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

TEXTS = {"a": "Alpha", "b": "Beta: the film", "c": "Gamma, Drama"}
USERS = {"u": "Ann, 30. Likes it?", "v": "Bob. Likes it?"}
LOG = [("u", "a", 1), ("v", "a", 0), ("u", "b", 0), ("v", "c", 1), ("v", "b", 1), ("u", "c", 1)]


def _text(backbone: Backbone, prompt: Prompt) -> str:
    text: str = backbone.tokenizer.decode(prompt.ids)
    return text


def _single(window: Window, n: int) -> Window:
    """The window's n-th target alone, from the same first line."""
    event = int(window.event[n])
    return replace(window, end=event + 1, sample=window.sample[n : n + 1], event=window.event[n : n + 1])


def _random_rows(seed: int, rows: int) -> list[tuple[str, str, int]]:
    rng = np.random.default_rng(seed)
    return [(f"u{rng.integers(4)}", f"i{rng.integers(9)}", int(rng.integers(2))) for _ in range(rows)]


def _random_dataset(build: Build, rows: list[tuple[str, str, int]], **given: Any) -> Dataset:
    items = {f"i{i}": f"Title {i}" + " long" * (i * i // 8) for i in range(9)}
    return build(rows, items, {f"u{i}": f"User {i}. Likes it?" for i in range(4)}, **given)


@torch.inference_mode()
def _logits(backbone: Backbone, prompts: list[Prompt]) -> npt.NDArray[np.float32]:
    logits: npt.NDArray[np.float32] = answer_logits(backbone, prompts).logit.numpy()
    return logits


def test_descriptions_are_read_up_to_a_limit(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build([("u", "a", 1), ("u", "b", 0)], TEXTS, USERS)
    column = pl.Series(DESCRIPTION, ["A long tale.", "", ""])
    dataset = replace(dataset, items=dataset.items.with_columns(column))
    samples = dataset.samples("train")

    def read(**changed: Any) -> str:
        prompts = timeline_prompts(dataset, backbone, llm(**changed))
        return _text(backbone, prompts.render(prompts.plan(samples, 0.25)[0], samples))

    assert read() == "Ann, 30. Likes it?\nnew Alpha. A long tale.: Yes\nnew Beta - the film:"
    assert read(descriptions=False) == "Ann, 30. Likes it?\nnew Alpha: Yes\nnew Beta - the film:"
    limit = len(backbone.encode(" Alpha. A"))
    assert "new Alpha. A: Yes" in read(item_tokens=limit)


def test_exact_text(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build(LOG, TEXTS, USERS)
    prompts, samples = timeline_prompts(dataset, backbone, llm()), dataset.samples("train")
    ann, bob = prompts.plan(samples, 0.25)
    text = "Ann, 30. Likes it?\nnew Alpha: Yes\nnew Beta - the film: No\nfew Gamma, Drama:"
    assert _text(backbone, prompts.render(ann, samples)) == text
    assert samples.row[ann.sample].tolist() == [0, 2, 5]
    rendered = prompts.render(bob, samples)
    assert _text(backbone, rendered) == "Bob. Likes it?\nfew Alpha: No\nnew Gamma, Drama: Yes\nfew Beta - the film:"
    # Each position is that of a colon, and the answer comes after it.
    decode = backbone.tokenizer.decode
    assert [decode(rendered.ids[p : p + 2]) for p in rendered.position] == [": No", ": Yes", ":"]
    assert samples.row[rendered.sample].tolist() == [1, 3, 4]


def test_without_counts(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build(LOG, TEXTS, USERS)
    prompts, samples = timeline_prompts(dataset, backbone, llm(counts_in_words=False)), dataset.samples("train")
    assert _text(backbone, prompts.render(prompts.plan(samples, 0)[1], samples)) == (
        "Bob. Likes it?\nAlpha: No\nGamma, Drama: Yes\nBeta - the film:"
    )


def test_context_lines_are_no_targets(build: Build, backbone: Backbone, llm: LLM) -> None:
    """Only the last row is asked for: the lines above are context, with their answers."""
    dataset = build(LOG, TEXTS, USERS)
    samples = dataset.samples(np.array([5]))
    prompts = timeline_prompts(dataset, backbone, llm())
    (window,) = prompts.plan(samples, 0.5)
    rendered = prompts.render(window, samples)
    assert _text(backbone, rendered).endswith("\nnew Beta - the film: No\nfew Gamma, Drama:")
    assert rendered.position.tolist() == [len(rendered.ids) - 1]
    assert rendered.sample.tolist() == [0]
    (bare,) = prompts.plan(samples, 0.0)
    assert (bare.first, bare.end) == (window.first, window.end)  # the window is the log's, whatever is asked for


def test_share_word_counts_the_past_only(build: Build, backbone: Backbone, llm: LLM) -> None:
    """Seven of ten earlier answers were positive; the eleventh row says 7, whatever its own answer."""
    users = {f"u{i}": f"User {i}." for i in range(11)}
    for own in (0, 1):
        dataset = build([(f"u{i}", "a", int(i < 7)) for i in range(10)] + [("u10", "a", own)], TEXTS, users)
        samples = dataset.samples(np.array([10]))
        prompts = timeline_prompts(dataset, backbone, llm())
        assert _text(backbone, prompts.render(prompts.plan(samples, 0)[0], samples)) == "User 10.\n7 Alpha:"


@pytest.mark.parametrize(
    ("answers", "positives", "word"),
    [(0, 0, "new"), (1, 1, "few"), (4, 0, "few"), (5, 0, "0"), (5, 5, "9"), (10, 9, "9"), (10, 10, "9"), (7, 2, "2"),
     (1000, 599, "5")],
)  # fmt: skip
def test_share_word(answers: int, positives: int, word: str) -> None:
    assert SHARE_WORDS[int(share_word(np.array(answers), np.array(positives)))] == word


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(32, 160), st.floats(0, 0.95))
def test_every_sample_once_and_windows_fit(
    build: Build, backbone: Backbone, llm: LLM, seed: int, rows: int, size: int, share: float
) -> None:
    dataset = _random_dataset(build, _random_rows(seed, rows))
    chosen = np.flatnonzero(np.random.default_rng(seed).random(rows) < 0.7)
    samples = dataset.samples(np.random.default_rng(seed).permutation(chosen))
    prompts = timeline_prompts(dataset, backbone, llm(window_tokens=size))
    windows = prompts.plan(samples, share)
    assert sorted(np.concatenate([w.sample for w in windows]) if windows else []) == list(range(len(samples)))
    for window in windows:
        rendered = prompts.render(window, samples)
        text = _text(backbone, rendered)
        assert rendered.sample.tolist() == window.sample.tolist()
        assert len(rendered.ids) <= window.tokens
        assert window.tokens <= size or len(window.sample) == 1
        # A window holds this user's lines only, from `first` to its last target, each with its own answer.
        events = dataset.events
        user = dataset.users["text"][window.user]
        lines = [f" {dataset.items['text'][int(events.item[e])]}:" for e in range(window.first, window.end)]
        answers = [(" No", " Yes")[events.label[e]] for e in range(window.first, window.end)]
        answers[-1] = ""
        given_lines = text.split("\n")
        assert given_lines[0] == user
        assert [line.partition(" ")[2] for line in given_lines[1:]] == [
            (line + answer)[1:] for line, answer in zip(lines, answers, strict=True)
        ]
        assert (dataset.events.start[window.user] <= window.first) and (window.event >= window.first).all()
        assert (samples.history_end[window.sample] == window.event).all()


@QUICK
@given(st.integers(0, 10**6), st.integers(2, 50), st.integers(40, 200), st.floats(0, 0.8))
def test_packed_equals_alone(
    build: Build, backbone: Backbone, llm: LLM, seed: int, rows: int, size: int, share: float
) -> None:
    """A target read off a packed window has the logit of its own prompt from the same first line."""
    dataset = _random_dataset(build, _random_rows(seed, rows))
    samples = dataset.samples("train")
    prompts = timeline_prompts(dataset, backbone, llm(window_tokens=size))
    windows = prompts.plan(samples, share)
    packed = _logits(backbone, [prompts.render(w, samples) for w in windows])
    alone = [prompts.render(_single(w, n), samples) for w in windows for n in range(len(w.sample))]
    assert all(len(p.position) == 1 and p.position[0] == len(p.ids) - 1 for p in alone)
    np.testing.assert_allclose(packed, _logits(backbone, alone), atol=1e-4)


def test_padding_changes_nothing(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = _random_dataset(build, _random_rows(5, 80))
    samples = dataset.samples("train")
    prompts = timeline_prompts(dataset, backbone, llm(window_tokens=96))
    rendered = [prompts.render(w, samples) for w in prompts.plan(samples, 0.3)]
    assert len({len(p.ids) for p in rendered}) > 3
    together = _logits(backbone, rendered)
    np.testing.assert_allclose(together, np.concatenate([_logits(backbone, [p]) for p in rendered]), atol=1e-5)
    small, large = (score_samples(backbone, prompts, samples, size, 0.3) for size in (96, 4096))
    np.testing.assert_allclose(small, large, atol=1e-5)
    order = np.concatenate([p.sample for p in rendered])
    np.testing.assert_allclose(large[order], together, atol=1e-5)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_no_answer_reaches_its_own_or_an_earlier_target(
    build: Build, backbone: Backbone, llm: LLM, seed: int, counts: bool
) -> None:
    """Planted leak: flip every label from a row on; what stands before that row's answer is the same to the token."""
    rows = _random_rows(seed, 70)

    def seen(dataset: Dataset, row: int) -> list[int]:
        samples = dataset.samples("train")
        prompts = timeline_prompts(dataset, backbone, llm(window_tokens=80, counts_in_words=counts))
        for window in prompts.plan(samples, 0.4):
            for n, i in enumerate(window.sample):
                if samples.row[i] == row:
                    rendered = prompts.render(window, samples)
                    ids: list[int] = rendered.ids[: rendered.position[n] + 1].tolist()
                    return ids
        raise AssertionError("not planned")

    before = _random_dataset(build, rows)
    changed = 0
    for row in range(0, 70, 9):
        after = _random_dataset(build, [(u, i, 1 - y if n >= row else y) for n, (u, i, y) in enumerate(rows)])
        for earlier in range(max(0, row - 3), row + 1):
            assert seen(after, earlier) == seen(before, earlier)
        changed += any(seen(after, later) != seen(before, later) for later in range(row + 1, 70, 3))
    assert changed > 3  # the test can see a leak


def test_scores_do_not_change_with_later_answers(build: Build, backbone: Backbone, llm: LLM) -> None:
    rows = _random_rows(11, 60)
    flipped = [(u, i, 1 - y if n >= 30 else y) for n, (u, i, y) in enumerate(rows)]
    scores = []
    for log in (rows, flipped):
        dataset = _random_dataset(build, log)
        prompts = timeline_prompts(dataset, backbone, llm(window_tokens=80))
        scores.append(score_samples(backbone, prompts, dataset.samples("train"), 512, 0.4))
    np.testing.assert_allclose(scores[0][:31], scores[1][:31], atol=1e-5)
    assert np.abs(scores[0][31:] - scores[1][31:]).max() > 1e-4


@pytest.mark.parametrize("size", [64, 2048])
def test_a_new_row_is_asked_like_the_log_row(build: Build, backbone: Backbone, llm: LLM, size: int) -> None:
    """The same user, item and time, asked as a new row: the same tokens, the same logit."""
    dataset = _random_dataset(build, _random_rows(2, 60))
    new = dataset.query(dataset.log.select("user_id", "item_id", "timestamp"))
    prompts = timeline_prompts(dataset, backbone, llm(window_tokens=size))
    for row in range(0, 60, 7):
        logged, asked = dataset.samples(np.array([row])), new.take(np.array([row]))
        pair = [prompts.render(prompts.plan(s, 0.5)[0], s) for s in (logged, asked)]
        assert pair[0].ids.tolist() == pair[1].ids.tolist()
        np.testing.assert_allclose(*(_logits(backbone, [p]) for p in pair), atol=1e-6)


@pytest.mark.parametrize("size", [64, 2048])
def test_hidden_rows_stand_in_no_prompt_but_their_own(build: Build, backbone: Backbone, llm: LLM, size: int) -> None:
    """Rows with items of validation and test are asked behind the training rows, each as if it were alone."""
    rows = _random_rows(4, 60)
    dataset = _random_dataset(build, rows, split={"by": "new-items"})
    parts = pl.Series(["train"] * 30 + ["valid"] * 15 + ["test"] * 15)
    dataset = replace(dataset, log=dataset.log.with_columns(split=parts))
    prompts, samples = timeline_prompts(dataset, backbone, llm(window_tokens=size)), dataset.samples("test")
    packed = score_samples(backbone, prompts, samples, 512, 0.4)
    context = [prompts.render(window, samples).row for window in prompts.plan(samples, 0.4)]
    assert sum(len(row) for row in context) > 10
    assert all((row < 30).all() for row in context)
    alone = _random_dataset(build, rows[:30], counts={"frozen": False})
    asked = replace(alone.query(dataset.log[45:].select("user_id", "item_id")), popularity=samples.popularity)
    wanted = score_samples(backbone, timeline_prompts(alone, backbone, llm(window_tokens=size)), asked, 512, 0.4)
    np.testing.assert_allclose(packed, wanted, atol=1e-5)


def test_unknown_user_and_item(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build(LOG, TEXTS, USERS)
    samples = dataset.query(pl.DataFrame({"user_id": ["nobody", "v"], "item_id": ["a", "nothing"]}))
    prompts = timeline_prompts(dataset, backbone, llm())
    texts = [_text(backbone, prompts.render(w, samples)) for w in prompts.plan(samples, 0.5)]
    assert texts[0] == "A user. Likes it?\nfew Alpha:"
    assert texts[1].startswith("Bob. Likes it?\n")
    assert texts[1].endswith("\nfew Beta - the film: Yes\nnew unknown item:")


def test_a_row_asked_twice_is_answered_twice(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build(LOG, TEXTS, USERS)
    prompts = timeline_prompts(dataset, backbone, llm())
    scores = score_samples(backbone, prompts, dataset.samples(np.array([2, 5, 2, 0])), 512, 0.5)
    assert scores[0] == scores[2]
    np.testing.assert_allclose(
        scores, score_samples(backbone, prompts, dataset.samples("train"), 512, 0.5)[[2, 5, 2, 0]], atol=1e-5
    )


def test_an_introduction_longer_than_the_window(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build(LOG, TEXTS, {"u": "Ann " * 60, "v": "Bob"})
    samples = dataset.samples("train")
    prompts = timeline_prompts(dataset, backbone, llm(window_tokens=32))
    windows = prompts.plan(samples, 0.5)
    assert sorted(np.concatenate([w.sample for w in windows])) == list(range(6))
    assert np.isfinite(score_samples(backbone, prompts, samples, 64, 0.5)).all()


def test_groups_stay_within_the_batch() -> None:
    windows = [Window(0, 0, 1, np.array([i]), np.array([0]), t) for i, t in enumerate([5, 9, 9, 3, 50, 2, 2])]
    groups = list(group_by_tokens(windows, 20))
    assert [[w.tokens for w in g] for g in groups] == [[5, 9], [9, 3], [50], [2, 2]]


def test_progress_is_reported(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build(LOG, TEXTS, USERS)
    prompts = timeline_prompts(dataset, backbone, llm())
    seen: list[tuple[int, int]] = []
    none: Samples = dataset.samples(np.array([], dtype=np.int64))
    assert len(score_samples(backbone, prompts, none, 512, 0.5)) == 0
    score_samples(backbone, prompts, dataset.samples("train"), 32, 0.5, lambda *step: seen.append(step))
    assert [done for done, _ in seen] == [3, 6]
    assert seen[1][1] == sum(len(prompts.render(w, dataset.samples("train")).ids) for w in prompts.plan(
        dataset.samples("train"), 0.5))  # fmt: skip

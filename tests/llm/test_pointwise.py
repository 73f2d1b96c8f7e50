"""The paper's prompt, to the letter."""

from collections.abc import Callable

import numpy as np
import polars as pl
import torch

from corella.config import LLMConfig
from corella.data.dataset import Dataset
from corella.llm.backbone import Backbone
from corella.llm.pointwise import PointwisePrompts
from corella.llm.scoring import answer_logits, score_samples

Build = Callable[..., Dataset]
LLM = Callable[..., LLMConfig]

TEXTS = {"a": "Alpha", "b": "Beta", "c": "Gamma"}
USERS = {"u": "Ann", "v": "Bob"}
LOG = [("u", "a", 1), ("v", "a", 1), ("u", "b", 0), ("v", "b", 0), ("u", "c", 1), ("v", "c", 1)]
END = "? Answer with Yes or No only.\nAnswer:"


def _texts(dataset: Dataset, backbone: Backbone, config: LLMConfig, rows: list[int]) -> list[str]:
    prompts, samples = PointwisePrompts(dataset, backbone, config), dataset.samples(np.array(rows))
    rendered = [prompts.render(q, samples) for q in prompts.plan(samples, 0.5)]
    assert [p.position.tolist() for p in rendered] == [[len(p.ids) - 1] for p in rendered]
    assert [p.sample.tolist() for p in rendered] == [[i] for i in range(len(rows))]
    return [backbone.tokenizer.decode(p.ids) for p in rendered]


def test_exact_text(build: Build, backbone: Backbone, llm: LLM) -> None:
    config = llm(prompt="pointwise")
    first, third = _texts(build(LOG, TEXTS, USERS), backbone, config, [0, 4])
    head = "The user's history, oldest first:"
    assert first == f"{head}\nnothing yet\nWill the user like Alpha{END}"
    assert third == f"{head}\n0. Alpha (liked)\n1. Beta (disliked)\nWill the user like Gamma{END}"


def test_only_the_last_items(build: Build, backbone: Backbone, llm: LLM) -> None:
    (text,) = _texts(build(LOG, TEXTS, USERS), backbone, llm(history_length=1), [5])
    assert text.splitlines()[1:-2] == ["0. Beta (disliked)"]


def test_likes_only(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build([*LOG, ("v", "a", 0)], TEXTS, USERS, history_answers="likes")
    assert _texts(dataset, backbone, llm(), [6])[0].splitlines()[1:-2] == ["0. Alpha (liked)", "1. Gamma (liked)"]
    disliked_only = build([("u", "a", 0), ("u", "b", 1)], TEXTS, USERS, history_answers="likes")
    assert "\nnothing yet\n" in _texts(disliked_only, backbone, llm(), [1])[0]


def test_stars(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build(LOG, TEXTS, USERS, ratings=[5.0, 4.0, 2.5, 1.0, 5.0, 4.0])
    (text,) = _texts(dataset, backbone, llm(show_ratings=True), [4])
    assert text.splitlines()[1:-2] == ["0. Alpha (5 stars)", "1. Beta (2.5 stars)"]
    (plain,) = _texts(dataset, backbone, llm(), [4])
    assert plain.splitlines()[1] == "0. Alpha (liked)"


def test_no_answer_reaches_its_own_or_an_earlier_prompt(build: Build, backbone: Backbone, llm: LLM) -> None:
    rows = list(range(len(LOG)))
    before = _texts(build(LOG, TEXTS, USERS), backbone, llm(), rows)
    for row in rows:
        flipped = [(u, i, 1 - y if n >= row else y) for n, (u, i, y) in enumerate(LOG)]
        after = _texts(build(flipped, TEXTS, USERS), backbone, llm(), rows)
        assert after[: row + 1] == before[: row + 1]
    assert after == before  # the last row's answer is in no prompt
    assert _texts(build([(u, i, 1 - y) for u, i, y in LOG], TEXTS, USERS), backbone, llm(), rows) != before


def test_unknown_user_and_item(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build(LOG, TEXTS, USERS)
    samples = dataset.query(pl.DataFrame({"user_id": ["nobody"], "item_id": ["nothing"]}))
    prompts = PointwisePrompts(dataset, backbone, llm())
    text = backbone.tokenizer.decode(prompts.render(prompts.plan(samples, 0)[0], samples).ids)
    assert text == f"The user's history, oldest first:\nnothing yet\nWill the user like unknown item{END}"


def test_batched_equals_alone(build: Build, backbone: Backbone, llm: LLM) -> None:
    dataset = build(LOG, TEXTS, USERS)
    prompts, samples = PointwisePrompts(dataset, backbone, llm()), dataset.samples("train")
    scores = score_samples(backbone, prompts, samples, 4096, 0)
    with torch.inference_mode():
        alone = [answer_logits(backbone, [prompts.render(q, samples)]).logit.item() for q in prompts.plan(samples, 0)]
    np.testing.assert_allclose(scores, alone, atol=1e-5)

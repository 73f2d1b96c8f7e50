"""Shared prefixes: logits equal those of separate prompts, whatever is kept, appended, evicted or batched."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from corella.config import LLMConfig
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.llm.backbone import Backbone, load_backbone
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt
from corella.llm.scoring import score_samples
from corella.llm.timeline import timeline_prompts

Build = Callable[..., Dataset]
LLM = Callable[..., LLMConfig]

ITEMS = {f"i{i}": f"Title {i} " + "long " * (i * i // 8) for i in range(9)}
USERS = {f"u{i}": f"User {i}. Likes it?" for i in range(3)}


@pytest.fixture(scope="module")
def dataset(build: Build) -> Dataset:
    rng = np.random.default_rng(1)
    rows = [(f"u{rng.integers(3)}", f"i{rng.integers(9)}", int(rng.integers(2))) for _ in range(40)]
    return build(rows, ITEMS, USERS)


def _asked(dataset: Dataset, user: str) -> Samples:
    return dataset.query(pl.DataFrame({"user_id": [user] * 9, "item_id": list(ITEMS)}))


@pytest.fixture(scope="module")
def asked(dataset: Dataset, backbone: Backbone, llm: LLM) -> dict[str, tuple[SharedPrompt, np.ndarray]]:
    """User -> the shared prompt of all items, and the logits of separate prompts."""
    prompts, found = timeline_prompts(dataset, backbone, llm()), {}
    for user in USERS:
        samples = _asked(dataset, user)
        (shared,) = prompts.shared(samples, 0.5, 5000)
        alone = [score_samples(backbone, prompts, samples.take(np.array([i])), 9999, 0.5, window_tokens=5000)[0]
                 for i in range(9)]  # fmt: skip
        found[user] = (shared, np.array(alone)[shared.sample])
    return found


def _scorer(llm: LLM, limit: int = 1 << 30) -> PrefixScorer:
    return PrefixScorer(load_backbone(llm()), PrefixCache(limit))


def test_logits_are_those_of_separate_prompts(asked: dict, llm: LLM) -> None:
    scorer = _scorer(llm)
    for user, (shared, alone) in asked.items():
        cold, warm = scorer.logits([user], [shared])[0], scorer.logits([user], [shared])[0]
        np.testing.assert_allclose(cold, alone, atol=1e-3)
        np.testing.assert_allclose(warm, alone, atol=1e-3)
    assert len(scorer.cache) == 3


def test_requests_of_a_pass_do_not_meet(asked: dict, llm: LLM) -> None:
    """Three users in one pass, one of them kept, one that is not to be kept."""
    scorer = _scorer(llm)
    scorer.logits(["u1"], [asked["u1"][0]])
    together = scorer.logits(["u0", "u1", ""], [shared for shared, _ in asked.values()])
    for found, (_, alone) in zip(together, asked.values(), strict=True):
        np.testing.assert_allclose(found, alone, atol=1e-3)
    assert len(scorer.cache) == 2


def test_an_appended_answer_is_read_alone(asked: dict, llm: LLM) -> None:
    """What is kept of a prefix serves one that begins with it."""
    shared, alone = asked["u2"]
    scorer = _scorer(llm)
    half = SharedPrompt(shared.prefix[:20], shared.branches, shared.sample)
    scorer.logits(["u2"], [half])
    np.testing.assert_allclose(scorer.logits(["u2"], [shared])[0], alone, atol=1e-3)
    kept = scorer.cache.find("u2", shared.prefix)
    assert kept is not None and len(kept.ids) == len(shared.prefix)


def test_what_no_longer_holds_is_dropped(asked: dict, llm: LLM) -> None:
    shared, alone = asked["u2"]
    other = shared.prefix.copy()
    other[10] += 1
    scorer = _scorer(llm)
    scorer.logits(["u2"], [SharedPrompt(other, shared.branches, shared.sample)])
    np.testing.assert_allclose(scorer.logits(["u2"], [shared])[0], alone, atol=1e-3)


def test_the_limit_holds_and_the_oldest_goes(asked: dict, llm: LLM) -> None:
    scorer = _scorer(llm)
    sizes = {}
    for user, (shared, _) in asked.items():
        scorer.logits([user], [shared])
        sizes[user] = scorer.cache.bytes - sum(sizes.values())
    # Two blocks of keys and values would be a lie: 3 blocks, 2 groups, 8 numbers of 4 bytes each.
    assert sizes["u0"] == len(asked["u0"][0].prefix) * 3 * 2 * 2 * 8 * 4
    small = _scorer(llm, limit=sizes["u0"] + sizes["u1"] + sizes["u2"] - 1)
    for user in ("u0", "u1", "u0", "u2"):
        small.logits([user], [asked[user][0]])
    assert small.cache.bytes <= small.cache.limit
    assert small.cache.find("u1", asked["u1"][0].prefix) is None
    assert small.cache.find("u2", asked["u2"][0].prefix) is not None
    nothing = _scorer(llm, limit=0)
    nothing.logits(["u0"], [asked["u0"][0]])
    assert len(nothing.cache) == 0 and nothing.cache.bytes == 0


@pytest.mark.parametrize("window", [60, 90, 120, 150, 180])
def test_what_else_is_asked_changes_nothing_in_short_windows(
    dataset: Dataset, backbone: Backbone, llm: LLM, window: int
) -> None:
    """A long line may leave less room for the history than a short one: such a request has two prompts."""
    prompts = timeline_prompts(dataset, backbone, llm())
    scorer, two = PrefixScorer(load_backbone(llm()), PrefixCache(0)), 0
    for user in USERS:
        samples = _asked(dataset, user)
        shared = prompts.shared(samples, 0.5, window)
        assert len(shared) <= 2
        assert sorted(np.concatenate([p.sample for p in shared]).tolist()) == list(range(9))
        two += len(shared) == 2
        for prompt, found in zip(shared, scorer.logits([""] * len(shared), shared), strict=True):
            for place, i in enumerate(prompt.sample.tolist()):
                alone = score_samples(
                    backbone, prompts, samples.take(np.array([i])), 9999, 0.5, window_tokens=window
                )  # fmt: skip
                assert found[place] == pytest.approx(float(alone[0]), abs=1e-3)
    assert two or window not in (90, 120)


def test_prompts_of_several_users(dataset: Dataset, backbone: Backbone, llm: LLM) -> None:
    prompts = timeline_prompts(dataset, backbone, llm())
    both = dataset.query(pl.DataFrame({"user_id": ["u0", "u1", "u0", "nobody"], "item_id": ["i1", "i2", "i3", "i4"]}))
    shared = prompts.shared(both, 0.5, 5000)
    assert [p.sample.tolist() for p in shared] == [[0, 2], [1], [3]]
    wanted = score_samples(backbone, prompts, both, 9999, 0.5, window_tokens=5000)
    for p, found in zip(shared, _scorer(llm).logits(["a", "b", ""], shared), strict=True):
        np.testing.assert_allclose(found, wanted[p.sample], atol=1e-3)

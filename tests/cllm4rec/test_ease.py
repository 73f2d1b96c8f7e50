"""EASE against ridge regressions of each item on the others, and the weights that validation rows choose."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from corella.cllm4rec.ease import Ease, fit_ease
from corella.cllm4rec.model import CLLM
from corella.cllm4rec.recommend import Reader
from corella.cllm4rec.system import CLLM4Rec, training_likes
from corella.cllm4rec.weighing import EASE_PENALTIES, Weights, choose_weights, worthwhile
from corella.config import Config, RetrievalConfig
from corella.data.dataset import Dataset
from corella.llm.backbone import load_backbone

ITEMS = 6
Likes = st.lists(st.sets(st.integers(0, ITEMS - 1), min_size=1).map(sorted), min_size=1, max_size=12)


@settings(deadline=None, max_examples=30)
@given(Likes, st.floats(0.5, 50))
def test_each_item_is_a_ridge_regression_on_the_others(likes: list[list[int]], penalty: float) -> None:
    told = np.zeros((len(likes), ITEMS))
    for row, codes in enumerate(likes):
        told[row, codes] = 1
    found = fit_ease([np.array(codes) for codes in likes], ITEMS, penalty)
    for item in range(ITEMS):
        others = np.delete(np.arange(ITEMS), item)
        wanted = Ridge(alpha=penalty, fit_intercept=False).fit(told[:, others], told[:, item]).coef_
        np.testing.assert_allclose(found[others, item], wanted, atol=1e-5)
        assert found[item, item] == 0


def test_logits_by_hand() -> None:
    ease = Ease(np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]], np.float32), 0.5)
    found = ease.logits([np.array([0, 2, 2]), np.zeros(0, np.int64)])
    np.testing.assert_array_equal(found, [[2.5, 3.5, 1.0], [0, 0, 0]])
    assert ease.logits([]).shape == (0, 3)


def test_an_item_liked_twice_counts_once() -> None:
    once, twice = ([np.array([0, *more, 1]), np.array([1, 2])] for more in ([], [0]))
    np.testing.assert_array_equal(fit_ease(once, 3, 1.0), fit_ease(twice, 3, 1.0))


def test_scores_and_files_hold_ease(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """EASE adds its logits to the head's, for new items by their text, and comes back from the files."""
    settings = {"pretraining_epochs": 0, "fine_tuning_epochs": 0, "head_epochs": 1, "head_size": 4, "llm_weight": 0.0}
    model = CLLM4Rec(tiny_system_config(retrieval=settings)).fit(tiny_dataset)
    items = tiny_dataset.items.height
    readers = [Reader(-1, np.array([1, 3, 5])), Reader(-1, np.zeros(0, np.int64))]
    weights = np.random.default_rng(1).normal(size=(items, items)).astype(np.float32)
    model.ease = None
    texts = tiny_dataset.items["text"].to_list()
    head, head_new = model.scores(readers), model.new_item_scores(readers, texts)
    model.ease = Ease(weights, 2.0)
    np.testing.assert_allclose(model.scores(readers)[0], head[0] + 2 * weights[[1, 3, 5]].sum(0), atol=1e-4)
    np.testing.assert_allclose(model.scores(readers)[1], head[1], atol=1e-6)
    close = model.config.retrieval.model_copy(update={"new_item_penalty": 1e-6})
    model.config = model.config.model_copy(update={"retrieval": close})
    added = model.new_item_scores(readers, texts) - head_new
    assert np.corrcoef(added[0], model.scores(readers)[0] - head[0])[0, 1] > 0.8
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(CLLM4Rec.load(tmp_path / "model").scores(readers), model.scores(readers))
    assert model.recommend([]) == []


def test_ease_learns_from_validation_rows_once_its_weight_is_chosen(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset
) -> None:
    """A head that learned nothing leaves everything to EASE; a catalogue that is too large has none."""
    settings = {"pretraining_epochs": 0, "fine_tuning_epochs": 0, "head_epochs": 0, "llm_weight": 0.0}
    model = CLLM4Rec(tiny_system_config(retrieval=settings)).fit(tiny_dataset)
    assert model.ease is not None
    items = tiny_dataset.items.height
    both = training_likes(tiny_dataset, ("train", "valid"))
    assert any(np.array_equal(model.ease.weights, fit_ease(both, items, penalty)) for penalty in EASE_PENALTIES)
    small = {**settings, "ease_items": items - 1}
    assert CLLM4Rec(tiny_system_config(retrieval=small)).fit(tiny_dataset).ease is None


def test_validation_chooses_what_helps(tiny_system_config: Callable[..., Config]) -> None:
    """Items 0 and 1 go together, and 2 and 3. A head that knows nothing needs EASE; one that knows, does not."""
    config = RetrievalConfig(head_size=4, head_texts=False)
    model = CLLM(load_backbone(tiny_system_config().llm), 20, 4, config)
    assert model.output is not None
    liked = [np.array([0, 1])] * 10 + [np.array([2, 3])] * 10
    histories, wanted = [np.array([0]), np.array([2])], [np.array([1]), np.array([3])]
    nothing = torch.zeros(2, 4)
    with torch.no_grad():
        model.output.own.copy_(torch.eye(4))
        model.output.map.zero_()
        model.bias.copy_(torch.tensor([0.0, -0.1, 0.0, 0.1]))
    tried = choose_weights(model, (nothing, nothing), histories, wanted, liked, (0.0, 1.0), ease=True)
    assert tried[0].quality == 1 and tried[0].ease > 0
    assert next(w for w in tried if w.ease == 0).quality < 1
    knows = torch.tensor([[0, 3.0, 0, 0], [0, 0, 0, 3.0]])
    for parts, llm in (((knows, nothing), 1.0), ((nothing, knows), 0.0)):
        tried = choose_weights(model, parts, histories, wanted, liked, (0.0, 1.0), ease=False)
        assert (tried[0].quality, tried[0].llm, tried[0].ease) == (1, llm, 0)


def test_the_language_model_must_gain_more_than_noise() -> None:
    cheap = Weights(0.0, 5.0, 50.0, np.array([0.2, 0.4, 0.1, 0.3]))
    surely = Weights(0.5, 5.0, 50.0, cheap.ndcg100 + np.array([0.1, 0.11, 0.1, 0.09]))
    by_luck = Weights(0.5, 5.0, 50.0, cheap.ndcg100 + np.array([0.5, -0.1, 0.0, -0.1]))
    assert worthwhile([surely, cheap]) is surely
    assert worthwhile([by_luck, cheap]) is cheap
    assert worthwhile([cheap, by_luck]) is cheap
    assert worthwhile([by_luck]) is by_luck


def test_a_large_catalogue_needs_no_square_of_it(tiny_system_config: Callable[..., Config]) -> None:
    """Items squared would be 160 GB here; users come in blocks."""
    items = 200_000
    model = CLLM(load_backbone(tiny_system_config().llm), 3, items, RetrievalConfig(head_size=1, head_texts=False))
    states = (torch.zeros(30, 1), torch.ones(30, 1))
    histories, wanted = [np.array([n]) for n in range(30)], [np.array([n + 30]) for n in range(30)]
    tried = choose_weights(model, states, histories, wanted, histories, (0.0,), ease=False)
    assert len(tried) == 1 and np.isfinite(tried[0].quality)

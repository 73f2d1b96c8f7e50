"""EASE against ridge regressions of each item on the others, and the weights that validation rows choose."""

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from corella.cllm4rec.ease import Ease, fit_ease
from corella.cllm4rec.model import CLLM
from corella.cllm4rec.weighing import choose_weights
from corella.config import Config, RetrievalConfig
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
    found = ease.logits([np.array([0, 2]), np.zeros(0, np.int64)])
    np.testing.assert_array_equal(found, [[2.5, 3.5, 1.0], [0, 0, 0]])


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
    assert tried[0].ndcg100 == 1 and tried[0].ease > 0
    assert next(w for w in tried if w.ease == 0).ndcg100 < 1
    knows = torch.tensor([[0, 3.0, 0, 0], [0, 0, 0, 3.0]])
    for parts, llm in (((knows, nothing), 1.0), ((nothing, knows), 0.0)):
        tried = choose_weights(model, parts, histories, wanted, liked, (0.0, 1.0), ease=False)
        assert (tried[0].ndcg100, tried[0].llm, tried[0].ease) == (1, llm, 0)

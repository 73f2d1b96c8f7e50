"""Soft tokens from the conventional model: where they go, what they carry, and that they survive saving."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from corella.config import Config
from corella.crm.training import crm_logits
from corella.data.dataset import Dataset
from corella.joint.soft_tokens import SoftTokens, older_and_newer
from corella.llm.scoring import answer_logits
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking
from corella.ranking.model import FittedRanking


@pytest.fixture(scope="module")
def fitted(tiny_system_config: Callable[..., Config], tiny_dataset: Dataset) -> FittedRanking:
    return fit_ranking(tiny_system_config(llm={"crm_tokens": True}), tiny_dataset)


def test_untrained_projection_changes_nothing(fitted: FittedRanking) -> None:
    soft_tokens = _with_projection(fitted, 0.0)
    samples = fitted.dataset.samples("test")
    rendered = [fitted.llm.prompts.render(w, samples) for w in fitted.llm.prompts.plan(samples, 0.5)][:3]
    fitted.llm.backbone.model.eval()
    with torch.inference_mode():
        plain = answer_logits(fitted.llm.backbone, rendered).logit
        torch.testing.assert_close(
            answer_logits(fitted.llm.backbone, rendered, soft=soft_tokens(rendered, samples)).logit, plain
        )


def test_every_line_carries_its_own_logit(fitted: FittedRanking) -> None:
    """With a projection that copies the logit, position by position the vectors are the lines' CRM logits."""
    soft_tokens = _with_projection(fitted, 0.0)
    assert soft_tokens.project.weight.shape[1] == soft_tokens.base.hidden_sizes[-1] + 1  # type: ignore[index]
    with torch.no_grad():
        soft_tokens.project.weight[0, -1] = 1.0
    samples = fitted.dataset.samples("test")
    windows = fitted.llm.prompts.plan(samples, 0.5)
    rendered = [fitted.llm.prompts.render(w, samples) for w in windows]
    vectors = soft_tokens(rendered, samples)[:, 0] * soft_tokens.scale[-1] + soft_tokens.mean[-1]
    rows = [fitted.dataset.events.row[w.first : w.event[-1] + 1] for w in windows]
    expected = crm_logits(soft_tokens.base, fitted.encoder, fitted.dataset.samples(np.concatenate(rows)))
    np.testing.assert_allclose(vectors.detach().numpy(), expected, atol=1e-4)
    assert sum(len(p.row) for p in rendered) > 0


def test_saved_and_loaded_says_the_same(fitted: FittedRanking, tmp_path: Path) -> None:
    assert fitted.llm.soft_tokens is not None
    assert fitted.llm.soft_tokens.project.weight.abs().max() > 0
    samples = fitted.dataset.samples("test")
    save_ranking(fitted, tmp_path / "model")
    again = load_ranking(tmp_path / "model")
    np.testing.assert_array_equal(again.llm_logits(samples), fitted.llm_logits(samples))


def test_the_held_out_never_learned_the_language_models_targets(tiny_dataset: Dataset) -> None:
    older, newer = older_and_newer(tiny_dataset.samples("train"), 0.4)
    assert older.row.max() < newer.row.min()
    rows = np.concatenate([older.row, newer.row])
    np.testing.assert_array_equal(rows, np.sort(tiny_dataset.rows("train")))
    assert len(older) == round(0.4 * len(rows))


def _with_projection(model: FittedRanking, value: float) -> SoftTokens:
    """A copy of the model's soft_tokens whose projection holds one value everywhere."""
    assert model.llm.soft_tokens is not None
    soft_tokens = copy.copy(model.llm.soft_tokens)
    soft_tokens._modules = dict(soft_tokens._modules)  # or the module fixture's projection would change too
    soft_tokens.project = copy.deepcopy(soft_tokens.project)
    with torch.no_grad():
        soft_tokens.project.weight.fill_(value)
    return soft_tokens

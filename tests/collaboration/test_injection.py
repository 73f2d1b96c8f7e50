"""Soft tokens from the conventional model: where they go, what they carry, and that they survive saving."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from corella.collaboration.injection import Injection, older_and_newer
from corella.collaboration.system import CoReLLa
from corella.config import Config
from corella.crm.training import crm_logits
from corella.data.dataset import Dataset
from corella.llm.scoring import answer_logits


@pytest.fixture(scope="module")
def fitted(tiny_system_config: Callable[..., Config], tiny_dataset: Dataset) -> CoReLLa:
    return CoReLLa(tiny_system_config(llm={"crm_tokens": True})).fit(tiny_dataset)


def test_untrained_projection_changes_nothing(fitted: CoReLLa) -> None:
    injection = _with_projection(fitted, 0.0)
    samples = fitted.dataset.samples("test")
    rendered = [fitted.prompts.render(w, samples) for w in fitted.prompts.plan(samples, 0.5)][:3]
    fitted.backbone.model.eval()
    with torch.inference_mode():
        plain = answer_logits(fitted.backbone, rendered).logit
        torch.testing.assert_close(
            answer_logits(fitted.backbone, rendered, soft=injection(rendered, samples)).logit, plain
        )


def test_every_line_carries_its_own_logit(fitted: CoReLLa) -> None:
    """With a projection that copies the logit, position by position the vectors are the lines' CRM logits."""
    injection = _with_projection(fitted, 0.0)
    assert injection.project.weight.shape[1] == injection.viewer.hidden_sizes[-1] + 1  # type: ignore[index]
    with torch.no_grad():
        injection.project.weight[0, -1] = 1.0
    samples = fitted.dataset.samples("test")
    windows = fitted.prompts.plan(samples, 0.5)
    rendered = [fitted.prompts.render(w, samples) for w in windows]
    vectors = injection(rendered, samples)[:, 0] * injection.scale[-1] + injection.mean[-1]
    rows = [fitted.dataset.events.row[w.first : w.event[-1] + 1] for w in windows]
    expected = crm_logits(injection.viewer, fitted.encoder, fitted.dataset.samples(np.concatenate(rows)))
    np.testing.assert_allclose(vectors.detach().numpy(), expected, atol=1e-4)
    assert sum(len(p.row) for p in rendered) > 0


def test_saved_and_loaded_says_the_same(fitted: CoReLLa, tmp_path: Path) -> None:
    assert fitted.injection is not None
    assert fitted.injection.project.weight.abs().max() > 0
    samples = fitted.dataset.samples("test")
    fitted.save(tmp_path / "model")
    again = CoReLLa.load(tmp_path / "model")
    np.testing.assert_array_equal(again.llm_logits(samples), fitted.llm_logits(samples))


def test_the_viewer_never_learned_the_language_models_targets(tiny_dataset: Dataset) -> None:
    older, newer = older_and_newer(tiny_dataset.samples("train"), 0.4)
    assert older.row.max() < newer.row.min()
    rows = np.concatenate([older.row, newer.row])
    np.testing.assert_array_equal(rows, np.sort(tiny_dataset.rows("train")))
    assert len(older) == round(0.4 * len(rows))


def _with_projection(model: CoReLLa, value: float) -> Injection:
    """A copy of the model's injection whose projection holds one value everywhere."""
    assert model.injection is not None
    injection = copy.copy(model.injection)
    injection._modules = dict(injection._modules)  # or the module fixture's projection would change too
    injection.project = copy.deepcopy(injection.project)
    with torch.no_grad():
        injection.project.weight.fill_(value)
    return injection

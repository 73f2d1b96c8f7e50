"""Trees beside the neural model: one conventional logit, the better half leads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from corella.calibration import Blend
from corella.config import Config, LightGBMConfig
from corella.crm.ensemble import Ensemble, fit_ensemble
from corella.crm.training import crm_logits
from corella.crm.trees import train_trees
from corella.data.dataset import Dataset
from corella.files import read_value, write_value
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking
from corella.ranking.model import FittedRanking


def test_the_better_half_leads(tiny_system: FittedRanking, tiny_dataset: Dataset) -> None:
    encoder, valid = tiny_system.encoder, tiny_dataset.samples("valid")
    trees = train_trees(encoder, tiny_dataset.samples("train"), valid, LightGBMConfig(), seed=1)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(valid)).astype(np.float32)
    with_noise = fit_ensemble(trees, noise, encoder, valid)
    assert with_noise.blend.weight_b > 4 * with_noise.blend.weight_a
    knows = (4 * valid.label - 2 + noise).astype(np.float32)
    with_truth = fit_ensemble(trees, knows, encoder, valid)
    assert with_truth.blend.weight_a > with_truth.blend.weight_b
    assert roc_auc_score(valid.label, with_truth(knows, encoder, valid)) >= roc_auc_score(valid.label, knows)
    assert fit_ensemble(trees, -knows, encoder, valid).blend.weight_a == 0


def test_by_hand(tiny_system: FittedRanking, tiny_dataset: Dataset, tmp_path: Path) -> None:
    assert tiny_system.ensemble is not None
    test = tiny_dataset.samples("test")
    trees = tiny_system.ensemble.trees
    ours = Ensemble(trees, Blend(2.0, 0.5, 1.0))
    neural = np.linspace(-1, 1, len(test)).astype(np.float32)
    expected = 2 * neural + 0.5 * trees.logits(tiny_system.encoder, test) + 1
    np.testing.assert_allclose(ours(neural, tiny_system.encoder, test), expected, rtol=1e-5, atol=1e-6)
    write_value(tmp_path / "ensemble.json", ours)
    assert read_value(tmp_path / "ensemble.json", Ensemble) == ours


def test_with_and_without(
    tiny_system: FittedRanking, tiny_system_config: Callable[..., Config], tiny_dataset: Dataset
) -> None:
    alone = fit_ranking(tiny_system_config(crm={"trees": False}), tiny_dataset)
    test = tiny_dataset.samples("test")
    assert alone.ensemble is None
    neural = crm_logits(alone.neural, alone.encoder, test)
    np.testing.assert_array_equal(alone.conventional(test)[0], neural)
    # The trees change no other model.
    np.testing.assert_array_equal(neural, crm_logits(tiny_system.neural, tiny_system.encoder, test))
    np.testing.assert_array_equal(alone.llm_logits(test), tiny_system.llm_logits(test))
    assert tiny_system.ensemble is not None
    expected = tiny_system.ensemble(neural, tiny_system.encoder, test)
    np.testing.assert_array_equal(tiny_system.conventional(test)[0], expected)
    assert not np.array_equal(expected, neural)
    assert tiny_system.conventional(test.take(np.arange(0)))[0].shape == (0,)


def test_saved_without_trees(tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, tmp_path: Path) -> None:
    alone = fit_ranking(tiny_system_config(crm={"trees": False}), tiny_dataset)
    save_ranking(alone, tmp_path / "model")
    again = load_ranking(tmp_path / "model", tiny_dataset)
    assert again.ensemble is None
    test = tiny_dataset.samples("test")
    np.testing.assert_array_equal(again.predict_proba(test), alone.predict_proba(test))

"""Residual training: the loss by hand, honest logits, who is drawn first, and what serving makes of it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from corella.calibration import fit_blend, fit_calibrator
from corella.checkpoint import Checkpoints
from corella.config import Config, LightGBMConfig
from corella.config.loading import load_config
from corella.crm.models import build_crm
from corella.crm.rungs import Rung, fresh_rungs
from corella.crm.training import train_crm
from corella.crm.trees import train_trees
from corella.data.dataset import Dataset
from corella.joint.residual import FOLDS, Correction, LearnedCorrection, _folds, out_of_fold, worth_reading
from corella.joint.trainer import JointTrainer
from corella.llm.scoring import answer_logits
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking

Configure = Callable[..., Config]
Make = Callable[..., JointTrainer]
RESIDUAL = {"target": "residual", "stages": [3]}


def _base(dataset: Dataset) -> np.ndarray:
    return np.random.default_rng(1).normal(size=len(dataset.rows("train"))).astype(np.float32)


def test_the_loss_is_that_of_the_sum(make_trainer: Make, tiny_dataset: Dataset) -> None:
    """At the start: base + .3 (z - mean z), the mean over the targets of the first step, read in several passes."""
    base = _base(tiny_dataset)
    trainer = make_trainer(base, joint={**RESIDUAL, "targets_per_step": 64}, llm={"batch_tokens": 300})
    step = trainer.steps[0]
    prompts = sorted(step.prompts, key=lambda p: p.tokens)
    rendered = [trainer.prompts.render(p, trainer.train) for p in prompts]
    index = np.concatenate([p.sample for p in rendered])
    trainer.backbone.model.train()
    with torch.no_grad():
        z = answer_logits(trainer.backbone, rendered).logit
    expected = nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(base[index]) + 0.3 * (z - z.mean()), torch.from_numpy(trainer.train.label[index]).float()
    )
    trainer.made = iter([trainer.inputs(0)])
    assert trainer._train_step(step)["llm"] == pytest.approx(float(expected), abs=1e-6)


def test_where_the_base_knows_all_nothing_is_learned(make_trainer: Make, tiny_dataset: Dataset) -> None:
    """The gradient of a logistic loss is the error: with a base that is sure and right there is none."""
    label = tiny_dataset.samples("train").label
    sizes = []
    for base in (np.where(label == 1, 40.0, -40.0).astype(np.float32), np.zeros(len(label), np.float32)):
        trainer = make_trainer(base, joint={**RESIDUAL, "stage3_targets": 32})
        before = {name: p.detach().clone() for name, p in trainer.masters.items()}
        trainer.run()
        sizes.append(sum(float((p.detach() - before[name]).abs().sum()) for name, p in trainer.masters.items()))
    assert sizes[0] < 1e-6 < sizes[1]


def test_no_gradient_reaches_the_base(make_trainer: Make, tiny_dataset: Dataset) -> None:
    base = _base(tiny_dataset)
    trainer = make_trainer(base, joint={**RESIDUAL, "stage3_targets": 64})
    before = {name: p.clone() for name, p in trainer.crm.state_dict().items()}
    trainer.run()
    assert trainer.base is not None and not trainer.base.requires_grad
    np.testing.assert_array_equal(base, _base(tiny_dataset))
    assert all(torch.equal(p, before[name]) for name, p in trainer.crm.state_dict().items())
    assert trainer.correction is not None and float(trainer.correction.scale.detach()) != pytest.approx(0.3, abs=1e-6)


def test_a_correction_that_misleads_weighs_nothing() -> None:
    """Blended with the corrected logit, base + d, weights a and b mean (a + b) base + b d: b is 0 where d points away
    from the labels, and then the order is the base's own."""
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 2000)
    base = (2.0 * label - 1 + rng.normal(size=2000)).astype(np.float32)
    toward = (0.5 * (2.0 * label - 1) + rng.normal(size=2000)).astype(np.float32)
    helped, misled = (fit_blend(base, Correction(1.0, 0.0)(base, d), label) for d in (toward, -toward))
    assert helped.weight_b > 0 and misled.weight_b == 0
    final = misled(base, Correction(1.0, 0.0)(base, -toward))
    np.testing.assert_array_equal(np.argsort(final, kind="stable"), np.argsort(base, kind="stable"))


def test_a_base_changes_nothing_for_labels(make_trainer: Make, tiny_dataset: Dataset) -> None:
    short = {"stages": [3], "stage3_targets": 64}
    one, two = make_trainer(joint=short), make_trainer(_base(tiny_dataset), joint=short)
    one.run()
    two.run()
    assert two.correction is None
    assert all(torch.equal(p, two.masters[name]) for name, p in one.masters.items())


def test_killed_and_resumed(make_trainer: Make, tiny_dataset: Dataset, tmp_path: Path) -> None:
    joint = {**RESIDUAL, "draw": "unsure", "stage3_targets": 160, "checkpoint_seconds": 1e-6}
    base = _base(tiny_dataset)

    class KilledError(Exception):
        pass

    def stop(progress: object) -> None:
        if progress.step == 3:  # type: ignore[attr-defined]
            raise KilledError

    whole, path = make_trainer(base, joint=joint), tmp_path / "joint.safetensors"
    whole.run()
    with pytest.raises(KilledError):
        make_trainer(base, joint=joint).run(path, stop)
    resumed = make_trainer(base, joint=joint)
    resumed.run(path)
    assert whole.correction is not None and resumed.correction is not None
    assert whole.correction.learned() == resumed.correction.learned()
    assert all(torch.equal(p, resumed.masters[name]) for name, p in whole.masters.items())


def test_what_was_learned_is_what_is_served() -> None:
    learned = LearnedCorrection()
    base, raw = torch.tensor([1.0, -1.0]), torch.tensor([3.0, 5.0])
    learned.begin(4.0)
    with torch.no_grad():
        learned.scale.fill_(2.0)
        learned.shift.fill_(0.5)
    expected = learned(base, raw).detach().numpy()
    np.testing.assert_allclose(learned.learned()(base.numpy(), raw.numpy()), expected, rtol=1e-6)
    np.testing.assert_allclose(Correction(2.0, 3.0)(np.zeros(2, np.float32), np.array([3, np.nan])), [0.0, np.nan])


def test_unsure_and_cold_rows_are_worth_most(tiny_dataset: Dataset) -> None:
    samples = tiny_dataset.samples("train").take(np.arange(3))
    popularity = np.array([[9, 1], [9, 1], [2, 1]])
    worth = worth_reading(np.array([0.0, 5.0, 5.0], np.float32), replace(samples, popularity=popularity))
    assert worth[0] == pytest.approx(1.0)
    assert worth[1] == pytest.approx(4 * 0.99331 * 0.00669, abs=1e-3)
    assert worth[2] == pytest.approx(1 + worth[1])


def test_they_are_drawn_first(make_trainer: Make, tiny_dataset: Dataset) -> None:
    """Half of the users are sure: of as many targets most are of the others."""
    train = tiny_dataset.samples("train")
    base = np.where(train.user % 2 == 0, 0.0, 9.0).astype(np.float32)
    drawn = {}
    for draw in ("uniform", "unsure"):
        trainer = make_trainer(base, joint={**RESIDUAL, "draw": draw, "stage3_targets": 200})
        sample = np.concatenate([p.sample for step in trainer.steps for p in step.prompts])
        drawn[draw] = Counter((train.user[sample] % 2).tolist())[0] / len(sample)
        assert 200 <= len(sample) < 200 + 32  # as many targets, but for the last window
    assert drawn["unsure"] > drawn["uniform"] + 0.15


def test_no_row_sees_its_own_label(tiny_dataset: Dataset, tiny_config: Config) -> None:
    """With labels that nothing tells, models fitted on the rows know them by heart; out of fold they cannot."""
    rng = np.random.default_rng(1)
    train, valid = tiny_dataset.samples("train"), tiny_dataset.samples("valid")
    train = replace(train, label=rng.integers(0, 2, len(train)))
    heart = {
        "epochs": 40,
        "patience": 40,
        "dropout": 0.0,
        "id_dropout": 0.0,
        "weight_decay": 0.0,
        "learning_rate": 0.01,
    }
    config = tiny_config.model_copy(update={"crm": tiny_config.crm.model_copy(update=heart)})
    (rung,) = fresh_rungs(tiny_dataset, config.crm, build_crm, 1)
    train_crm(rung.neural, rung.encoder, train, train, config.crm, 1)
    rung = rung.blended(train_trees(rung.encoder, train, train, LightGBMConfig(), 1), valid)
    honest = out_of_fold(rung, train, train, config, build_crm)
    assert roc_auc_score(train.label, Rung(rung.encoder, rung.neural).outputs(train)[0]) > 0.8
    assert roc_auc_score(train.label, honest) < 0.65


def test_folds_are_as_new_as_validation_rows(tiny_dataset: Dataset) -> None:
    """Where validation rows are of items, or of users, that training rows lack, no fold knows another's."""
    train, valid = tiny_dataset.samples("train"), tiny_dataset.samples("valid")
    for name in ("item", "user"):
        new = replace(valid, **{name: getattr(valid, name) + 10_000})
        fold, unit = _folds(train, new, 1), getattr(train, name)
        assert all(len(set(fold[unit == one].tolist())) == 1 for one in np.unique(unit))
        assert set(fold.tolist()) == set(range(FOLDS))
    rows = _folds(train, valid, 1)
    assert any(len(set(rows[train.item == one].tolist())) > 1 for one in np.unique(train.item))
    np.testing.assert_array_equal(rows, _folds(train, valid, 1))


def test_out_of_fold_logits_are_calibrated(tiny_dataset: Dataset, tiny_config: Config) -> None:
    """As those of validation rows are: a logit means the same in training and while serving."""
    train, valid = tiny_dataset.samples("train"), tiny_dataset.samples("valid")
    (rung,) = fresh_rungs(tiny_dataset, tiny_config.crm, build_crm, 1)
    train_crm(rung.neural, rung.encoder, train, valid, tiny_config.crm, 1)
    rung = rung.blended(train_trees(rung.encoder, train, valid, LightGBMConfig(), 1), valid)
    honest = fit_calibrator(out_of_fold(rung, train, valid, tiny_config, build_crm), train.label, "temperature")
    assert honest.scale == pytest.approx(1, abs=1e-2)
    assert honest.bias == pytest.approx(0, abs=1e-2)


def test_validation_is_read_on_the_final_blend(tiny_system_config: Configure, told: Dataset) -> None:
    """Stage 2 changes the neural model and with it the blend: corrections of validation rows and of new ones must stand
    on the same logit."""
    joint = {"target": "residual", "crm_learning_rate": 0.01, "keep_better_crm": False, "stage3_targets": 64}
    system = fit_ranking(tiny_system_config(joint=joint), told)
    assert system.ensemble is not None
    np.testing.assert_array_equal(system.llm_logits(told.samples(system.validation.rows)), system.validation.logits)


def test_folds_are_not_fitted_again_when_a_run_is_resumed(
    tiny_system_config: Configure, told: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joint = {"target": "residual", "draw": "unsure", "stages": [1, 3], "stage3_targets": 100}
    config = tiny_system_config(joint={**joint, "checkpoint_seconds": 1e-9})
    step = JointTrainer._train_step

    def stops(self: JointTrainer, one: object) -> dict[str, float]:
        if self.next_step == 2:
            raise KeyboardInterrupt
        return step(self, one)  # type: ignore[arg-type]

    monkeypatch.setattr(JointTrainer, "_train_step", stops)
    with pytest.raises(KeyboardInterrupt):
        fit_ranking(config, told, Checkpoints(tmp_path))
    monkeypatch.setattr(JointTrainer, "_train_step", step)
    whole = fit_ranking(config, told)
    monkeypatch.setattr("corella.ranking.jointly.out_of_fold", stops)  # would end the test
    resumed = fit_ranking(config, told, Checkpoints(tmp_path))
    assert resumed.llm.correction == whole.llm.correction
    np.testing.assert_array_equal(resumed.validation.logits, whole.validation.logits)


def test_published_recipes_learn_labels() -> None:
    for recipe in ("paper", "tallrec"):
        assert load_config(settings={"recipe": recipe}).joint.target == "label"


def test_served_as_trained(tiny_system_config: Configure, told: Dataset, tmp_path: Path) -> None:
    """What the system says of a sample is the conventional half's logit and a correction, from disk too."""
    config = tiny_system_config(joint={"target": "residual", "draw": "unsure", "stages": [1, 3], "stage3_targets": 100})
    system = fit_ranking(config, told)
    test = told.samples("test")
    assert system.llm.correction is not None
    said = system.llm_logits(test)
    raw = (said - system.conventional(test)[0]) / system.llm.correction.scale + system.llm.correction.centre
    np.testing.assert_allclose(system.corrected(test, raw.astype(np.float32)), said, atol=1e-4)
    nothing = np.full(len(test), np.nan, np.float32)
    assert np.isnan(system.corrected(test, nothing)).all()
    save_ranking(system, tmp_path / "model")
    again = load_ranking(tmp_path / "model")
    np.testing.assert_array_equal(again.llm_logits(test), said)


def test_all_weights_are_tuned(make_trainer: Make, tiny_dataset: Dataset) -> None:
    trainer = make_trainer(_base(tiny_dataset), joint={**RESIDUAL, "stage3_targets": 32}, llm={"tuned": "all"})
    assert set(trainer.masters) == {name for name, _ in trainer.backbone.model.named_parameters()}
    before = {name: p.clone() for name, p in trainer.lora.items()}
    trainer.run()
    moved = [name for name, p in trainer.lora.items() if not torch.equal(p, before[name])]
    assert len(moved) > len(before) / 2

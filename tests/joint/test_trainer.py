"""The three stages: who learns when, what is read, what is recorded, and that a kill leaves no trace."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from corella.checkpoint import Checkpoints, load_tensors
from corella.config import Config, JointConfig
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.joint.plan import plan_steps
from corella.joint.progress import JointProgress
from corella.joint.reading import Pass
from corella.joint.trainer import JointTrainer
from corella.llm.scoring import answer_logits
from corella.ranking.fit import fit_ranking
from corella.ranking.language import RequestLLM
from corella.ranking.model import FittedRanking

Make = Callable[..., JointTrainer]
Weights = dict[str, torch.Tensor]


def _weights(trainer: JointTrainer) -> dict[str, Weights]:
    parts = {"lora": trainer.masters, "crm": trainer.crm.state_dict(), "align": trainer.alignment.state_dict()}
    return {part: {n: p.detach().clone() for n, p in weights.items()} for part, weights in parts.items()}


def _moved(before: dict[str, Weights], after: dict[str, Weights]) -> set[str]:
    return {part for part in before if any(not torch.equal(before[part][n], after[part][n]) for n in before[part])}


@pytest.mark.parametrize(
    ("joint", "moved"),
    [
        ({"stages": [2]}, {"lora", "crm", "align"}),
        ({"stages": [3]}, {"lora"}),
        ({"stages": [2], "gamma": 0.0}, {"lora", "crm"}),
        ({"stages": [2], "beta": 0.0}, {"lora", "align"}),
        ({"stages": [2], "beta": 0.0, "gamma": 0.0}, {"lora"}),
        ({"stages": [2], "alpha": 0.0, "gamma": 0.0}, {"crm"}),
        ({"stages": [1]}, set()),
    ],
)
def test_who_learns(make_trainer: Make, joint: dict[str, object], moved: set[str]) -> None:
    trainer = make_trainer(joint=joint)
    before = _weights(trainer)
    trainer.run()
    assert _moved(before, _weights(trainer)) == moved


def test_stage_3_leaves_the_crm_of_stage_2(make_trainer: Make) -> None:
    trainer = make_trainer()
    stages: list[int] = []
    kept: list[dict[str, Weights]] = []
    trainer.run(on_stage_end=lambda stage: (stages.append(stage), kept.append(_weights(trainer)))[0])  # type: ignore[func-returns-value]
    assert stages == [2, 3]
    assert _moved(kept[0], kept[1]) == {"lora"}


def test_the_total_loss_is_the_papers(make_trainer: Make) -> None:
    """The gradient of a stage-2 step is that of alpha L_llm + beta L_crm + gamma L_align."""
    steady = {"crm": {"dropout": 0.0, "id_dropout": 0.0}}
    gradients: dict[str, torch.Tensor] = {}
    for name, (alpha, beta, gamma) in {
        "llm": (1.0, 0.0, 0.0), "crm": (0.0, 1.0, 0.0), "align": (0.0, 0.0, 1.0), "all": (1.0, 1.0, 0.1)
    }.items():  # fmt: skip
        trainer = make_trainer(joint={"stages": [2], "alpha": alpha, "beta": beta, "gamma": gamma}, **steady)
        step = trainer.steps[0]
        trainer.backbone.model.train()
        trainer.crm.train()
        with torch.no_grad():  # B starts at zero, so that only B would have a gradient
            for n, p in sorted(trainer.lora.items()):
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(n))) / 10)
        trainer._backward(step, trainer.make_inputs(Pass(step.prompts), trainer.train, True))
        parts = [*trainer.lora.values(), *trainer.crm.parameters()]
        gradients[name] = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parts])
    expected = gradients["llm"] + gradients["crm"] + 0.1 * gradients["align"]
    assert gradients["align"].abs().max() > 1e-4
    torch.testing.assert_close(gradients["all"], expected, atol=1e-6, rtol=1e-4)


def test_losses_are_means_over_the_targets(make_trainer: Make) -> None:
    """Whatever the size of a forward pass: a step read in one pass or in many learns the same."""
    results = []
    for tokens in (128, 100_000):
        trainer = make_trainer(llm={"batch_tokens": tokens}, joint={"stages": [3], "stage3_targets": 64})
        seen: list[JointProgress] = []
        trainer.run(on_step=seen.append)
        results.append((seen[0].losses["llm"], torch.cat([p.flatten() for p in trainer.masters.values()])))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-4, rtol=0)


def _read(trainer: JointTrainer, stage: int) -> list[int]:
    return [int(i) for step in trainer.steps if step.stage == stage for w in step.prompts for i in w.sample]


def test_plan_covers_distinct_targets_until_none_is_left(make_trainer: Make) -> None:
    trainer = make_trainer(joint={"stage2_targets": 300, "stage3_targets": 300})
    second, third = _read(trainer, 2), _read(trainer, 3)
    assert [step.stage for step in trainer.steps] == sorted(step.stage for step in trainer.steps)
    for targets in (second, third):
        assert 300 <= len(targets) < 330
    assert len(set(second + third)) == len(second + third)
    assert all(step.targets == sum(len(w.sample) for w in step.prompts) for step in trainer.steps)
    assert all(step.targets >= 32 for step in trainer.steps[:5])


def test_plan_begins_anew_when_all_was_read(make_trainer: Make, tiny_dataset: Dataset) -> None:
    n = len(tiny_dataset.rows("train"))
    trainer = make_trainer(joint={"stages": [2], "stage2_targets": 2 * n + 1})
    targets = _read(trainer, 2)
    assert sorted(targets[:n]) == list(range(n))
    assert sorted(targets[n : 2 * n]) == list(range(n))
    assert len(targets) > 2 * n


def test_plan_follows_the_seed(make_trainer: Make) -> None:
    trainer = make_trainer()
    config = JointConfig(stage2_targets=100, stage3_targets=1, targets_per_step=16)
    plans = [plan_steps(trainer.prompts, trainer.train, config, 0.25, seed) for seed in (1, 1, 2)]
    firsts = [[int(i) for step in plan for w in step.prompts for i in w.sample] for plan in plans]
    assert firsts[0] == firsts[1] != firsts[2]
    assert plan_steps(trainer.prompts, trainer.train, JointConfig(stages=[1]), 0.25, 1) == []


def test_first_logits_come_before_learning(make_trainer: Make) -> None:
    trainer = make_trainer(joint={"stages": [3], "stage3_targets": 1600})
    untouched = make_trainer()
    untouched.backbone.model.eval()
    first = trainer.steps[0]
    rendered = [untouched.prompts.render(w, untouched.train) for w in first.prompts]
    with torch.inference_mode():
        expected = answer_logits(untouched.backbone, rendered).logit.numpy()
    index = np.concatenate([p.sample for p in rendered])
    recorded: list[np.ndarray] = []
    result = trainer.run(on_step=lambda _: recorded.append(trainer.result.first_logits.copy()))
    np.testing.assert_allclose(recorded[0][index], expected, atol=1e-5)
    assert np.isnan(np.delete(recorded[0], index)).all()
    # Recorded once: more than two passes over the training rows later, the same.
    assert result.targets > 2 * len(trainer.train)
    np.testing.assert_array_equal(result.first_logits[index], recorded[0][index])
    assert (result.first_step[index] == 0).all()
    assert (result.first_step >= 0).all()
    for number, step in enumerate(trainer.steps[:6]):
        for window in step.prompts:
            assert (result.first_step[window.sample] == number).all()


def test_learning_lowers_the_loss(make_trainer: Make) -> None:
    """Films with a number of one digit are liked: after a few passes the language model has found out."""
    trainer = make_trainer(
        llm={"lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"], "lora_rank": 16},
        joint={"stages": [3], "stage3_targets": 720 * 6, "learning_rate": 0.01},
    )
    trainer.train = replace(trainer.train, label=(trainer.train.item < 10).astype(np.int64))
    losses: list[float] = []
    trainer.run(on_step=lambda p: losses.append(p.losses["llm"]))
    assert np.mean(losses[-20:]) < np.mean(losses[:5]) - 0.2


def test_the_rate_rises_and_falls(make_trainer: Make) -> None:
    trainer = make_trainer(joint={"learning_rate": 1.0, "warmup_share": 0.25})
    rates = []
    for number in range(len(trainer.steps)):
        trainer._set_rate(number)
        rates.append(trainer.llm_optimiser.param_groups[0]["lr"])
    top = round(len(rates) * 0.25)
    assert rates[top] == max(rates) == 1.0
    assert (np.diff(rates[:top]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert 0 < rates[-1] < 0.2


def test_a_loss_that_is_not_finite(make_trainer: Make) -> None:
    trainer = make_trainer()
    with torch.no_grad():
        next(iter(trainer.lora.values())).fill_(float("nan"))
    with pytest.raises(UserError, match=r"step 1: .* not finite; lower joint\.learning_rate"):
        trainer.run()


def test_bfloat16_weights_follow_float32_copies(make_trainer: Make) -> None:
    trainer = make_trainer(llm={"dtype": "bfloat16"}, joint={"stages": [3], "learning_rate": 1e-5})
    before = _weights(trainer)
    trainer.run()
    after = _weights(trainer)
    assert _moved(before, after) == {"lora"}
    for name, p in trainer.lora.items():
        assert p.dtype == torch.bfloat16
        assert after["lora"][name].dtype == torch.float32
        torch.testing.assert_close(p.detach(), after["lora"][name].bfloat16(), rtol=0, atol=0)


def test_stopped_and_resumed_in_one_process(make_trainer: Make, tmp_path: Path) -> None:
    joint = {"checkpoint_seconds": 1e-9}
    llm = {"lora_dropout": 0.2}
    whole = make_trainer(joint=joint, llm=llm)
    expected = whole.run()
    path = tmp_path / "joint.safetensors"
    for limit in (3, 7, 9):  # the ninth step lies in stage 3

        def stop(progress: JointProgress, limit: int = limit) -> None:
            if progress.step == limit:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_trainer(joint=joint, llm=llm).run(path, stop)
    resumed = make_trainer(joint=joint, llm=llm)
    result = resumed.run(path)
    assert _moved(_weights(whole), _weights(resumed)) == set()
    np.testing.assert_array_equal(result.first_logits, expected.first_logits)
    np.testing.assert_array_equal(result.first_step, expected.first_step)
    assert (result.targets, result.tokens) == (expected.targets, expected.tokens)
    again = make_trainer(joint=joint, llm=llm)
    steps: list[JointProgress] = []
    again.run(path, steps.append)
    assert steps == []
    assert _moved(_weights(whole), _weights(again)) == set()


def test_a_checkpoint_of_another_training(make_trainer: Make, tmp_path: Path) -> None:
    path = tmp_path / "joint.safetensors"
    make_trainer().run(path)
    with pytest.raises(UserError, match=r"belongs to a training of \d+ steps, this one has \d+"):
        make_trainer(joint={"stage2_targets": 20}).run(path)


def test_a_checkpoint_that_was_cut_off_is_set_aside(make_trainer: Make, tmp_path: Path) -> None:
    """Training goes on from the one before, or from the start; in the end the weights are the same."""
    path = tmp_path / "joint.safetensors"
    whole = make_trainer()
    whole.run(path)
    for lost in ([path], [path, tmp_path / "joint.before.safetensors"]):
        for file in lost:
            file.write_bytes(file.read_bytes()[:100])
        again, steps = make_trainer(), list[JointProgress]()
        again.run(path, steps.append)
        assert 0 < len(steps) < len(again.steps) if len(lost) == 1 else len(steps) == len(again.steps)
        assert _moved(_weights(whole), _weights(again)) == set()
        assert (tmp_path / "joint.safetensors.broken").is_file()


def test_killed_and_resumed(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, the same command again: in the end every weight is the same to the bit."""
    rng = np.random.default_rng()
    worker = [sys.executable, str(Path(__file__).with_name("joint_worker.py")), str(tiny_backbone_folder)]
    with subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def train(name: str, kill_after: float = math.inf) -> list[int]:
            """The steps that one process took, killed some time after `kill_after` of them."""
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{tmp_path / name}.checkpoint {tmp_path / name}.done\n")
            process.stdin.flush()
            pid, steps = 0, []
            for line in process.stdout:
                word, number = line.split()
                if word == "end":
                    assert int(number) == (0 if kill_after == math.inf else -signal.SIGKILL)
                    break
                if word == "pid":
                    pid = int(number)
                    continue
                steps.append(int(number))
                if len(steps) == kill_after:
                    time.sleep(rng.random() / 20)
                    os.kill(pid, signal.SIGKILL)
            return steps

        whole = train("whole")
        parts = [train("killed", int(rng.integers(1, 20))) for _ in range(3)]
        assert not (tmp_path / "killed.done").exists()
        parts.append(train("killed"))
    assert whole == list(range(1, len(whole) + 1))
    # Each goes on where the one before it was killed, somewhere inside; at most one step is done twice.
    assert parts[0][0] == 1
    assert parts[-1][-1] == len(whole)
    for one, other in pairwise(parts):
        assert one[-1] <= other[0] <= one[-1] + 1
    (one, facts), (other, other_facts) = (load_tensors(tmp_path / f"{n}.done") for n in ("whole", "killed"))
    assert facts == other_facts
    assert one.keys() == other.keys()
    assert [n for n in one if not torch.equal(one[n].nan_to_num(9e9), other[n].nan_to_num(9e9))] == []


def test_a_whole_fit_resumed_from_its_run_folder(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, tiny_system: FittedRanking, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Stopped in stage 2, stopped again before validation is read, then finished: equal to a fit in one go."""
    config = tiny_system_config(joint={"checkpoint_seconds": 1e-9})
    step, read = JointTrainer._train_step, RequestLLM.logits

    def stops(self: JointTrainer, one: object) -> dict[str, float]:
        if self.next_step == 4:
            raise KeyboardInterrupt
        return step(self, one)  # type: ignore[arg-type]

    def refuses(*_: object) -> None:
        raise KeyboardInterrupt

    for target, name, broken, whole in (
        (JointTrainer, "_train_step", stops, step), (RequestLLM, "logits", refuses, read)
    ):  # fmt: skip
        monkeypatch.setattr(target, name, broken)
        with pytest.raises(KeyboardInterrupt):
            fit_ranking(config, tiny_dataset, Checkpoints(tmp_path))
        monkeypatch.setattr(target, name, whole)
    # Kept, or they would be trained again: that ends the test.
    monkeypatch.setattr("corella.ranking.crm_stages.train_trees", refuses)
    assert {p.name for p in tmp_path.iterdir()} == {
        "fingerprint.json", "stage1.safetensors", "trees.json", "stage2.json", "joint.safetensors",
        "joint.before.safetensors",
    }  # fmt: skip
    fit_ranking(config, tiny_dataset, Checkpoints(tmp_path))
    for resumed in (fit_ranking(config, tiny_dataset, Checkpoints(tmp_path)),):  # all of it from checkpoints
        test = tiny_dataset.samples("test")
        one, other = resumed.predict(test, 0.5), tiny_system.predict(test, 0.5)
        np.testing.assert_array_equal(one.logit, other.logit)
        np.testing.assert_array_equal(one.routed, other.routed)
        assert resumed.router.state() == tiny_system.router.state()
        assert resumed.ensemble == tiny_system.ensemble

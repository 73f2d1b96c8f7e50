"""Two workers end with the losses and weights of one; sharded weights too."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from worker_cases import CASES, SHARDED, STOPPED, Outcome, stopped

from corella.checkpoint import Checkpoints, load_tensors
from corella.config import Config, JointConfig
from corella.data.dataset import Dataset
from corella.data.store import write_dataset
from corella.joint.plan import Step
from corella.joint.reading import passes, reading_of
from corella.llm.timeline import Window
from corella.workers import Workers, here

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Both:
    """Every case in this process alone, and in two that work together."""

    one: dict[str, Outcome]
    two: dict[str, Outcome]
    folder: Path


@pytest.fixture(scope="module")
def both(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Both:
    folder, config = tmp_path_factory.mktemp("workers"), tiny_system_config()
    write_dataset(tiny_dataset, folder / "dataset")
    (folder / "config.json").write_text(config.model_dump_json())
    (folder / "two").mkdir()
    (folder / "one").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    script = str(Path(__file__).with_name("worker_cases.py"))
    command = [sys.executable, script, *(str(folder / name) for name in ("dataset", "config.json", "two"))]
    with subprocess.Popen(command, env={**os.environ, **group}) as workers:
        torch.set_num_threads(1)
        one = {name: make(tiny_dataset, config) for name, make in CASES.items()}
        one[STOPPED] = stopped(tiny_dataset, config, folder / "one")
        assert workers.wait() == 0
    return Both(one, {path.name: load_tensors(path)[0] for path in (folder / "two").iterdir()}, folder)


def _check(found: Outcome, expected: Outcome) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=0, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("case", CASES)
def test_as_one_worker(case: str, both: Both) -> None:
    assert len(both.one[case]["losses"]) > 8
    _check(both.two[case], both.one[case])


@pytest.mark.parametrize("case", SHARDED)
def test_sharded_weights(case: str, both: Both) -> None:
    _check(both.two[f"sharded-{case}"], both.one[case])


def test_sharded_weights_resumed(both: Both) -> None:
    """From a checkpoint that is the one that a single worker writes."""
    _check(both.two[f"sharded-{STOPPED}"], both.one["all"])
    _check(both.one[STOPPED], both.one["all"])
    ours, theirs = (load_tensors(folder / "joint.safetensors") for folder in (both.folder, both.folder / "one"))
    assert {**ours[1], "seconds": 0} == {**theirs[1], "seconds": 0}
    known = {name: tensor for name, tensor in theirs[0].items() if name != "first_logits"}
    _check({name: ours[0][name] for name in known}, known)
    assert ours[0].keys() == theirs[0].keys()


def _window(sample: list[int], tokens: int) -> Window:
    return Window(0, 0, 1, np.array(sample), _NONE, tokens)


def test_the_passes_of_a_step_are_shared_out() -> None:
    """Every prompt is read once, on one worker; where all must make equally many passes, the rest teach nothing."""
    windows = [_window([n], 10 * (n + 1)) for n in (2, 0, 1, 4, 3)]
    step = Step(3, windows, 5)
    shared = [passes(step, Workers(rank, 2), batch_tokens=60) for rank in range(2)]
    tokens = [[[p.tokens for p in each.prompts] for each in mine] for mine in shared]
    assert tokens == [[[10, 30], [50]], [[20], [40]]]
    lone = Step(3, windows[:1], 1)
    assert passes(lone, Workers(1, 2), 60) == []
    assert [each.counts for each in passes(lone, Workers(1, 2), 60, level=True)] == [False]
    assert [each.counts for each in passes(lone, Workers(0, 2), 60, level=True)] == [True]


def test_numbers_of_workers_add_up() -> None:
    """Losses and tokens are sums; a logit is what the worker said that read the target."""
    step = Step(3, [_window([7, 3], 2), _window([5], 1)], 3)
    ours, theirs = (reading_of(step, JointConfig()) for _ in range(2))
    ours.record(np.array([7, 3]), np.array([0.5, -1], np.float32), [0.4], 9)
    theirs.record(np.array([5]), np.array([2.0], np.float32), [0.2], 4)
    ours.take(ours.numbers + theirs.numbers)
    assert ours.samples.tolist() == [3, 5, 7]
    assert ours.logits.tolist() == [-1.0, 2.0, 0.5]
    assert ours.losses.tolist() == pytest.approx([0.6])
    assert ours.tokens == 13


def test_alone_nothing_changes(tmp_path: Path) -> None:
    workers, numbers = here(), np.array([1.0, 2.0], np.float32)
    weight = torch.nn.Parameter(torch.ones(2))
    assert workers == Workers(0, 1)
    assert workers.add_gradients([weight], numbers) is numbers
    assert weight.grad is None
    assert workers.whole(numbers, 2) is numbers
    assert workers.in_turn(lambda: 3) == 3
    assert np.arange(3)[workers.share].tolist() == [0, 1, 2]
    made: list[int] = []
    for _ in range(2):
        Checkpoints(tmp_path).tensors("step", lambda: ({}, {"made": made.append(1)}), together=True)
    assert made == [1]

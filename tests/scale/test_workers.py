"""Two workers end with the losses and weights of one; sharded weights too."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from corella.checkpoint import load_tensors
from corella.config import Config
from corella.data.dataset import Dataset
from corella.data.store import load_prepared, write_dataset
from corella.workers import Workers, here
from worker_cases import CASES, SHARDED, Outcome

Outcomes = dict[str, Outcome]


@pytest.fixture(scope="module")
def prepared(tiny_system_config: object, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    write_dataset(tiny_dataset, folder / "dataset")
    (folder / "config.json").write_text(tiny_system_config().model_dump_json())  # type: ignore[operator]
    return folder


@pytest.fixture(scope="module")
def one(prepared: Path) -> Outcomes:
    """Every case in this process alone."""
    torch.set_num_threads(1)
    assert here() == Workers(0, 1)
    dataset, config = load_prepared(prepared / "dataset"), Config.model_validate_json(_settings(prepared))
    return {name: make(dataset, config) for name, make in CASES.items()}


def _settings(prepared: Path) -> str:
    return (prepared / "config.json").read_text()


def _started(prepared: Path, size: int) -> Outcomes:
    """Every case in `size` processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = prepared / str(size)
    found.mkdir()
    script = str(Path(__file__).with_name("worker_cases.py"))
    command = [sys.executable, script, str(prepared / "dataset"), str(prepared / "config.json"), str(found)]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    workers = [subprocess.Popen(command, env={**common, "RANK": str(rank)}) for rank in range(size)]
    assert [worker.wait() for worker in workers] == [0] * size
    return {path.name: load_tensors(path)[0] for path in found.iterdir()}


@pytest.fixture(scope="module")
def two(prepared: Path) -> Outcomes:
    return _started(prepared, 2)


def _check(found: Outcome, expected: Outcome) -> None:
    assert found.keys() == expected.keys()
    assert len(expected["losses"]) > 4
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=0, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("case", CASES)
def test_as_one_worker(case: str, one: Outcomes, two: Outcomes) -> None:
    _check(two[case], one[case])


@pytest.mark.parametrize("case", SHARDED)
def test_sharded_weights(case: str, one: Outcomes, two: Outcomes) -> None:
    _check(two[f"sharded-{case}"], one[case])

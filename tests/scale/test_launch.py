"""`corella train --workers`: a worker that is killed, and what a worker is refused."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from corella.checkpoint import load_tensors
from corella.config import Config
from corella.config.loading import to_yaml
from corella.data.prepare import load_dataset
from corella.errors import UserError
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking
from corella.scale.launch import launch

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a worker by its environment")


def _settings(configure: Callable[..., Config], folder: Path) -> Config:
    """900 rows in a file, and models without dropout; steps enough to be killed in their midst."""
    rng = np.random.default_rng(3)
    pairs = rng.choice(30 * 40, 900, replace=False)
    pl.DataFrame({
        "user_id": pl.Series([f"u{n:02}" for n in pairs // 40]), "item_id": pl.Series([f"i{n:02}" for n in pairs % 40]),
        "timestamp": np.arange(900), "label": ((pairs // 40 + pairs % 40) % 2) ^ (rng.random(900) < 0.3),
    }).write_csv(folder / "log.csv")  # fmt: skip
    config = configure(
        crm={"dropout": 0.0, "id_dropout": 0.0, "epochs": 1, "learning_rate": 1e-3},
        joint={
            "stage2_targets": 500,
            "stage3_targets": 300,
            "targets_per_step": 20,
            "checkpoint_seconds": 1e-9,
            "learning_rate": 3e-4,
        },
    )
    data = {
        "source": "tables", "interactions": {"path": str(folder / "log.csv")}, "label": "label",
        "counts": {"groups": [["user"], ["item"]]}, "text": {"encoder": "none"},
    }  # fmt: skip
    return Config.model_validate({**config.model_dump(mode="json"), "data": data})


def _steps(run: Path) -> list[int]:
    """The steps of stages 2 and 3 that the run's log tells of."""
    if not (run / "log.jsonl").is_file():
        return []
    lines = (run / "log.jsonl").read_text().splitlines()
    return [event["step"] for line in lines if (event := json.loads(line))["event"] == "step"]


def _workers_of(parent: int) -> Iterator[tuple[int, str]]:
    """Process and rank of the workers that a process started."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            rank = [text for text in (folder / "environ").read_text().split("\0") if text.startswith("RANK=")]
            if above == parent and rank:
                yield int(folder.name), rank[0].removeprefix("RANK=")


def _train(config: Path, run: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "corella", "train", "--workers", "2", "--run", str(run), "--config", str(config)]
    return subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True)


def test_a_killed_worker_leaves_no_trace(
    tiny_system_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in stage 2, weights sharded: the run ends as that of one worker whom nobody killed, to 1e-4."""
    monkeypatch.setenv("CORELLA_CACHE", str(tmp_path / "cache"))
    config, run = _settings(tiny_system_config, tmp_path), tmp_path / "run"
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    with _train(tmp_path / "config.yaml", run, "--set", "joint.shard=true") as training:
        while len(_steps(run)) < 5 and training.poll() is None:
            time.sleep(0.02)
        os.kill(next(pid for pid, rank in _workers_of(training.pid) if rank == "1"), signal.SIGKILL)
        said = training.communicate()[1]
    assert training.returncode == 0, said
    assert "all resume at the last checkpoint (restart 1)" in said
    steps = _steps(run)
    again = next(place for place, (one, other) in enumerate(pairwise(steps)) if other <= one) + 1
    assert 1 < steps[again] <= steps[again - 1]
    assert steps[again:] == list(range(steps[again], steps[-1] + 1))

    torch.set_num_threads(1)
    alone = fit_ranking(config, load_dataset(config))
    save_ranking(alone, tmp_path / "alone")
    for file, near in (("lora.safetensors", 1e-4), ("crm.safetensors", 1e-4), ("valid.safetensors", 1e-3)):
        ours, theirs = (load_tensors(folder / file)[0] for folder in (run / "model", tmp_path / "alone"))
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, atol=near, rtol=0)
    made = [sorted(p.relative_to(f) for p in f.rglob("*")) for f in (run / "model", tmp_path / "alone")]
    assert made[0] == made[1]
    test = alone.dataset.samples("test")
    np.testing.assert_allclose(load_ranking(run / "model").llm_logits(test), alone.llm_logits(test), atol=1e-3)


def test_what_a_worker_is_refused(tmp_path: Path) -> None:
    """It reaches whoever launched the workers, as their own mistake; and nobody starts again for it."""
    with pytest.raises(UserError, match=r"crm\.modle"):
        launch(["train", "--run", str(tmp_path / "run"), "--set", "data.source=ml-100k", "--set", "crm.modle=din"], 2)
    assert not (tmp_path / "run").exists()

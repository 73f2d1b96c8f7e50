"""Models that a ranking is held against: made once, with the run's settings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corella.checkpoint import Checkpoints
from corella.crm.training import crm_logits
from corella.evaluation import baselines
from corella.evaluation.baselines import train_baselines
from corella.ranking.model import FittedRanking


def test_baselines_are_trained_once_and_kept(
    tiny_system: FittedRanking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_baselines(tiny_system, Checkpoints(tmp_path))
    assert tiny_system.ensemble is not None and first.trees is tiny_system.ensemble.trees  # nothing trained twice

    def never(*given: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(baselines, "train_crm", never)
    again = train_baselines(tiny_system, Checkpoints(tmp_path))
    valid, encoder = tiny_system.dataset.samples("valid"), tiny_system.rungs[0].encoder
    assert first.plain is not None and again.plain is not None
    assert np.array_equal(crm_logits(first.plain, encoder, valid), crm_logits(again.plain, encoder, valid))


def test_the_plain_model_reads_no_count_features(tiny_system: FittedRanking) -> None:
    plain = train_baselines(tiny_system).plain
    valid, encoder = tiny_system.dataset.samples("valid"), tiny_system.rungs[0].encoder
    assert plain is not None
    known = crm_logits(plain, encoder, valid)
    other = replace(valid, counts=np.full_like(valid.counts, 7))
    assert np.array_equal(crm_logits(plain, encoder, other), known)

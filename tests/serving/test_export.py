"""Exported runs: the same answers, merged weights, hashes that hold."""

from pathlib import Path

import numpy as np
import pytest

from corella.collaboration.system import CoReLLa
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.serving.export import export
from corella.serving.serve import build_service
from corella.serving.settings import ServingSettings


def test_an_exported_run_answers_the_same(tiny_system: CoReLLa, tiny_dataset: Dataset, tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "exported"
    tiny_system.save(run / "model")
    (run / "checkpoints").mkdir()
    export(run, folder)
    assert not (folder / "checkpoints").exists() and not (folder / "model" / "lora.safetensors").exists()
    again = CoReLLa.load(folder / "model")
    assert not [name for name, _ in again.backbone.model.named_parameters() if "lora" in name]
    test = tiny_dataset.samples("test")
    wanted, found = tiny_system.predict(test, 1.0), again.predict(test, 1.0)
    np.testing.assert_allclose(found.llm, wanted.llm, atol=1e-4)
    np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-4)
    export(folder, tmp_path / "twice")  # an exported run can be exported
    service = build_service(tmp_path / "twice", ServingSettings(clock="log"))
    assert service.engine is not None
    service.store.close()


def test_what_cannot_be_exported(tiny_system: CoReLLa, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained ranking"):
        export(tmp_path / "nothing", tmp_path / "x")
    tiny_system.save(tmp_path / "run" / "model")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="no exported run"):
        export(tmp_path / "run", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    weights = tmp_path / "run" / "model" / "crm.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="differs from its SHA-256"):
        export(tmp_path / "run", tmp_path / "y")
    with pytest.raises(UserError, match="differs from its SHA-256"):
        build_service(tmp_path / "run", ServingSettings())

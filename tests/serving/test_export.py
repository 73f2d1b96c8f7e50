"""Exported runs: the same answers, merged weights, hashes that hold."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corella.config import Config
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking
from corella.ranking.model import FittedRanking
from corella.retrieval.cllm4rec.system import CLLM4Rec
from corella.retrieval.fit import fit_retrieval
from corella.retrieval.system import Retrieval
from corella.serving.export import export
from corella.serving.serve import build_service
from corella.serving.settings import ServingSettings
from small_fusion import by_language_model


def test_an_exported_run_answers_the_same(tiny_system: FittedRanking, tiny_dataset: Dataset, tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "exported"
    save_ranking(tiny_system, run / "model")
    (run / "checkpoints").mkdir()
    export(run, folder)
    assert not (folder / "checkpoints").exists() and not (folder / "model" / "lora.safetensors").exists()
    again = load_ranking(folder / "model")
    assert not [name for name, _ in again.llm.backbone.model.named_parameters() if "lora" in name]
    test = tiny_dataset.samples("test")
    wanted, found = tiny_system.predict(test, 1.0), again.predict(test, 1.0)
    np.testing.assert_allclose(found.llm, wanted.llm, atol=1e-4)
    np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-4)
    export(folder, tmp_path / "twice")  # an exported run can be exported
    service = build_service(tmp_path / "twice", ServingSettings(clock="log"))
    assert service.engine is not None
    service.feed.store.close()


def test_an_exported_retrieval_brings_its_language_model(
    tiny_system: FittedRanking, tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """It must load where the backbone that it was trained with is not."""
    run, backbone = tmp_path / "run", tmp_path / "backbone"
    save_ranking(tiny_system, run / "model")
    shutil.copytree(tiny_system.config.llm.backbone, backbone)
    quick = {"pretraining_epochs": 1, "fine_tuning_epochs": 1, "users_per_step": 8, "layers": 1, "llm_weight": 1.0}
    config = tiny_system_config(llm={"backbone": str(backbone)}, retrieval=quick)
    beside = CLLM4Rec(config).fit(tiny_dataset)
    plain = fit_retrieval(tiny_system_config(), tiny_dataset)
    model = replace(plain, language_model=beside, fusion=by_language_model())
    model.save(run / "retrieval")
    export(run, tmp_path / "exported")
    export(tmp_path / "exported", tmp_path / "twice")
    shutil.rmtree(backbone)
    with pytest.raises(UserError, match="backbone"):
        Retrieval.load(run / "retrieval")
    again = Retrieval.load(tmp_path / "twice" / "retrieval")
    assert again.recommend(["u05", "u06"], 10) == model.recommend(["u05", "u06"], 10)


def test_a_run_without_a_trained_conventional_model_is_not_served(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    config = tiny_system_config(crm={"trees": False}, joint={"stages": [3]})
    save_ranking(fit_ranking(config, tiny_dataset), tmp_path / "model")
    with pytest.raises(UserError, match=r"joint\.stages \[3\]"):
        build_service(tmp_path, ServingSettings())


def test_what_cannot_be_exported(tiny_system: FittedRanking, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained model"):
        export(tmp_path / "nothing", tmp_path / "x")
    save_ranking(tiny_system, tmp_path / "run" / "model")
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


def test_exporting_again_keeps_the_answers_and_never_touches_a_run(tiny_system: FittedRanking, tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "exported"
    save_ranking(tiny_system, run / "model")
    (run / "events.db").write_text("the run's")
    export(run, folder)
    (folder / "events.db").write_text("acknowledged")
    (folder / "retrieval").mkdir()  # of an export when the run still had one
    export(run, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["events.db", "model"]
    assert (folder / "events.db").read_text() == "acknowledged"
    (folder / "model").rename(folder / ".model.77.old")  # a kill between two renamings
    export(run, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["events.db", "model"]
    save_ranking(tiny_system, tmp_path / "other" / "model")
    (tmp_path / "other" / "checkpoints").mkdir()
    for target in (run, run / "inside", tmp_path, tmp_path / "other"):
        with pytest.raises(UserError, match=r"the run itself, or one holds the other|holds checkpoints"):
            export(run, target)
    assert sorted(p.name for p in run.iterdir()) == ["events.db", "model"]

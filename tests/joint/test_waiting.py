"""A step gives its device all of its work before it waits for it, once: on `meta`, a device that holds no values, every
other wait (a number read, a copy back, an index whose size depends on values) is an error."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from corella.config import Config
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.data.dataset import Dataset
from corella.joint import trainer as trainer_module
from corella.joint.soft_tokens import SoftTokens
from corella.joint.trainer import JointTrainer
from corella.llm.attention import choose_attention
from corella.llm.backbone import load_backbone, make_trainable
from corella.llm.batches import fetched
from corella.llm.pointwise import PointwisePrompts
from corella.llm.timeline import timeline_prompts


@pytest.mark.parametrize(
    ("prompt", "joint", "soft"),
    [
        ("timeline", {"stages": [2], "stage2_targets": 40}, False),
        ("pointwise", {"stages": [2], "stage2_targets": 40}, False),
        ("timeline", {"stages": [3], "stage3_targets": 40}, True),
        ("timeline", {"stages": [3], "stage3_targets": 40, "target": "residual"}, False),
    ],
)
def test_a_step_waits_once(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch,
    prompt: str, joint: dict[str, Any], soft: bool,
) -> None:  # fmt: skip
    config = tiny_system_config(
        llm={"prompt": prompt, "batch_tokens": 64, "lora_dropout": 0.1}, joint={**joint, "targets_per_step": 20}
    )
    spec = make_spec(tiny_dataset)
    encoder, crm = make_encoder(spec, tiny_dataset), build_crm(spec, config.crm)
    loaded = load_backbone(config.llm)
    choose_attention(loaded.model.to("meta"))
    backbone = make_trainable(loaded, config.llm, config.seed)
    make = timeline_prompts if prompt == "timeline" else PointwisePrompts
    prompts = make(tiny_dataset, backbone, config.llm)
    held_out = SoftTokens(build_crm(spec, config.crm), encoder, tiny_dataset, backbone.hidden_size) if soft else None
    train = tiny_dataset.samples("train")
    trainer = JointTrainer(
        backbone, prompts, crm.to("meta"), encoder, train, config, held_out, np.zeros(len(train), np.float32)
    )
    for group in trainer.crm_optimiser.param_groups:
        group["fused"] = False  # for which `meta` has no kernel
    waits = []

    def wait(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
        assert {t.device.type for t in tensors} == {"meta"}
        waits.append(len(tensors))
        return [np.zeros(t.numel(), np.float32) for t in tensors]

    monkeypatch.setattr(trainer_module, "fetched", wait)
    inputs = trainer.inputs(0)
    assert len(inputs) > 1  # several passes, one wait
    assert inputs[0].batch.ids.device.type == "cpu"
    if trainer.correction is not None:
        trainer.correction.begin(0.0)  # as the first step does, which has to ask
    trainer.made = iter([inputs])
    trainer._train_step(trainer.steps[0])
    assert len(waits) == 1


def test_one_copy_holds_all_values() -> None:
    tensors = [torch.tensor(1.5), torch.arange(3), torch.ones(2, 2, dtype=torch.bfloat16)]
    assert fetched([]) == []
    found = fetched(tensors)
    assert [part.tolist() for part in found] == [[1.5], [0, 1, 2], [1, 1, 1, 1]]

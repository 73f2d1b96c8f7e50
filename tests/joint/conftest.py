"""A trainer of stages 2 and 3 on the tiny dataset, made anew each time it is asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from corella.config import Config
from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.data.dataset import Dataset
from corella.joint.trainer import JointTrainer
from corella.llm.backbone import load_backbone, make_trainable
from corella.llm.timeline import timeline_prompts


@pytest.fixture(scope="session")
def make_trainer(tiny_system_config: Callable[..., Config], tiny_dataset: Dataset) -> Callable[..., JointTrainer]:
    """A function: a trainer on fresh models, with the given sections of the configuration."""

    def make(base: npt.NDArray[np.float32] | None = None, **sections: Any) -> JointTrainer:
        torch.set_num_threads(1)
        config = tiny_system_config(**sections)
        torch.manual_seed(7)
        spec = make_spec(tiny_dataset)
        crm = build_crm(spec, config.crm)
        backbone = make_trainable(load_backbone(config.llm), config.llm, config.seed)
        prompts = timeline_prompts(tiny_dataset, backbone, config.llm)
        encoder = make_encoder(spec, tiny_dataset)
        return JointTrainer(backbone, prompts, crm, encoder, tiny_dataset.samples("train"), config, base=base)

    return make

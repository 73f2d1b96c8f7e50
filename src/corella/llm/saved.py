"""The adapted language model in the folder of a trained system: adapters for a backbone, or, exported, a whole one."""

from pathlib import Path

from corella.config import Config
from corella.llm.backbone import Backbone, add_lora, load_backbone, read_lora
from corella.settings import load_config

LORA, MERGED = "lora.safetensors", "language-model"
"""In a saved model: the adapters; in an exported one instead: the folder of a language model with them merged."""


def load_language_model(folder: Path, config: Config | None = None) -> Backbone:
    """The language model of a saved system, without the rest. `config`: the system's, where it is read already. Verify
    the folder's hashes first."""
    config = config or load_config(folder / "config.yaml")
    if (folder / MERGED).is_dir():
        return load_backbone(config.llm.model_copy(update={"backbone": str(folder / MERGED), "layers": None}))
    backbone = add_lora(load_backbone(config.llm), config.llm, config.seed)
    read_lora(backbone, folder / LORA)
    return backbone

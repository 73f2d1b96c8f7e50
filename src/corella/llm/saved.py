"""The language model in the folder of a trained system: adapters for a backbone, or, exported, a whole one."""

from pathlib import Path

from corella.config import Config
from corella.config.loading import load_config
from corella.llm.backbone import Backbone, load_backbone, make_trainable, read_trained

LORA, WHOLE = "lora.safetensors", "language-model"
"""In a saved model: the adapters; in an exported one instead: the folder of a whole language model, with them merged
where there are any."""


def load_base(folder: Path, config: Config) -> Backbone:
    """The language model that a saved model starts from: the configured one, or the whole one in the folder."""
    if (folder / WHOLE).is_dir():
        return load_backbone(config.llm.model_copy(update={"backbone": str(folder / WHOLE), "layers": None}))
    return load_backbone(config.llm)


def load_language_model(folder: Path, config: Config | None = None) -> Backbone:
    """The language model of a saved system, without the rest. `config`: the system's, where it is read already. Verify
    the folder's hashes first."""
    config = config or load_config(folder / "config.yaml")
    backbone = load_base(folder, config)
    if (folder / WHOLE).is_dir():
        return backbone
    backbone = make_trainable(backbone, config.llm, config.seed)
    read_trained(backbone, folder / LORA)
    return backbone


def save_whole(backbone: Backbone, folder: Path) -> None:
    """Write an ordinary language model, which transformers and vLLM load too, into the folder of a saved model."""
    backbone.model.save_pretrained(folder / WHOLE)
    backbone.tokenizer.save_pretrained(folder / WHOLE)

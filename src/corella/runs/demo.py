"""The demo's settings."""

from collections.abc import Sequence

from corella.config import Config
from corella.config.loading import load_config


def demo_config(overrides: Sequence[str] = ()) -> Config:
    """MovieLens-100K and SmolLM2, sized for minutes on two cores."""
    settings = {
        "crm": {"id_dropout": 0.8},
        "llm": {"lora_first_layer": 20},
        "joint": {"stage2_targets": 1200, "stage3_targets": 1200},
        "evaluation": {"max_valid": 1500, "max_test": 2000, "slates": 0},
    }
    return load_config(overrides=overrides, settings=settings)

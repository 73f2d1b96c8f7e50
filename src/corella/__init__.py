"""Corella: a recommender that knows what a language model is worth.

from corella import CoReLLa, load_config, load_dataset

config = load_config(overrides=["joint.stage3_targets=10000"])
dataset = load_dataset(config)
model = CoReLLa(config).fit(dataset)
probability = model.predict_proba(dataset.samples("test"))
model.save("model")
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corella.config import Config
    from corella.config.loading import load_config
    from corella.data.dataset import Dataset
    from corella.data.prepare import load_dataset
    from corella.data.samples import Samples
    from corella.errors import UserError
    from corella.ranking.corella import CoReLLa
    from corella.ranking.results import Predictions
    from corella.recommender import Recommendation, Recommender
    from corella.retrieval.fit import fit_retrieval
    from corella.retrieval.system import Retrieval

__version__ = version("corella-rec")

_HOMES = {
    "CoReLLa": "ranking.corella", "Predictions": "ranking.results", "Config": "config",
    "Dataset": "data.dataset", "Samples": "data.dataset", "load_dataset": "data.prepare", "UserError": "errors",
    "Recommendation": "recommender", "Recommender": "recommender", "fit_retrieval": "retrieval.fit",
    "Retrieval": "retrieval.system", "load_config": "config.loading",
}  # fmt: skip

__all__ = [
    "CoReLLa", "Config", "Dataset", "Predictions", "Recommendation", "Recommender", "Retrieval", "Samples",
    "UserError", "fit_retrieval", "load_config", "load_dataset",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Public names are imported when they are first used: `corella --help` need not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'corella' has no attribute '{name}'")
    return getattr(import_module(f"corella.{_HOMES[name]}"), name)

"""Corella: a recommender that knows what a language model is worth.

from corella import CoReLLa, load_config, load_dataset

config = load_config(overrides=["joint.stage3_targets=10000"])
dataset = load_dataset(config)
model = CoReLLa(config).fit(dataset)
probability = model.predict_proba(dataset.samples("test"))
model.save("model")
"""

from corella.collaboration.system import CoReLLa, Predictions
from corella.config import Config
from corella.data.dataset import Dataset, Samples
from corella.data.prepare import load_dataset
from corella.errors import UserError
from corella.pipeline import Recommendation, Recommender
from corella.retrieval.fit import fit_retrieval
from corella.retrieval.system import Retrieval
from corella.settings import load_config

__all__ = [
    "CoReLLa", "Config", "Dataset", "Predictions", "Recommendation", "Recommender", "Retrieval", "Samples",
    "UserError", "fit_retrieval", "load_config", "load_dataset",
]  # fmt: skip

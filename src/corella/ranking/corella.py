"""The ranking as a class with `fit`, `predict`, `save` and `load`: the face of the Python API."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from corella.checkpoint import Checkpoints
from corella.config import Config
from corella.config.loading import load_config
from corella.crm.models import build_crm
from corella.crm.rungs import Build
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.errors import UserError
from corella.progress import Reporter
from corella.ranking.fit import fit_ranking
from corella.ranking.io import load_ranking, save_ranking
from corella.ranking.model import FittedRanking
from corella.ranking.results import Predictions


class CoReLLa:
    """A ranking (arXiv 2403.16378) that is fitted once.

    >>> CoReLLa().fitted
    Traceback (most recent call last):
        ...
    corella.errors.UserError: this CoReLLa is not fitted yet; call fit, or CoReLLa.load
    """

    def __init__(self, config: Config | None = None, build: Build = build_crm) -> None:
        """`build` makes the conventional model; any module that meets `corella.crm.models.CRM` will do."""
        self.config = config or load_config()
        self._build = build
        self._fitted: FittedRanking | None = None

    def fit(self, dataset: Dataset, run: Path | str | None = None, reporter: Reporter | None = None) -> "CoReLLa":
        """Train everything. With a folder, checkpoints are kept there and a killed training resumes. Raises `UserError`
        for what cannot be trained on."""
        checkpoints = Checkpoints(Path(run) / "checkpoints") if run is not None else None
        self._fitted = fit_ranking(self.config, dataset, checkpoints, reporter, self._build)
        return self

    @property
    def fitted(self) -> FittedRanking:
        """The ranking itself. Raises `UserError` before `fit`."""
        if self._fitted is None:
            raise UserError("this CoReLLa is not fitted yet; call fit, or CoReLLa.load")
        return self._fitted

    def predict(self, samples: Samples, share: float | None = None) -> Predictions:
        """Logits of n samples, and who was routed, see `FittedRanking.predict`. Raises `UserError` before `fit`."""
        return self.fitted.predict(samples, share)

    def predict_proba(self, samples: Samples) -> npt.NDArray[np.float64]:
        """Probability of a positive interaction, float64 [n]. Raises `UserError` before `fit`."""
        return self.fitted.predict_proba(samples)

    def save(self, folder: Path | str) -> None:
        """Write a folder of safetensors, JSON and YAML; see `save_ranking`. Raises `UserError` before `fit`."""
        save_ranking(self.fitted, folder)

    @classmethod
    def load(cls, folder: Path | str, dataset: Dataset | None = None, build: Build = build_crm) -> "CoReLLa":
        """Read a saved ranking, with the dataset that it was saved with or another one; see `load_ranking`."""
        ranking = load_ranking(folder, dataset, build)
        self = cls(ranking.config, build)
        self._fitted = ranking
        return self

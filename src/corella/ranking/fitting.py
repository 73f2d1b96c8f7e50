"""What all steps of one training share."""

from dataclasses import dataclass, field

from corella.checkpoint import Checkpoints
from corella.config import Config
from corella.crm.rungs import Build
from corella.data.dataset import Dataset
from corella.progress import Reporter
from corella.ranking.results import Facts


@dataclass(frozen=True)
class Fitting:
    """Settings, data, the maker of conventional models, where finished steps are kept, and what they cost so far."""

    config: Config
    dataset: Dataset
    build: Build
    checkpoints: Checkpoints
    reporter: Reporter
    facts: Facts = field(default_factory=Facts)
    """Filled as the steps go."""

"""The only map of a run's folder."""

from dataclasses import dataclass
from pathlib import Path

from corella.checkpoint import Checkpoints
from corella.errors import UserError


@dataclass(frozen=True)
class RunFolder:
    """A run is a folder.

    >>> RunFolder(Path("runs/demo")).report.as_posix()
    'runs/demo/report.html'
    """

    path: Path

    @property
    def config(self) -> Path:
        """What both halves were trained with."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """What happened, a line of JSON each."""
        return self.path / "log.jsonl"

    @property
    def model(self) -> Path:
        """The fitted ranking."""
        return self.path / "model"

    @property
    def retrieval(self) -> Path:
        """The fitted retrieval."""
        return self.path / "retrieval"

    @property
    def checkpoints(self) -> Checkpoints:
        """Finished steps of the ranking's training and evaluation."""
        return Checkpoints(self.path / "checkpoints")

    @property
    def retrieval_checkpoints(self) -> Checkpoints:
        """Finished steps of the retrieval's training."""
        return Checkpoints(self.path / "checkpoints" / "retrieval")

    @property
    def metrics(self) -> Path:
        """Every figure of the evaluation."""
        return self.path / "metrics.json"

    @property
    def predictions(self) -> Path:
        """Test rows with every system's probability."""
        return self.path / "predictions.parquet"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def events(self) -> Path:
        """What the service was told since."""
        return self.path / "events.db"

    @property
    def has_ranking(self) -> bool:
        """Whether a ranking is trained."""
        return (self.model / "manifest.json").is_file()

    @property
    def has_retrieval(self) -> bool:
        """Whether a retrieval is trained."""
        return (self.retrieval / "manifest.json").is_file()

    @property
    def ranking_begun(self) -> bool:
        """Whether the training of a ranking has begun here."""
        return self.has_ranking or self.checkpoints.claimed

    @property
    def retrieval_begun(self) -> bool:
        """Whether the training of a retrieval has begun here."""
        return self.has_retrieval or self.retrieval_checkpoints.claimed

    def check_ranking(self) -> None:
        """Raise `UserError` where no ranking is trained."""
        if not self.has_ranking:
            what = "a retrieval but no ranking" if self.has_retrieval else "no trained model"
            raise UserError(f"{self.path} holds {what}; run `corella train --run {self.path}` first")

"""Where the versions of a run's models lie, and which one serves."""

from dataclasses import dataclass
from pathlib import Path

from corella.errors import UserError
from corella.files import read_value, write_value
from corella.runs.folder import RunFolder

FIRST = "1"
"""The run itself."""


@dataclass(frozen=True)
class Compared:
    """A version beside the one that served, on events that neither had learned from."""

    rows: int
    users: int
    before: float
    """AUC of the one that served."""
    after: float
    mean: float
    """The difference, and its 95 % interval by users."""
    low: float
    high: float


@dataclass(frozen=True)
class Version:
    """A model of a run."""

    name: str
    cursor: str
    """Of the store: the model's data hold what was told up to here."""
    made: str
    """When, as a date and time (UTC)."""
    compared: Compared | None
    """None where there was nothing to compare on."""


@dataclass(frozen=True)
class _Serving:
    name: str


@dataclass(frozen=True)
class Versions:
    """The versions of a run. The first is the run itself."""

    run: Path

    def folder(self, name: str) -> Path:
        """Where a version lies: a run's folder."""
        return self.run if name == FIRST else self.run / "versions" / name

    def names(self) -> list[str]:
        """All that are finished, the oldest first."""
        found = [path.parent.name for path in (self.run / "versions").glob("*/version.json")]
        return [FIRST, *sorted(found, key=int)]

    def next_name(self) -> str:
        """For one that is to be made."""
        return str(int(self.names()[-1]) + 1)

    def version(self, name: str) -> Version:
        """What is known of a version. Raises `UserError` where there is none."""
        if name not in self.names():
            raise UserError(f"{self.run} has no version {name}; there are {', '.join(self.names())}")
        return Version(FIRST, "", "", None) if name == FIRST else read_value(self._facts(name), Version)

    def write(self, version: Version) -> None:
        """Keep what is known of a version: from now on it is one."""
        write_value(self._facts(version.name), version)

    @property
    def serving(self) -> str:
        """The name of the one that serves."""
        return read_value(self.pointer, _Serving).name if self.pointer.is_file() else FIRST

    def serve(self, name: str) -> None:
        """Choose the one that serves; services that run take it soon. Raises `UserError` where there is none."""
        self.version(name)
        RunFolder(self.folder(name)).check_ranking()
        write_value(self.pointer, _Serving(name))

    @property
    def pointer(self) -> Path:
        """The file that says which one serves."""
        return self.run / "versions" / "serving.json"

    def _facts(self, name: str) -> Path:
        return self.folder(name) / "version.json"

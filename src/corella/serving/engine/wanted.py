"""Which files a process is to load: those that the service has loaded, and no others that lie there since."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from corella.runs.folder import RunFolder


@dataclass(frozen=True)
class Wanted:
    """A run, and what its manifests were when the service read it."""

    run: Path
    ranking: str
    """SHA-256 of the ranking's manifest, which holds the hashes of all of its files."""
    retrieval: str
    """The same of the retrieval; empty where there is none to load."""

    def differs(self) -> str:
        """What lies there in place of what is wanted; empty where it is that."""
        folder = RunFolder(self.run)
        if manifest_hash(folder.model) != self.ranking:
            return f"{folder.model} is not what the service has loaded any more; start the service again"
        if self.retrieval and manifest_hash(folder.retrieval) != self.retrieval:
            return f"{folder.retrieval} is not what the service has loaded any more; start the service again"
        return ""


def manifest_hash(folder: Path) -> str:
    """SHA-256 of a folder's manifest; empty where there is none."""
    path = folder / "manifest.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

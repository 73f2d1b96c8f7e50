"""Versions in words."""

from corella.serving.versions.folder import FIRST, Compared, Version
from corella.serving.versions.retrain import Retrained


def described(version: Version) -> str:
    """One line.

    >>> described(Version("1", "", "", None))
    'version 1: the run itself'
    """
    if version.name == FIRST:
        return f"version {FIRST}: the run itself"
    return f"version {version.name}, {version.made}: {_compared(version.compared)}"


def verdict(made: Retrained) -> str:
    """What came of a retraining."""
    said = described(made.version)
    if made.serves:
        return f"{said}; it serves now"
    return f"{said}; that is worse, so the one before goes on (corella rollback --to {made.version.name} lets it serve)"


def _compared(found: Compared | None) -> str:
    if found is None:
        return "nothing new to compare it on"
    return (
        f"AUC {found.after:.4f} after {found.before:.4f}, {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}] on "
        f"{found.rows:,} new answers of {found.users:,} users"
    )

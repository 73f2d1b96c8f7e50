"""The settings that a command means: a file's, a run's, or those that `corella init` wrote here."""

from pathlib import Path

from corella.config import Config
from corella.config.loading import build_config, given_settings, load_config
from corella.errors import UserError

OURS = Path("corella.yaml")
"""What `corella init` writes, and what commands without --config read."""


def run_config(run: Path, config: Path | None, overrides: list[str] | None) -> Config:
    """The given configuration, or without one that of the run folder that is being resumed."""
    kept = run / "config.yaml"
    return load_config(kept, overrides or ()) if config is None and kept.is_file() else named_config(config, overrides)


def named_config(config: Path | None, overrides: list[str] | None) -> Config:
    """The given configuration. Raises `UserError` where nothing says which data are meant: nobody's own data are to be
    taken for the built-in ones."""
    elsewhere = any(text.startswith("data.source=") for text in overrides or ())
    config = OURS if config is None and not elsewhere and OURS.is_file() else config
    given = given_settings(config, overrides or ())
    data = given.get("data")
    if isinstance(data, dict | None) and "source" not in (data or {}) and "interactions" not in (data or {}):
        raise UserError(
            f"{config or 'no --config'}: say which data; `corella init FILES` writes the settings for your own, "
            "--set data.source=ml-100k takes the built-in MovieLens-100K"
        )
    return build_config(given)

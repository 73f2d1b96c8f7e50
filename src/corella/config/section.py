"""The base of every section of the configuration."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, field docstrings become descriptions."""

    advanced: ClassVar[frozenset[str]] = frozenset()
    """Names of the settings that hardly anybody needs: `explain-config` shows them with `--all`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

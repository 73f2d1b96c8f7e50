"""Typed configuration: one pydantic model a section, a docstring under every field.

Knows the names, types, defaults and limits of every setting; nothing of what they do, or where they are read from.
Values marked [paper] come from arXiv 2403.16378, [code] from code that the paper's lab published, [ours] are
choices of this project.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from corella.config.data import CountsConfig, DataConfig, SplitConfig
from corella.config.ranking import CRMConfig, JointConfig, LightGBMConfig, LLMConfig, RoutingConfig
from corella.config.retrieval import RetrievalConfig
from corella.config.section import Section
from corella.config.tables import TableConfig
from corella.config.text import TextConfig

__all__ = [
    "RANKING_ONLY",
    "RETRIEVAL_ONLY",
    "CRMConfig",
    "Config",
    "CountsConfig",
    "DataConfig",
    "EvaluationConfig",
    "JointConfig",
    "LLMConfig",
    "LightGBMConfig",
    "RetrievalConfig",
    "RoutingConfig",
    "Section",
    "SplitConfig",
    "TableConfig",
    "TextConfig",
]


RANKING_ONLY, RETRIEVAL_ONLY = ("crm", "lightgbm", "joint", "routing", "evaluation"), ("retrieval",)
"""Sections that only one half of a run reads."""


class EvaluationConfig(Section):
    """What is measured, and on how many rows. All but `max_valid` may change after the training."""

    advanced: ClassVar = frozenset({
        "bootstrap",
    })  # fmt: skip

    max_valid: int | None = Field(default=None, ge=100)
    """Validation rows that the language model reads (whole users, at random): the router is fitted on them. Unset:
    all."""
    max_test: int | None = Field(default=None, ge=100)
    """Test rows that it reads (whole users, at random). Unset: all."""
    slates: int = Field(default=100, ge=0)
    """Users whose test items are also scored as one slate, at one moment (at most 20 items each); 0: none. Fewer than
    five users give none either: too few for an interval."""
    bootstrap: int = Field(default=1000, ge=10)
    """Resamples of the paired bootstrap."""


class Config(Section):
    """The whole configuration of a run."""

    recipe: Literal["corella", "paper", "tallrec"] = "corella"
    """Named settings under your own: `corella` is the defaults (timeline, count features, learned router, blend);
    `paper` is arXiv 2403.16378 (pointwise prompt, DCNv2 without count features, entropy routing that replaces);
    `tallrec` is the language model alone, tuned on the pointwise prompt (stage 3 without stages 1 and 2)."""
    seed: int = 1
    """All randomness comes from it, but for the draw of slates: runs of different seeds score the same."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads. Unset: all that the process may use."""
    data: DataConfig = DataConfig()
    crm: CRMConfig = CRMConfig()
    lightgbm: LightGBMConfig = LightGBMConfig()
    llm: LLMConfig = LLMConfig()
    joint: JointConfig = JointConfig()
    routing: RoutingConfig = RoutingConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def without(self, sections: Sequence[str]) -> "Config":
        """The same with these sections at their defaults."""
        return self.with_sections(sections, Config())

    def as_trained(self) -> "Config":
        """The same with what changes no trained weight at its default: the evaluation's settings but `max_valid`, and
        how weights are held."""
        evaluation = EvaluationConfig(max_valid=self.evaluation.max_valid)
        return self.model_copy(
            update={"evaluation": evaluation, "joint": self.joint.model_copy(update={"shard": False})}
        )

    def with_sections(self, sections: Sequence[str], other: "Config") -> "Config":
        """The same with these sections of another one."""
        return self.model_copy(update={name: getattr(other, name) for name in sections})

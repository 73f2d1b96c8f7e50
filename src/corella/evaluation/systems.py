"""A system's identity is a value; its name is made here and nowhere parsed."""

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["conventional", "language model", "combined"]


@dataclass(frozen=True)
class System:
    """What gives a sample its score.

    >>> System(("lightgbm", "dcnv2")).asked.name, LLM.name, System(("din",), llm=True, how="mean").name
    ('lightgbm & dcnv2 & llm', 'llm', 'mean of din and llm')
    """

    models: tuple[str, ...] = ()
    """The conventional models that are blended; none for the language model alone."""
    llm: bool = False
    """Whether a language model takes part."""
    how: Literal["blend", "mean", "routed"] = "blend"
    """How both are combined: weights fitted on validation rows, half and half, or only where the router asks."""
    policy: str | None = None
    """Of a routed system: who is asked first. None: the run's own router at its budget."""
    share: float | None = None
    """Of a routed system with a policy: the share of samples that are asked about."""

    @property
    def asked(self) -> "System":
        """The same models with the language model blended into every sample."""
        return replace(self, llm=True)

    @property
    def name(self) -> str:
        """How it is called in tables, charts and columns."""
        models = " & ".join(self.models)
        if self.how == "routed":
            return (
                "final" if self.policy is None else f"{models}, {self.policy} {self.share or 0:.0%}".replace("%", " %")
            )
        if self.how == "mean":
            return f"mean of {f'({models})' if len(self.models) > 1 else models} and llm"
        return " & ".join([*self.models, *(["llm"] if self.llm else [])])

    @property
    def kind(self) -> Kind:
        """What it is made of."""
        if not self.llm:
            return "conventional"
        return "combined" if self.models or self.how == "routed" else "language model"


LLM, LIGHTGBM = System(llm=True), System(("lightgbm",))


FINAL = System(llm=True, how="routed")
"""The run's router at its budget, whatever it routes from."""

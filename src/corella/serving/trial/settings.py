"""Settings of an experiment."""

from pydantic import Field, model_validator

from corella.config import Section


class Arm(Section):
    """What users of an arm get; what is unset is as for everybody."""

    weight: float = Field(default=1.0, gt=0)
    """How many users get it, beside the other arms' weights."""
    share: float | None = Field(default=None, ge=0, le=1)
    """Share of items that the router may send to the language model."""
    deadline_ms: float | None = Field(default=None, gt=0)
    """How long a request waits for it."""
    version: str | None = Field(default=None, pattern=r"^[1-9][0-9]{0,8}$")
    """Version of the model, see `corella versions`."""


class Experiment(Section):
    """Two or more arms side by side. The first is the control."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")
    """Another name deals the users anew."""
    arms: dict[str, Arm]
    """For example `{control: {}, more: {share: 0.2}}`."""
    outcomes: tuple[str, ...] = ("click", "buy", "like")
    """Kinds of events that count as a success, where they are about an item that was shown before."""
    hours: float = Field(default=24.0, gt=0)
    """How long after the first page a success counts. A user counts once, when that time is over."""
    rate: float = Field(default=0.1, gt=0, lt=1)
    """The share of users with a success that is expected, for the number of users that the page promises."""
    lift: float = 0.05
    """The relative difference that is to be found: .05 is from .1 to .105."""

    @model_validator(mode="after")
    def _two(self) -> "Experiment":
        if len(self.arms) < 2:
            raise ValueError("an experiment has two arms at least; the first is the control")
        return self

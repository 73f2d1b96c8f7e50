"""Answers for operators and for machines that watch."""

from typing import Literal

from pydantic import BaseModel, Field

from corella.serving.http.traffic import Summary
from corella.serving.trial.tracker import Standing
from corella.serving.versions.folder import Version


class CurvePoint(BaseModel):
    """What a share of language model is worth."""

    share: float = Field(description="Of the items that are sent to it, 0 to 1.")
    auc: float = Field(description="On test rows.")
    low: float = Field(description="Of its 95 % interval.")
    high: float


class Curve(BaseModel):
    """What the language model's budget buys, as the run's evaluation measured it."""

    share: float = Field(description="In force now, 0 to 1.")
    deadline_ms: float
    max_deadline_ms: float = Field(description="The longest that a request may choose.")
    milliseconds_per_item: float = Field(description="Of the language model, for a new item, where training ran.")
    curve: list[CurvePoint] = Field(description="Empty where the run was not evaluated.")


class Problem(BaseModel):
    """A part of the service that does not work."""

    part: str
    cause: str


class TrafficNow(BaseModel):
    """The last ten minutes, and the state of the service's parts."""

    window: Summary
    engine: Literal["off", "ready", "not ready"] = Field(description="The language model's.")
    trust: float | None = Field(description="Share of the promised speed that the engine is trusted with, 0 to 1.")
    store: bool = Field(description="Whether it keeps events.")
    lag: float = Field(description="Of the event loop, in seconds.")
    version: str = Field(description="Of the model in service.")
    problems: list[Problem]


class ExperimentNow(BaseModel):
    """The experiment that runs."""

    standing: Standing | None = Field(description="Empty where none runs.")
    said: str = Field(description="In words.")
    lost: int = Field(description="Pages that the store did not take.")


class VersionList(BaseModel):
    """Versions of a run's model, the oldest first."""

    serving: str
    versions: list[Version]


class Readiness(BaseModel):
    """Whether requests can be answered."""

    store: bool
    language_model: bool = Field(description="Without it the conventional model answers.")
    version: str = Field(description="Of the model in service.")
    problems: list[Problem] = Field(description="What does not work, and why; the rest does.")

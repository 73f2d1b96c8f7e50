"""What an evaluation found, typed: metrics.json is written and read through `Metrics`.

A system's identity is a value, `System`; its name is made here and nowhere parsed.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corella.data.preparation import Preparation
from corella.errors import UserError
from corella.evaluation.rungs import Prices
from corella.evaluation.systems import Kind, System
from corella.files import read_json, write_json
from corella.recommender import Recommendation


class Result(BaseModel):
    """Base of all results: nothing unknown, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Quality(Result):
    """What one system reaches on one set of samples."""

    auc: float
    auc_low: float
    """Lower end of the 95 % interval (DeLong)."""
    auc_high: float
    user_auc: float | None
    """Mean over the users who have both labels of the AUC within the user; None where no user has."""
    logloss: float
    accuracy: float
    """At probability 0.5."""
    ece: float
    """Calibration error: mean distance between predicted and observed share of positives."""
    ndcg10: float | None
    """NDCG@10 of each user's samples; None where no user has a positive."""


class SystemResult(Quality):
    """A system on all test samples."""

    system: str
    """Its name."""
    made_of: System

    @property
    def kind(self) -> Kind:
        """What it is made of."""
        return self.made_of.kind


class FinalResult(Quality):
    """The run's router at its budget, whether or not that is what is served."""

    policy: str
    combine: str
    share_wanted: float
    share_routed: float


class CurvePoint(Result):
    """A policy at a share: quality of the scores, and the captured share of what blending every sample gains."""

    policy: str
    combine: Literal["blend", "replace"]
    share: float
    captured: float
    auc: float
    auc_low: float
    auc_high: float
    user_auc: float | None = None
    logloss: float
    accuracy: float


class GroupResult(Result):
    """A system on a group of samples."""

    group: str
    samples: int
    system: str
    auc: float
    auc_low: float
    auc_high: float


class Interval(Result):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves zero out, else 0."""
        return int(self.low > 0) - int(self.high < 0)


class Paired(Interval):
    """System b minus system a on the same samples."""

    a: str
    b: str
    p_value: float


class AucDifference(Paired):
    """Of the AUC over all samples."""

    resampled: Literal["rows", "users"]


class UserAucDifference(Paired):
    """Of the mean AUC within users."""

    users: int


class SlateSystem(Result):
    """A system within slates."""

    system: str
    user_auc: float
    ndcg10: float


class Slates(Result):
    """Up to `longest` test items of a user, all scored at one moment."""

    users: int
    samples: int
    longest: int
    share_routed: float
    systems: list[SlateSystem]
    differences: list[Paired]


class Counted(Result):
    """Samples that were read."""

    valid: int
    test: int
    test_users: int


class Cost(Result):
    """What training and scoring took."""

    test_seconds: float
    test_samples: float
    crm_valid_auc: dict[str, float] = Field(default_factory=dict)
    crm_rows_per_second: float
    llm_targets: int
    llm_tokens: int
    llm_seconds: float
    milliseconds_per_sample: float
    samples_per_request: float
    seconds: dict[str, float]
    crm_milliseconds_per_sample: float


class Machine(Result):
    """Where they were measured."""

    processor: str
    threads: int
    gpu: bool
    python: str
    torch: str


class RetrievalMeasures(Result):
    """A list of items for each user, means over users."""

    recall20: Interval
    recall40: Interval
    ndcg100: Interval


class RetrievalResult(Result):
    """How well what users like is found."""

    users: int
    systems: dict[str, RetrievalMeasures]


class Example(Result):
    """What one user would get."""

    user_id: str
    user: str
    trained: bool
    liked: list[str]
    disliked: list[str]
    items: list[Recommendation]


class RankingMetrics(Result):
    """Everything that an evaluation of a ranking found."""

    version: str
    date: str
    main_crm: str
    """The served rung's name: the base ranker that routing starts from."""
    neural_crm: str
    conventional: list[str]
    samples: Counted
    systems: list[SystemResult]
    best_conventional: str
    curves: dict[str, list[CurvePoint]]
    groups: dict[str, list[GroupResult]]
    cost: Cost
    rungs: Prices
    final: FinalResult
    differences: list[AucDifference]
    user_auc_differences: list[UserAucDifference]
    slates: Slates | None

    def system(self, name: str) -> Quality:
        """The figures of a system, `final` included."""
        return self.final if name == "final" else next(row for row in self.systems if row.system == name)

    def difference(self, a: str, b: str) -> AucDifference | None:
        """AUC of b minus AUC of a, users resampled; None where it was not measured."""
        return next((d for d in self.differences if (d.a, d.b, d.resampled) == (a, b, "users")), None)

    def user_auc_difference(self, a: str, b: str) -> UserAucDifference | None:
        """The same of the mean AUC within users."""
        return next((d for d in self.user_auc_differences if (d.a, d.b) == (a, b)), None)


class Metrics(Result):
    """metrics.json: of a ranking, of a retrieval, or of both."""

    seed: int
    machine: Machine
    dataset: Preparation
    ranking: RankingMetrics | None = None
    retrieval: RetrievalResult | None = None
    recommendations: list[Example] = Field(default_factory=list)


def confidence_of(crm: str) -> str:
    """What the groups by a conventional model's confidence are called among `RankingMetrics.groups`."""
    return f"confidence of {crm}"


def write_metrics(metrics: Metrics, path: Path) -> None:
    """Write metrics.json."""
    write_json(path, metrics.model_dump(mode="json"))


def read_metrics(path: Path) -> Metrics:
    """Read metrics.json. Raises `UserError` where it is missing, or of another version."""
    found: Any = read_json(path)
    try:
        return Metrics.model_validate(found)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{path} is of another version (at {where}); evaluate the run again") from None

"""What every request of a running service shares."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from corella.serving.http.keys import KeyRing
from corella.serving.http.limits import Lag, RateLimit
from corella.serving.http.metrics import Metrics
from corella.serving.http.schema_operators import CurvePoint
from corella.serving.http.traffic import Traffic
from corella.serving.service import Service
from corella.serving.trial.impressions import Impressions
from corella.serving.versions.folder import Versions


@dataclass(eq=False)
class Context:
    """What the routes share; `app.state.context`. Another model in service is another context, with the same keys,
    limits and counters: a request goes on with the one that it began with."""

    service: Service
    keys: KeyRing
    curve: list[CurvePoint]
    """AUC by share routed, as evaluation found it."""
    version: str
    """Of the model."""
    metrics: Metrics
    traffic: Traffic
    lag: Lag
    limit: RateLimit
    problems: dict[str, str] = field(default_factory=dict)
    """What is wrong now, by part: `store`, `keys`, `retrieval`, `language model`, `curve`, `versions`."""
    versions: Versions | None = None
    """Of the run; None where there is no run to take another model from."""
    swap: Callable[[str], Awaitable[None]] | None = None
    """Puts another version in service."""
    beside: dict[str, "Context"] = field(default_factory=dict)
    """Versions that arms of an experiment get, by their name."""
    impressions: Impressions | None = None
    """Where pages that are shown are kept; None where they are not."""
    at_work: int = 0
    """Requests that have begun and not ended."""

    def note(self, part: str, cause: str) -> bool:
        """Remember what is wrong with a part, or, with an empty cause, that nothing is; whether that is news."""
        news = self.problems.get(part, "") != cause
        if cause:
            self.problems[part] = cause
        else:
            self.problems.pop(part, None)
        self.metrics.problem.labels(part).set(1 if cause else 0)
        return news

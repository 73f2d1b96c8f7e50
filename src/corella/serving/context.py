"""What every request of a running service shares."""

from dataclasses import dataclass

from corella.serving.catalogue import Catalogue
from corella.serving.keys import Key
from corella.serving.limits import Lag, RateLimit
from corella.serving.metrics import Metrics
from corella.serving.schema import CurvePoint
from corella.serving.service import Service
from corella.serving.traffic import Traffic


@dataclass(frozen=True)
class Context:
    """What the routes share; `app.state.context`."""

    service: Service
    keys: list[Key]
    """Empty where none are asked for."""
    curve: list[CurvePoint]
    """AUC by share routed, as evaluation found it."""
    catalogue: Catalogue
    metrics: Metrics
    traffic: Traffic
    lag: Lag
    limit: RateLimit

"""What Prometheus reads, and the same for the operators' page."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("corella_requests", "Requests", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "corella_score_seconds", "Seconds to score, by path", ["by"], registry=registry, buckets=_SECONDS
        )
        self.items = Counter("corella_items", "Items scored, by who decided", ["by"], registry=registry)
        self.fallbacks = Counter("corella_fallbacks", "Routed items without answer", ["reason"], registry=registry)
        self.events = Counter("corella_events", "Events kept", ["kind"], registry=registry)
        self.faults = Counter("corella_engine_faults", "Faults of the language model", registry=registry)
        self.problem = Gauge("corella_problem", "1 where a part does not work", ["part"], registry=registry)
        self.trust = Gauge("corella_engine_trust", "Share of the model's speed counted on", registry=registry)
        self.lag = Gauge("corella_loop_lag_seconds", "How late the event loop runs", registry=registry)

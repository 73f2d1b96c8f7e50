"""How a service runs: its promise, its limits, where it keeps answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from corella.config import Section
from corella.config.loading import given_settings, validated
from corella.serving.kinds import EventKind
from corella.serving.trial.settings import Experiment

MOST = 10_000
"""Longest list of a request: what is behind a wrong entry, or this, is not looked at."""


class ServerSettings(Section):
    """What a server has that holds a language model: where it listens, who may ask, how the model reads."""

    host: str = "127.0.0.1"
    """Address to listen on. Without API keys only a loopback address is allowed."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port; 0: any free one."""
    keys: Path | None = None
    """File of API keys, see `corella make-key`."""
    prefix_cache_mib: int = Field(default=512, ge=0)
    """Memory for the histories that the language model has read."""
    batch_tokens: int = Field(default=2048, ge=32)
    """Tokens from which on a pass of the language model waits for no more requests."""
    batch_wait_ms: float = Field(default=3.0, ge=0)
    """How long a pass waits for more requests to share it."""
    llm_threads: int | None = Field(default=None, ge=1)
    """Threads of the language model's process. Unset: all processors."""
    load_seconds: float = Field(default=600.0, gt=0)
    """How long the language model's process may load before it is taken for hung, and replaced."""
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    """Largest body of a request."""
    body_seconds: float = Field(default=10.0, gt=0)
    """How long a caller may take to send a request, and between two parts of a stream."""


class ServingSettings(ServerSettings):
    """Settings of `corella serve`."""

    advanced: ClassVar = frozenset({
        "max_deadline_ms", "prefix_cache_mib", "batch_tokens", "batch_wait_ms", "llm_threads", "load_seconds",
        "llm_model", "llm_key_variable", "budget_tokens", "max_candidates", "max_history", "max_body_bytes", "max_text",
        "body_seconds", "requests_per_second", "events", "repeats", "impressions", "explore",
        "experiment", "image", "link",
        "overload_ms",
    })  # fmt: skip

    store: str | None = None
    """Where answers are kept: a path, redis://..., postgresql://... Unset: events.db in the run folder."""
    deadline_ms: float = Field(default=400.0, gt=0)
    """How long a request may wait for the language model; then the conventional model's scores are returned."""
    max_deadline_ms: float = Field(default=1000.0, gt=0)
    """The longest that a request may choose for itself (or `deadline_ms`, if that is longer): while the language model
    reads for one, the others wait."""
    clock: Literal["wall", "log"] = "wall"
    """What time it is for features such as the seconds since a user's last answer. `log`: always the end of the
    training log, for data that is old."""
    share: float | None = Field(default=None, ge=0, le=1)
    """Share of samples that the router may send to the language model. Unset: what the run was decided to serve; its
    budget, or none where asking per request does not pay (`routing.rung`)."""
    llm_url: str | list[str] | None = None
    """What to ask instead of a process of one's own; a list: several, see docs/serving.md. An OpenAI-compatible server
    (http://llm:8000/v1), or `corella serve-llm` (corella+http://llm:8100, corella+https://llm)."""
    llm_model: str = "corella"
    """What the model is called on an OpenAI-compatible server."""
    llm_key_variable: str = "CORELLA_LLM_KEY"
    """Environment variable that holds the key for those servers, if they ask for one."""
    budget_tokens: float | None = Field(default=None, gt=0)
    """Tokens a second that the language model may read, on average: for all servers on one Redis or PostgreSQL
    together, for this one alone with SQLite. Unset: as many as there is time for."""
    events: dict[str, EventKind] = Field(default_factory=dict)
    """Kinds of events: what they mean, in place of the usual meaning or beside the usual kinds. For example
    `{share: {label: true, weight: 2}}`."""
    repeats: Literal["last", "first"] = "last"
    """Which of a user's answers to an item counts (all of them, where `data.duplicates` is `keep`)."""
    experiment: Experiment | None = None
    """Arms side by side, see docs/live-experiments.md. Unset: everybody gets the same."""
    impressions: bool = False
    """Whether pages of recommendations are kept: who was shown what. An experiment keeps them anyway."""
    explore: float = Field(default=0.0, ge=0, le=0.5)
    """Chance that a page's first item is drawn by lot from the page. From such pages `corella off-policy` tells what
    other budgets would have earned."""
    image: str | None = None
    """Address of an item's picture, with {item_id} in it; items that were put may have their own."""
    link: str | None = None
    """The same of an item's page."""
    max_candidates: int = Field(default=1000, ge=1, le=MOST)
    """Most items in a request."""
    max_history: int = Field(default=1000, ge=1, le=MOST)
    """Most answers of a described user."""
    max_text: int = Field(default=50_000, ge=500)
    """Most characters of the texts that a request describes: reading them takes time."""
    requests_per_second: float = Field(default=200.0, gt=0)
    """Rate limit of a key (of an address, where there are no keys), with a burst of as many. A request counts once, and
    once more for each 100 items or answers in it and for each text that it describes; of a stream 200 lines count
    once."""
    overload_ms: float = Field(default=500.0, gt=0)
    """How late the service may run before it answers 429."""


def load_serving_settings(path: Path | None, overrides: Sequence[str] = ()) -> ServingSettings:
    """Settings from a YAML file and NAME=VALUE pairs over it. Raises `UserError` for what is not right."""
    return validated(ServingSettings, given_settings(path, overrides), "serving settings")

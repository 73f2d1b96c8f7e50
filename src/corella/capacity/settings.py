"""What a plan is made from: the load, the machines and their prices, and what was measured here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from corella.config import Section
from corella.config.loading import given_settings, merge, validated
from corella.files import read_json

MEASURED = Path(__file__).with_name("costs.json")
"""Written by benchmarks/capacity.py."""


class _Numbers(Section):
    model_config = ConfigDict(allow_inf_nan=False)


class Load(_Numbers):
    """What is asked of the service. All but the first three are assumptions."""

    users: float = Field(gt=0, le=1e11)
    """Users that the service knows."""
    items: float = Field(ge=1, le=1e11)
    """Items of the catalogue."""
    requests: float = Field(gt=0, le=1e8)
    """Requests for recommendations a second, at the busiest hour."""
    candidates: float = Field(default=100.0, ge=1)
    """Retrieved items that a request ranks."""
    events_per_request: float = Field(default=0.2, ge=0)
    """Events (clicks, likes) that the service is told for each request."""
    history: float = Field(default=50.0, ge=0)
    """Interactions of a user that the training log keeps."""
    mean_load: float = Field(default=0.5, gt=0, le=1)
    """Mean load of a day over that of its busiest hour."""
    share: float = Field(default=0.05, ge=0, le=1)
    """Share of requests whose candidates the language model is asked about."""
    kept: float = Field(default=0.5, ge=0, le=1)
    """Share of these whose history it has read and kept."""
    p99_ms: float = Field(default=100.0, gt=0)
    """The claim: 99 of 100 requests that ask no language model are answered in this time."""
    deadline_ms: float = Field(default=400.0, gt=0)
    """The claim: 99 of 100 times the language model answers in this time."""
    retrain_hours: float = Field(default=24.0, gt=0)
    """How often everything is trained anew."""
    epochs: float = Field(default=3.0, gt=0)
    """Passes over the log that training the neural models takes."""
    llm_targets: float = Field(default=1e6, ge=0)
    """Interactions that the language model is tuned on."""
    keep_days: float = Field(default=90.0, gt=0)
    """How long the store keeps events."""


class Machines(_Numbers):
    """What can be rented, at which price. All of it is assumed."""

    cores: int = Field(default=16, ge=2)
    """Cores of a machine."""
    gib: float = Field(default=128.0, gt=0)
    """Its memory."""
    gbit: float = Field(default=10.0, gt=0)
    """Its network, Gbit a second."""
    hour: float = Field(default=1.2, ge=0)
    """Price of a machine an hour, dollars."""
    gpu_hour: float = Field(default=4.0, ge=0)
    """Price of a GPU an hour, dollars."""
    disk_gib_month: float = Field(default=0.1, ge=0)
    """Price of a GiB of the store's disk a month, dollars."""
    most_busy: float = Field(default=0.8, gt=0, le=1)
    """Most of a core, a GPU, a memory or a network that is planned with."""
    most_events: float = Field(default=0.5, gt=0, lt=1)
    """Most of a replica's time that may go to taking in events."""


class Costs(_Numbers):
    """What was measured here. A core is one of the machine that measured. A replica is two processes: one ranks, one
    retrieves."""

    request_ms: float = Field(gt=0)
    """CPU of the service for a request, beside its candidates; milliseconds."""
    candidate_us: float = Field(gt=0)
    """CPU of the conventional models for a candidate; microseconds."""
    request_variation: float = Field(ge=0)
    """Standard deviation over mean of the time of a request that does not wait."""
    retrieval_ms: float = Field(ge=0)
    """CPU of a retrieval, beside its scan of the catalogue; milliseconds."""
    retrieval_item_ns: float = Field(ge=0)
    """CPU of a retrieval for each item of the catalogue; nanoseconds."""
    event_apply_us: float = Field(gt=0)
    """CPU of every replica for an event, whoever was told: read from the store and taken in; microseconds."""
    event_store_us: float = Field(gt=0)
    """Time of a store for an event, in appends of 200; microseconds."""
    event_stored_bytes: float = Field(ge=0)
    """Bytes of an event in the store."""
    event_bytes: float = Field(ge=0)
    """Memory of a replica for an event that it was told since the training."""
    replica_mib: float = Field(ge=0)
    """Memory of a replica, both processes, without users, items and interactions; MiB."""
    user_bytes: float = Field(ge=0)
    """Memory of a replica for a user of the training log."""
    item_bytes: float = Field(ge=0)
    """The same for an item, without what the next line counts."""
    row_bytes: float = Field(ge=0)
    """The same for an interaction of the training log."""
    retrieval_item_bytes: float = Field(ge=0)
    """Memory of the retrieval's matrices for an item: its weights and its text's vectors."""
    embedding_bytes: float = Field(ge=0)
    """Weights of the conventional models for each user and item, in bytes; training holds them three times."""
    llm_history_tokens: float = Field(ge=0)
    """Tokens of a user's history."""
    llm_candidate_tokens: float = Field(gt=0)
    """Tokens of a candidate behind it."""
    llm_variation: float = Field(ge=0)
    """Standard deviation over mean of a request's tokens."""
    llm_core_tokens_per_second: float = Field(gt=0)
    """Tokens of a shared prefix and its candidates that a core reads."""
    gpu_tokens_per_second: float = Field(gt=0)
    """The same of a GPU (NVIDIA H200, SmolLM2-135M), histories not kept."""
    gpu_requests_a_pass: float = Field(ge=1)
    """Requests that shared a pass where that was measured: one waits for all of them."""
    gpu_training_tokens_per_second: float = Field(gt=0)
    """Tokens of training on that GPU."""
    prepare_row_us: float = Field(gt=0)
    """CPU of preparing an interaction; microseconds."""
    prepare_row_bytes: float = Field(ge=0)
    """Peak memory of it for each interaction."""
    train_row_us: float = Field(gt=0)
    """CPU of training the neural conventional models on an interaction once; microseconds."""
    trees_row_us: float = Field(ge=0)
    """CPU of training the boosted trees on an interaction, all rounds; microseconds."""


class PlanSettings(Section):
    """All that a plan is made from."""

    load: Load
    machines: Machines = Field(default_factory=Machines)
    costs: Costs


def read_plan_settings(path: Path | None = None, overrides: Sequence[str] = (), **load: float) -> PlanSettings:
    """The measured costs; over them a YAML file of sections `load`, `machines`, `costs`, section.key=value pairs, and
    `load`. Raises `UserError` for what is not right.

    >>> read_plan_settings(users=1e6, items=1e5, requests=500, overrides=["machines.cores=32"]).machines.cores
    32
    """
    given: dict[str, Any] = merge({"costs": read_json(MEASURED)}, given_settings(path, overrides))
    return validated(PlanSettings, merge(given, {"load": load}), "plan")

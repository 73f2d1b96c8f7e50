"""Machines, GPUs and money for a load; latency claims are checked by simulating the queues."""

from dataclasses import dataclass
from math import ceil

from corella.capacity.demand import GIB, Demand
from corella.capacity.queueing import Staffed, Stage, alone_seconds, enough_servers
from corella.capacity.settings import PlanSettings
from corella.capacity.walls import Wall, walls

MONTH = 730.0
"""Hours."""
_CORES = 2
"""Of a replica: one ranks, one retrieves."""
_SPARE = 1
"""Replicas of each shard, stores and GPUs beyond what the load needs: any one may be lost."""
_SHARDS = sorted({round(1.2**n) for n in range(90)})
_NEAR, _TRIED = 2.0, 4
"""Splits that take at most so many times the machines of the best one, by their load, are simulated; how many."""


@dataclass(frozen=True)
class Replicas:
    """Servers of the conventional path."""

    shards: int
    """Parts into which users are split; 1: every replica knows everybody, which is taken wherever it can be."""
    each: int
    """Replicas of a shard, a spare one among them."""
    machine: int
    """Replicas that a machine holds."""
    machines: int
    gib: float
    """Memory of a replica."""
    fits: bool
    """Whether a machine holds it."""
    p99_ms: float
    """Simulated, without the spare replicas; where the claim does not hold, of a request that never waits."""
    holds: bool
    """Whether the claim holds."""
    split: tuple[int, int]
    """The cheapest number of shards of those simulated, and the machines it takes."""


@dataclass(frozen=True)
class LanguageModel:
    """GPUs that answer for a share of the requests."""

    gpus: int
    """A spare one among them; 0 where nothing is asked."""
    cores: int
    """What the same would take without GPUs."""
    tokens: float
    """A second."""
    p99_ms: float
    holds: bool


@dataclass(frozen=True)
class Store:
    """Where events are kept."""

    machines: int
    disk_gib: float


@dataclass(frozen=True)
class Training:
    """Done anew again and again."""

    machines: int
    """Of one training: for its time and its memory."""
    hours: float
    """Of one machine, or of all of them together."""
    gpu_hours: float


@dataclass(frozen=True)
class Money:
    """Dollars a month."""

    replicas: float
    language_model: float
    store: float
    training: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.replicas + self.language_model + self.store + self.training


@dataclass(frozen=True)
class Plan:
    """What a load takes."""

    asked: PlanSettings
    replicas: Replicas
    language_model: LanguageModel
    store: Store
    training: Training
    money: Money
    walls: list[Wall]
    """What one of each part cannot do, the worst first."""


def make_plan(asked: PlanSettings) -> Plan:
    """The plan of a load. Seeded: the same question has the same answer."""
    demand, machines = Demand(asked), asked.machines
    replicas, model, store = _replicas(demand), _language_model(demand), _store(demand)
    training = _training(demand)
    a_month = MONTH / asked.load.retrain_hours
    money = Money(
        replicas.machines * MONTH * machines.hour,
        model.gpus * MONTH * machines.gpu_hour,
        store.machines * MONTH * machines.hour + store.disk_gib * machines.disk_gib_month,
        a_month * (training.hours * machines.hour + training.gpu_hours * machines.gpu_hour),
    )
    return Plan(asked, replicas, model, store, training, money, walls(demand, replicas.shards * replicas.each))


def _replicas(demand: Demand) -> Replicas:
    machines = demand.asked.machines
    room = machines.most_busy * machines.gib * GIB
    slots = {n: min(machines.cores // _CORES, int(room / demand.replica_bytes(n))) for n in _SHARDS}
    can = [n for n in _SHARDS if demand.applying(n) <= machines.most_events]
    fitting = [n for n in can if slots[n]]

    def for_them(shards: int, each: int) -> int:
        return ceil(shards * each / max(slots[shards], 1))

    about = {n: for_them(n, _unless_simulated(demand, n)) for n in fitting or can}
    near = [n for n in about if about[n] <= _NEAR * min(about.values())]
    near = [*near[:: -(-len(near) // _TRIED)], *([1] if 1 in fitting else [])]
    found = {n: _staffed(demand, n) for n in near}
    each = {n: (_unless_simulated(demand, n) if one is None else one.servers + _SPARE) for n, one in found.items()}
    cheapest = min(near, key=lambda n: (for_them(n, each[n]), n))
    shards = 1 if 1 in fitting else cheapest  # what this version can do comes first
    staffed = found[shards]
    seconds = alone_seconds(demand.stages(shards)) if staffed is None else staffed.seconds
    return Replicas(
        shards, each[shards], max(slots[shards], 1), for_them(shards, each[shards]),
        demand.replica_bytes(shards) / GIB, bool(fitting), 1e3 * seconds, staffed is not None,
        (cheapest, for_them(cheapest, each[cheapest])),
    )  # fmt: skip


def _unless_simulated(demand: Demand, shards: int) -> int:
    """Replicas of a shard by their load alone."""
    slowest = max(stage.seconds for stage in demand.stages(shards))
    return ceil(demand.asked.load.requests / shards * slowest / demand.asked.machines.most_busy) + _SPARE


def _staffed(demand: Demand, shards: int) -> Staffed | None:
    """Replicas of a shard that keep the claim, without the spare one."""
    load, busy = demand.asked.load, demand.asked.machines.most_busy
    return enough_servers(load.requests / shards, demand.stages(shards), load.p99_ms / 1e3, busy=busy)


def _language_model(demand: Demand) -> LanguageModel:
    load, machines, costs = demand.asked.load, demand.asked.machines, demand.asked.costs
    if not demand.routed:
        return LanguageModel(0, 0, 0.0, 0.0, True)
    tokens = demand.routed * demand.tokens
    cores = ceil(tokens / costs.llm_core_tokens_per_second / machines.most_busy)
    stage = Stage(demand.tokens / costs.gpu_tokens_per_second, costs.llm_variation)
    others = (costs.gpu_requests_a_pass - 1) * stage.seconds  # who shares the pass is waited for
    found = enough_servers(demand.routed, [stage], load.deadline_ms / 1e3 - others, busy=machines.most_busy)
    if found is None:
        gpus = ceil(tokens / costs.gpu_tokens_per_second / machines.most_busy)
        return LanguageModel(gpus + _SPARE, cores, tokens, 1e3 * (alone_seconds([stage]) + others), False)
    return LanguageModel(found.servers + _SPARE, cores, tokens, 1e3 * (found.seconds + others), True)


def _store(demand: Demand) -> Store:
    return Store(ceil(demand.storing / demand.asked.machines.most_busy) + _SPARE, demand.stored_bytes / GIB)


def _training(demand: Demand) -> Training:
    machines = demand.asked.machines
    hours = demand.training_core_hours / machines.cores / machines.most_busy
    held = max(demand.preparing_bytes, demand.embedding_bytes) / GIB / machines.gib / machines.most_busy
    return Training(max(ceil(hours / demand.asked.load.retrain_hours), ceil(held), 1), hours, demand.training_gpu_hours)

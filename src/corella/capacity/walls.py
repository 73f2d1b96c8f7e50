"""What breaks first: how far one of each part goes, and what to do beyond."""

from dataclasses import dataclass

from corella.capacity.demand import GIB, Demand


@dataclass(frozen=True)
class Wall:
    """A limit of one of a part."""

    what: str
    load: float
    """What is asked of it."""
    limit: float
    """What it can do."""
    unit: str
    more: bool
    """Whether more of the same helps, with this version."""
    remedy: str

    @property
    def times(self) -> float:
        """How often the load is the limit: above 1 it breaks."""
        return self.load / self.limit


def walls(demand: Demand, replicas: int) -> list[Wall]:
    """All limits, the one that breaks first at the head. `replicas`: that all read the store."""
    asked = demand.asked
    load, machines, costs = asked.load, asked.machines, asked.costs
    room, busy = machines.most_busy * machines.gib, machines.most_busy
    cores, slowest = machines.cores * busy, max(demand.retrieval_seconds, demand.ranking_seconds)
    read = demand.events * replicas * costs.event_stored_bytes * 8 / 1e9
    found = [
        Wall("requests, one replica", load.requests, busy / slowest, "a second",
             True, "more replicas on one store, behind a proxy that knows which is least loaded"),
        Wall("users' state, one replica's memory", demand.user_state / GIB, room, "GiB", False,
             "shard users by a hash of their id over replicas; in this version every replica knows everybody"),
        Wall("events, one replica", demand.events, 1e6 * machines.most_events / costs.event_apply_us, "a second",
             False, "the same shards; what all users did with an item is a sum, which shards can tell each other"),
        Wall("events, one store", demand.events, 1e6 * busy / costs.event_store_us, "a second", False,
             "a store for each shard, or a partitioned log such as Kafka in its place"),
        Wall("what all replicas read of one store", read, machines.gbit * busy, "Gbit a second", False,
             "the same: a shard's replicas read their own events only"),
        Wall("time of scanning all items", 1e3 * demand.retrieval_seconds, load.p99_ms / 2, "ms", False,
             "approximate nearest neighbours (Faiss, hnswlib) in place of the scan"),
        Wall("items' matrices, one replica's memory", demand.item_state / GIB, room, "GiB", False,
             "fewer neighbours an item, half precision, or a retrieval of its own that replicas share"),
        Wall("tokens, one GPU", demand.routed * demand.tokens, busy * costs.gpu_tokens_per_second, "a second", True,
             "more GPUs: vLLM behind `llm_url`; or a smaller `share`"),
        Wall("time of one machine's training", demand.training_core_hours / cores, load.retrain_hours, "hours", False,
             "more workers; retrain on the newest days"),
        Wall("memory of preparing the log", demand.preparing_bytes / GIB, room, "GiB", False,
             "prepare by partitions, out of core"),
        Wall("embeddings of users and items, in training", demand.embedding_bytes / GIB, room, "GiB", False,
             "TorchRec's sharded tables; or no embedding of the user's id, which hashed or dropped saves nearly all"),
    ]  # fmt: skip
    return sorted(found, key=lambda wall: -wall.times)

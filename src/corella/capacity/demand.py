"""What a load asks of each part of the service, in the units that the part has: no machines yet."""

from dataclasses import dataclass

from corella.capacity.queueing import Stage
from corella.capacity.settings import PlanSettings

GIB, MIB = 2**30, 2**20
_STATES = 3
"""Copies of the weights that training holds: themselves, and Adam's two moments."""


@dataclass(frozen=True)
class Demand:
    """See the properties. `shards`: parts into which users are split, each with replicas of its own."""

    asked: PlanSettings

    @property
    def events(self) -> float:
        """A second, at the busiest hour."""
        return self.asked.load.requests * self.asked.load.events_per_request

    def applying(self, shards: int = 1) -> float:
        """Share of a replica's time that events take."""
        return self.events / shards * self.asked.costs.event_apply_us / 1e6

    @property
    def retrieval_seconds(self) -> float:
        """CPU of a retrieval."""
        costs = self.asked.costs
        return costs.retrieval_ms / 1e3 + self.asked.load.items * costs.retrieval_item_ns / 1e9

    @property
    def ranking_seconds(self) -> float:
        """CPU of a request's candidates, ranked."""
        costs = self.asked.costs
        return costs.request_ms / 1e3 + self.asked.load.candidates * costs.candidate_us / 1e6

    def stages(self, shards: int = 1) -> list[Stage]:
        """Retrieval, then ranking, which events hold up. A replica has a core for each."""
        slower = 1 / max(1 - self.applying(shards), 1e-9)
        variation = self.asked.costs.request_variation
        return [Stage(self.retrieval_seconds, variation), Stage(self.ranking_seconds * slower, variation)]

    @property
    def user_state(self) -> float:
        """Bytes of everybody: histories, counts, embeddings, and what was told since the training."""
        load, costs = self.asked.load, self.asked.costs
        told = self.events * load.mean_load * load.retrain_hours * 3600
        each = costs.user_bytes + costs.embedding_bytes + load.history * costs.row_bytes
        return load.users * each + told * costs.event_bytes

    @property
    def item_state(self) -> float:
        """Bytes of the catalogue and of the processes themselves: every replica holds them."""
        costs = self.asked.costs
        each = costs.item_bytes + costs.embedding_bytes + costs.retrieval_item_bytes
        return costs.replica_mib * MIB + self.asked.load.items * each

    def replica_bytes(self, shards: int = 1) -> float:
        """Memory of a replica."""
        return self.item_state + self.user_state / shards

    @property
    def routed(self) -> float:
        """Requests a second that the language model is asked about."""
        return self.asked.load.requests * self.asked.load.share

    @property
    def tokens(self) -> float:
        """That the language model reads for one of them."""
        load, costs = self.asked.load, self.asked.costs
        return (1 - load.kept) * costs.llm_history_tokens + load.candidates * costs.llm_candidate_tokens

    @property
    def storing(self) -> float:
        """Seconds of a store in a second: above 1, one store cannot keep up."""
        return self.events * self.asked.costs.event_store_us / 1e6

    @property
    def stored_bytes(self) -> float:
        """Of the events that are kept."""
        load = self.asked.load
        return self.events * load.mean_load * 86_400 * load.keep_days * self.asked.costs.event_stored_bytes

    @property
    def rows(self) -> float:
        """Of the training log."""
        return self.asked.load.users * self.asked.load.history

    @property
    def training_core_hours(self) -> float:
        """Of preparing the log and training the conventional models."""
        costs = self.asked.costs
        each = costs.prepare_row_us + costs.trees_row_us + self.asked.load.epochs * costs.train_row_us
        return self.rows * each / 3.6e9

    @property
    def preparing_bytes(self) -> float:
        """Memory of preparing the log."""
        return self.rows * self.asked.costs.prepare_row_bytes

    @property
    def embedding_bytes(self) -> float:
        """Memory of the embeddings while they are trained."""
        return _STATES * (self.asked.load.users + self.asked.load.items) * self.asked.costs.embedding_bytes

    @property
    def training_gpu_hours(self) -> float:
        """Of tuning the language model."""
        costs = self.asked.costs
        tokens = self.asked.load.llm_targets * costs.llm_candidate_tokens
        return tokens / costs.gpu_training_tokens_per_second / 3600

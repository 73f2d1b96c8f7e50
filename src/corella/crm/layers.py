"""The parts that conventional models share: embeddings, pooled histories, a linear and a deep part.

`Embedder` turns a batch into `Features`; a model only decides how features interact.
"""

from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from corella.config import CRMConfig
from corella.crm.attention import Attention, DotAttention
from corella.crm.encoder import ANSWERS, CRMBatch
from corella.crm.lookup import rows, sums
from corella.crm.spec import CRMSpec

_LEVELS = 1 << 16
"""Values of 16 random bits."""


@dataclass(frozen=True)
class CRMOutput:
    """What every conventional model returns."""

    logit: Tensor
    """[B] float32; the probability is its sigmoid."""
    hidden: tuple[Tensor, ...]
    """Hidden layers [B, width] that alignment and the router read, from the input side up."""


@dataclass(frozen=True)
class Features:
    """Embedded inputs of B samples."""

    indices: Tensor
    """[B, columns]: the categorical columns as they were read, hidden ids included."""
    fields: Tensor
    """[B, F, d]: columns, means of list columns, the history four times (see `Embedder`); where asked, the counts."""
    flat: Tensor
    """[B, D]: the same, concatenated, with the count features as plain numbers."""
    attended: Tensor
    """[B, d]: the attended history."""


class Columns(nn.Module):
    """The categorical columns as a model reads them: ids may be left out, or hidden at random in training."""

    def __init__(self, spec: CRMSpec, config: CRMConfig) -> None:
        super().__init__()
        names = [*spec.user_columns, *spec.item_columns]
        self.item = len(spec.user_columns)
        ids = (0, self.item)
        self.count = len(names)
        self.unknown = {c: spec.offsets[names[c]] for c in ids}
        self.kept = [c for c in range(len(names)) if config.ids or c not in ids]
        self.dropout = config.id_dropout

    def forward(self, fields: Tensor) -> Tensor:
        """Replace ids by `unknown` at random, so that the model learns to do without them."""
        if not self.training or self.dropout == 0:
            return fields
        fields = fields.clone()
        for column, unknown in self.unknown.items():
            hidden = torch.rand(len(fields), device=fields.device) < self.dropout
            fields[:, column] = fields[:, column].masked_fill(hidden, unknown)
        return fields


class Embedder(nn.Module):
    """Embeds a batch. `field_count` and `flat_size` are the sizes that models build on.

    Where the model reads texts, a *content tower* maps the items' vectors into the space of the embeddings: the item's
    content is a field, and what attention by content reads in the history another one. Parts of the vectors are hidden
    in training, for a catalogue's few thousand texts are soon known by heart.

    An item of the history is the sum of its columns' embeddings, as the target is for the attention. The history is
    four fields: its liked items, its disliked items and its answers, each summed and divided by the number of
    entries, and what attention to the target reads. `attention`: how a history is pooled for a target, `DotAttention`
    if unset. `count_field`: whether a linear map of the count features is a field too, so that they meet the
    other fields.
    """

    def __init__(
        self, spec: CRMSpec, config: CRMConfig, attention: Attention | None = None, count_field: bool = False
    ) -> None:
        super().__init__()
        d = config.embedding_size
        self.table = nn.Embedding(spec.table_size, d)
        self.answer = nn.Embedding(ANSWERS, d)
        nn.init.normal_(self.table.weight, std=1e-4)
        nn.init.normal_(self.answer.weight, std=1e-4)
        self.attention = attention or DotAttention(d)
        self.columns = Columns(spec, config)
        self.list_unknown = [spec.offsets[name] for name in spec.list_columns]
        self.kept = [*self.columns.kept, *(self.columns.count + place for place in range(len(spec.list_columns)))]
        self.counts = spec.numbers if config.counts else 0
        self.content = ContentTower(spec.content_size, d, config.content_dropout) if spec.content_size else None
        self.field_count = len(self.columns.kept) + len(spec.list_columns) + (4 if self.content is None else 6)
        self.flat_size = self.field_count * d + self.counts
        self.count_field = nn.Linear(self.counts, d) if count_field and self.counts else None
        self.field_count += self.count_field is not None

    def forward(self, batch: CRMBatch) -> Features:
        """Embedded inputs of a batch."""
        indices = self.columns(batch.fields)
        columns, seen = self._embedded(indices, batch)
        item = columns[:, self.columns.item :].sum(1)
        answer, likes_first = self.answer.weight, self.answer.weight[: ANSWERS - 1].flip(0)
        entries = answered(seen, answer, batch)
        present = batch.answers != ANSWERS - 1
        kinds = torch.arange(ANSWERS - 2, -1, -1, device=indices.device)
        # In float32, whatever torch takes for granted while another thread loads a model.
        said = (batch.answers.unsqueeze(1) == kinds.unsqueeze(1)).float()
        weight = said / present.sum(1).clamp(min=1)[:, None, None]
        pooled = self.attention.sums(item, entries, present, weight)
        share, attended = weight.sum(2), pooled[:, -1]
        by_answer = pooled[:, :-1] - share.unsqueeze(2) * likes_first  # an entry holds its answer
        content = () if self.content is None else self.content(batch, answer, present)
        all_kept = len(self.kept) == columns.shape[1]
        kept = columns if all_kept else torch.stack([columns[:, c] for c in self.kept], dim=1)
        rest = torch.stack([share @ likes_first, attended, *content], dim=1)
        fields = torch.cat([kept, by_answer, rest], dim=1)
        flat = torch.cat([fields.flatten(1), batch.counts], dim=1) if self.counts else fields.flatten(1)
        if self.count_field is not None:
            fields = torch.cat([fields, self.count_field(batch.counts).unsqueeze(1)], dim=1)
        return Features(indices, fields, flat, attended)

    def _embedded(self, indices: Tensor, batch: CRMBatch) -> tuple[Tensor, Tensor]:
        """[B, columns, d] of the samples, list columns last and as means; [U, d] of the histories' items, their columns
        summed. One lookup for all."""
        own, seen = torch.cat([indices, *batch.lists], dim=1), torch.cat([batch.seen, *batch.seen_lists], dim=1)
        own_weight, seen_weight = self._weights(indices, batch.lists), self._weights(batch.seen, batch.seen_lists)
        arange = partial(torch.arange, device=own.device)
        widths = [indices.shape[1], *(index.shape[1] for index in batch.lists)]
        first = torch.cat([arange(widths[0]), *(arange(end, end + 1) for end in accumulate(widths[:-1]))])
        start = arange(0, own.numel(), own.shape[1]).unsqueeze(1) + first
        start_seen = arange(own.numel(), own.numel() + seen.numel(), seen.shape[1])
        found = sums(
            self.table.weight,
            torch.cat([own.flatten(), seen.flatten()]),
            torch.cat([own_weight.flatten(), seen_weight.flatten()]),
            torch.cat([start.flatten(), start_seen]),
        )
        return found[: start.numel()].unflatten(0, start.shape), found[start.numel() :]

    def _weights(self, columns: Tensor, lists: tuple[Tensor, ...]) -> Tensor:
        """What each index counts, [n, columns and lists]: one, or its share of the known values of its list."""
        parts = [torch.ones(columns.shape, dtype=torch.float32, device=columns.device)]
        for index, unknown in zip(lists, self.list_unknown, strict=True):
            known = (index != unknown).float()
            parts.append(known / known.sum(1, keepdim=True).clamp(min=1))
        return torch.cat(parts, dim=1)


class ContentTower(nn.Module):
    """What the texts of the item and of the history's items say, [B, d] each."""

    def __init__(self, width: int, size: int, dropout: float) -> None:
        super().__init__()
        self.map = nn.Linear(width, size)
        self.attention = DotAttention(size)
        self.dropout = Dropout(dropout)

    def forward(self, batch: CRMBatch, answer: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """`answer` [ANSWERS, d]: embeddings of the answers; `present` [B, L] true where there is an entry."""
        item, seen = (self.map(self.dropout(part)) for part in (batch.content, batch.seen_content))
        return item, self.attention(item, answered(seen, answer, batch), present)


def answered(seen: Tensor, answer: Tensor, batch: CRMBatch) -> Tensor:
    """The entries of the histories [B, L, d]: the item's row of `seen` [U, d] and the answer's of `answer`, summed.
    Each is one lookup, in a table of every item with every answer."""
    return rows((seen.unsqueeze(1) + answer).flatten(0, 1), batch.history * ANSWERS + batch.answers)


class LinearPart(nn.Module):
    """A weight for every categorical value, list value, liked or disliked history item, and count.

    Weights of a list and of a history are averaged. Returns the contributions [B, size]; a model adds them
    up.
    """

    def __init__(self, spec: CRMSpec, config: CRMConfig) -> None:
        super().__init__()
        self.kept = Columns(spec, config).kept
        self.list_unknown = [spec.offsets[name] for name in spec.list_columns]
        self.weight = nn.Embedding(spec.table_size, 1)
        self.history = nn.Embedding(spec.table_size, ANSWERS - 1)
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.history.weight)
        counts = spec.numbers if config.counts else 0
        self.count_weight = nn.Parameter(torch.zeros(counts)) if counts else None
        self.size = len(self.kept) + len(self.list_unknown) + (ANSWERS - 1) + counts

    def forward(self, indices: Tensor, batch: CRMBatch) -> Tensor:
        """See the class."""
        answered = batch.answers.unsqueeze(-1) == torch.arange(ANSWERS - 1, device=batch.answers.device)
        history = (self.history(batch.history_ids) * answered).sum(1) / answered.sum((1, 2)).clamp(min=1).unsqueeze(1)
        lists = mean_lists(self.weight, batch.lists, self.list_unknown)
        parts = [self.weight(indices[:, self.kept]).squeeze(-1), *lists, history]
        if self.count_weight is not None:
            parts.append(batch.counts * self.count_weight)
        return torch.cat(parts, dim=1)


def mean_lists(table: nn.Embedding, lists: tuple[Tensor, ...], unknown: list[int]) -> list[Tensor]:
    """For each list column [n, M] of indices, [n, d]: the mean over its known values, zeros where it has none."""
    means = []
    for index, padding in zip(lists, unknown, strict=True):
        present = (index != padding).unsqueeze(-1).float()
        means.append((table(index) * present).sum(1) / present.sum(1).clamp(min=1))
    return means


class Dropout(nn.Module):
    """Dropout by 16 random bits an entry, a sixth of the time of torch's own; the probability is rounded to them."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.hidden = min(round(probability * _LEVELS), _LEVELS - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Entries set to 0 at random, the others made larger by as much; in evaluation `x` itself."""
        if not self.training or self.hidden == 0:
            return x
        drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
        bits = drawn.view(torch.int16)[: x.numel()].view(x.shape)
        shown = torch.ge(bits, self.hidden - _LEVELS // 2, out=torch.empty_like(x, requires_grad=False))
        return x * shown.mul_(_LEVELS / (_LEVELS - self.hidden))


def deep(sizes: list[int], dropout: float) -> nn.Sequential:
    """A multilayer perceptron; each of its layers is a linear map, ReLU and dropout."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(sizes):
        layers.append(nn.Sequential(nn.Linear(width_in, width_out), nn.ReLU(), Dropout(dropout)))
    return nn.Sequential(*layers)


def layer_outputs(perceptron: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The input of a `deep` part and the output of each of its layers."""
    outputs = [x]
    for layer in perceptron:
        outputs.append(layer(outputs[-1]))
    return outputs

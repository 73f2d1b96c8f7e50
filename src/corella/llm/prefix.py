"""One prefix, many candidates: a user's timeline is read once and kept, candidates are branches behind it. [ours]

All branches of all requests of a pass stand in one packed sequence. The linear layers see the whole sequence; in the
attention a branch sees its own tokens and its request's prefix, whose keys and values come from the cache. A later
request whose prefix begins with the kept one (an answer was appended) reads only what is new.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corella.llm.backbone import Backbone
from corella.llm.prompts import Ints

Floats = npt.NDArray[np.float32]

_NAME = "corella_shared_prefix"


@dataclass(frozen=True)
class SharedPrompt:
    """One user's history and the lines asked about behind it."""

    prefix: Ints
    branches: list[Ints]
    """Each ends at the token where its answer is predicted."""
    sample: Ints
    """The samples that the branches are, as positions in the `Samples` that were planned."""


@dataclass
class _Kept:
    """Keys and values of a prefix, for each block [groups, tokens, width]."""

    ids: Ints
    keys: list[Tensor]
    values: list[Tensor]

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))


class PrefixCache:
    """Prefixes by user, bounded by bytes; the least recently used goes first."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes; 0 keeps nothing."""
        self.limit, self.bytes = limit, 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, user: str, prefix: Ints) -> _Kept | None:
        """What is kept of this user, if `prefix` begins with it. Anything else is out of date and dropped."""
        kept = self._kept.get(user)
        if kept is None:
            return None
        if len(kept.ids) <= len(prefix) and np.array_equal(kept.ids, prefix[: len(kept.ids)]):
            self._kept.move_to_end(user)
            return kept
        self.drop(user)
        return None

    def keep(self, user: str, kept: _Kept) -> None:
        """Keep a prefix in place of the user's last one, and let the oldest go until the limit holds."""
        self.drop(user)
        if kept.bytes > self.limit:
            return
        self._kept[user] = kept
        self.bytes += kept.bytes
        while self.bytes > self.limit:
            self.drop(next(iter(self._kept)))

    def drop(self, user: str) -> None:
        """Forget a user."""
        kept = self._kept.pop(user, None)
        if kept is not None:
            self.bytes -= kept.bytes


@dataclass
class _Segment:
    """The part of the packed sequence that belongs to one request: new prefix tokens, then branches."""

    start: int
    fresh: int
    branch: Tensor
    """[branch tokens] int64: the branch of each token."""
    place: Tensor
    """[branch tokens] int64: the token's place in its branch."""
    shape: tuple[int, int]
    """Branches, and tokens of the longest."""
    kept: _Kept | None
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.start + self.fresh + len(self.branch)


class PrefixScorer:
    """Scores shared prompts. Takes the backbone over: its attention reads packed sequences from then on."""

    def __init__(self, backbone: Backbone, cache: PrefixCache) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(_NAME, _attention)
        self.cache = cache
        self.read = 0
        """Tokens that the last pass read."""
        self._backbone = backbone
        backbone.model.eval()
        base = backbone.model.get_base_model() if hasattr(backbone.model, "get_base_model") else backbone.model
        base.set_attn_implementation(_NAME)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows: ids are below it."""
        return int(self._backbone.model.get_input_embeddings().weight.shape[0])

    @torch.inference_mode()
    def logits(self, users: Sequence[str], prompts: Sequence[SharedPrompt]) -> list[Floats]:
        """For each prompt the logits of its branches, float32: all prompts in one pass. `users`: the keys under which
        prefixes are kept; empty: this one is not. A prompt without branches is read and kept."""
        segments, ids, positions, last = [], [], [], []
        start, device = 0, next(self._backbone.decoder.parameters()).device
        for user, prompt in zip(users, prompts, strict=True):
            kept = self.cache.find(user, prompt.prefix) if user else None
            known = 0 if kept is None else len(kept.ids)
            lengths = [len(b) for b in prompt.branches]
            branch = np.repeat(np.arange(len(lengths)), lengths)
            place = np.arange(len(branch)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            segment = _Segment(
                start, len(prompt.prefix) - known, torch.from_numpy(branch).to(device),
                torch.from_numpy(place.astype(np.int64)).to(device),
                (len(lengths), max(lengths, default=0)), kept,
            )  # fmt: skip
            segments.append(segment)
            ids += [prompt.prefix[known:], *prompt.branches]
            positions += [np.arange(known, len(prompt.prefix)), len(prompt.prefix) + place]
            last.append(start + segment.fresh + np.cumsum(lengths, dtype=np.int64) - 1)
            start = segment.end
        self.read = start
        if not start:  # all of it is kept, and nothing is asked
            return [np.zeros(0, np.float32) for _ in prompts]
        out = self._backbone.decoder(
            input_ids=torch.from_numpy(np.concatenate(ids))[None].to(device),
            position_ids=torch.from_numpy(np.concatenate(positions))[None].to(device),
            use_cache=False,
            segments=segments,
        )
        for user, prompt, segment in zip(users, prompts, segments, strict=True):
            if user and segment.fresh:
                self.cache.keep(user, _Kept(prompt.prefix, segment.keys, segment.values))
        state = out.last_hidden_state[0, torch.from_numpy(np.concatenate(last)).to(device)].float()
        found = self._backbone.answer_logits(state).cpu().numpy()
        return np.split(found, np.cumsum([len(p.branches) for p in prompts])[:-1])


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    segments: Sequence[_Segment] = (),
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: query [1, H, N, D], key and value [1, G, N, D]; returns [1, N, H, D]."""
    _, heads, total, width = query.shape
    groups = key.shape[1]
    query = (query[0] * (scaling or width**-0.5)).view(groups, heads // groups, total, width)
    output = torch.empty(total, heads, width, dtype=value.dtype, device=value.device)
    for segment in segments:
        part = slice(segment.start, segment.end)
        found = _attend(segment, module.layer_idx, query[:, :, part], key[0, :, part], value[0, :, part])
        output[part] = found.permute(2, 0, 1, 3).reshape(-1, heads, width)
    return output[None], None


def _attend(segment: _Segment, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One request: query [G, R, n, D] (R query heads share a key head), key and value [G, n, D]; returns query's
    shape."""
    groups, repeat, _, width = query.shape
    fresh = segment.fresh
    keys, values = key[:, :fresh], value[:, :fresh]
    if segment.kept is not None:
        keys = torch.cat([segment.kept.keys[layer], keys], dim=1)
        values = torch.cat([segment.kept.values[layer], values], dim=1)
    segment.keys.append(keys.clone() if segment.kept is None else keys)
    segment.values.append(values.clone() if segment.kept is None else values)
    known = keys.shape[1]
    scores = (query.reshape(groups, -1, width) @ keys.transpose(1, 2)).view(groups, repeat, -1, known)
    if fresh:
        ahead = torch.ones(fresh, known, dtype=torch.bool, device=key.device).triu(known - fresh + 1)
        scores[:, :, :fresh].masked_fill_(ahead, float("-inf"))
    head = scores[:, :, :fresh].softmax(-1)

    if not segment.shape[0]:
        return (head.reshape(groups, -1, known) @ values).view(groups, repeat, -1, width)
    # Branches: what they see of the prefix and of themselves goes through one softmax.
    count, longest = segment.shape
    cell = segment.branch * longest + segment.place
    own_query, own_key, own_value = (
        _spread(t[..., fresh:, :], cell, count, longest) for t in (query, key[:, None], value[:, None])
    )
    own = own_query @ own_key.transpose(-1, -2)
    own = own.masked_fill_(torch.ones(longest, longest, dtype=torch.bool, device=key.device).triu(1), float("-inf"))
    own = own.view(groups, repeat, count * longest, longest)[:, :, cell]
    tail = torch.cat([scores[:, :, fresh:], own], dim=-1).softmax(-1)
    weights = torch.cat([head, tail[..., :known]], dim=2).reshape(groups, -1, known)
    output = (weights @ values).view(groups, repeat, -1, width)
    inside = _spread(tail[..., known:], cell, count, longest) @ own_value
    output[:, :, fresh:] += inside.view(groups, repeat, count * longest, width)[:, :, cell]
    return output


def _spread(packed: Tensor, cell: Tensor, count: int, longest: int) -> Tensor:
    """[G, R, tokens, D] -> [G, R, branches, longest, D], zeros where a branch is shorter."""
    groups, repeat, _, width = packed.shape
    spread = packed.new_zeros(groups, repeat, count * longest, width)
    spread[:, :, cell] = packed
    return spread.view(groups, repeat, count, longest, width)

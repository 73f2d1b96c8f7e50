"""Yes/no logits at answer positions: batches of prompts, one forward pass, two rows of the output matrix.

Prompts are padded at the right; under causal attention no real position sees the padding, so no mask is needed, unless
a prompt has branches.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corella.data.samples import Samples
from corella.data.scope import Scope
from corella.errors import UserError
from corella.llm.backbone import Backbone
from corella.llm.batches import Batch, make_batch, moved
from corella.llm.prefix import SharedPrompt
from corella.llm.prompts import Prompt

Floats = npt.NDArray[np.float32]


class SharesPrefixes(Protocol):
    """A prompt style that reads a user's history once, however many items are asked about."""

    def shared(self, samples: Samples, context_share: float, window_tokens: int | None = None) -> list[SharedPrompt]:
        """New rows as prefixes and branches."""
        ...

    def narrowed(self, scope: Scope) -> "Prompts":
        """The same style for the small world of a request."""
        ...


class Prompts(Protocol):
    """A prompt style."""

    @property
    def sharing(self) -> SharesPrefixes | None:
        """This style as one that shares prefixes, and so can be served; None where every prompt stands alone."""
        ...

    def plan(self, samples: Samples, context_share: float, window_tokens: int | None = None) -> Sequence[Any]:
        """Prompts that hold every sample as a target, not rendered yet; each tells its `sample`s and `tokens`."""
        ...

    def render(self, planned: Any, samples: Samples) -> Prompt:
        """A planned prompt as token ids and answer positions; `samples` are those that were planned."""
        ...


Soft = Callable[[Sequence[Prompt], Samples], Tensor]
"""What is added to the embeddings at the prompts' `asked` positions: [positions, hidden]."""


@dataclass(frozen=True)
class LLMOutput:
    """What the language model says of n targets."""

    logit: Tensor
    """[n] float32: logit of Yes minus logit of No, so that its sigmoid is the paper's p_llm."""
    hidden: tuple[Tensor, ...]
    """For each block asked for, [n, hidden]: the state at the answer positions."""


def answer_logits(
    backbone: Backbone, prompts: Sequence[Prompt], blocks: Sequence[int] = (), soft: Tensor | None = None
) -> LLMOutput:
    """One forward pass over the prompts; see `read_batch`."""
    batch = make_batch(prompts, backbone.embeddings.dtype)
    return read_batch(backbone, moved(batch, backbone.embeddings.device), blocks, soft)


def read_batch(backbone: Backbone, batch: Batch, blocks: Sequence[int] = (), soft: Tensor | None = None) -> LLMOutput:
    """One forward pass over a batch that lies where the backbone does; targets in the order of the batch.

    `blocks`: the transformer blocks (1 is the first) whose output is returned too. `soft`: vectors to add to
    the embeddings at the prompts' `asked` positions, [positions, hidden], see `Soft`.
    """
    if batch.longest > backbone.longest:
        raise UserError(
            f"a prompt has {batch.longest} tokens, the language model reads {backbone.longest}; lower "
            "llm.window_tokens and llm.eval_window_tokens, or where prompts are pointwise data.history_length"
        )
    embedded = backbone.model.get_input_embeddings()(batch.ids)
    if soft is not None:
        soft = soft.to(embedded.device, embedded.dtype)
        embedded = embedded.index_put((batch.line, batch.place), soft, accumulate=True)
    out = backbone.decoder(
        inputs_embeds=embedded,
        attention_mask=batch.mask,
        position_ids=batch.places,
        use_cache=False,
        output_hidden_states=bool(blocks),
    )
    state = out.last_hidden_state[batch.row, batch.position].float()
    hidden = tuple(out.hidden_states[b][batch.row, batch.position] for b in blocks)
    return LLMOutput(backbone.answer_logits(state), hidden)


@torch.inference_mode()
def score_samples(
    backbone: Backbone,
    prompts: Prompts,
    samples: Samples,
    batch_tokens: int,
    context_share: float,
    on_batch: Callable[[int, int], None] = lambda done, tokens: None,
    window_tokens: int | None = None,
    soft: Soft | None = None,
) -> Floats:
    """Logits of samples, float32 [n], dropout off. `on_batch(targets scored, tokens read)` after every pass."""
    backbone.model.eval()
    logits = np.full(len(samples), np.nan, dtype=np.float32)
    done = tokens = 0
    planned = sorted(prompts.plan(samples, context_share, window_tokens), key=lambda p: p.tokens)
    for group in group_by_tokens(planned, batch_tokens):
        rendered = [prompts.render(p, samples) for p in group]
        index = np.concatenate([p.sample for p in rendered])
        vectors = soft(rendered, samples) if soft else None
        logits[index] = answer_logits(backbone, rendered, soft=vectors).logit.cpu().numpy()
        done, tokens = done + len(index), tokens + sum(len(p.ids) for p in rendered)
        on_batch(done, tokens)
    return logits


def group_by_tokens(planned: Sequence[Any], batch_tokens: int) -> Iterator[list[Any]]:
    """Consecutive groups whose padded size stays within `batch_tokens` (a longer prompt goes alone)."""
    group: list[Any] = []
    longest = 0
    for p in planned:
        longest = max(longest, p.tokens)
        if group and longest * (len(group) + 1) > batch_tokens:
            yield group
            group, longest = [], p.tokens
        group.append(p)
    if group:
        yield group

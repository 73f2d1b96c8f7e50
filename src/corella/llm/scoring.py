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
    """One forward pass over the prompts; targets in the order of the prompts and of their positions.

    `blocks`: the transformer blocks (1 is the first) whose output is returned too. `soft`: vectors to add to
    the embeddings at the prompts' `asked` positions, [positions, hidden], see `Soft`.
    """
    width = max(len(p.ids) for p in prompts)
    ids = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt.ids)] = prompt.ids
    device = next(backbone.decoder.parameters()).device
    row_t = torch.from_numpy(np.repeat(np.arange(len(prompts)), [len(p.position) for p in prompts])).to(device)
    position = torch.from_numpy(np.concatenate([p.position for p in prompts])).to(device)
    embedded = backbone.model.get_input_embeddings()(torch.from_numpy(ids).to(device))
    if soft is not None:
        line = torch.from_numpy(np.repeat(np.arange(len(prompts)), [len(p.asked) for p in prompts])).to(device)
        place = torch.from_numpy(np.concatenate([p.asked for p in prompts])).to(device)
        embedded = embedded.index_put((line, place), soft.to(device, embedded.dtype), accumulate=True)
    mask, places = branch_mask(prompts, width, embedded.dtype) if any(len(p.branch) for p in prompts) else (None, None)
    longest = width if places is None else int(places.max()) + 1
    if longest > backbone.longest:
        raise UserError(
            f"a prompt has {longest} tokens, the language model reads {backbone.longest}; lower llm.window_tokens and "
            "llm.eval_window_tokens, or where prompts are pointwise data.history_length"
        )
    out = backbone.decoder(
        inputs_embeds=embedded,
        attention_mask=None if mask is None else mask.to(device),
        position_ids=None if places is None else places.to(device),
        use_cache=False,
        output_hidden_states=bool(blocks),
    )
    state = out.last_hidden_state[row_t, position].float()
    return LLMOutput(backbone.answer_logits(state), tuple(out.hidden_states[b][row_t, position] for b in blocks))


def branch_mask(prompts: Sequence[Prompt], width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What branches may see: what is added to attention scores, [prompts, 1, width, width], and each token's place in
    its own document, int64 [prompts, width]."""
    index = np.arange(width)
    mask = np.repeat((index <= index[:, None])[None], len(prompts), axis=0)
    places = np.repeat(index[None], len(prompts), axis=0)
    for row, prompt in enumerate(prompts):
        ends = [*prompt.branch.tolist(), len(prompt.ids)][1:]
        for begin, end, sees in zip(prompt.branch.tolist(), ends, prompt.sees.tolist(), strict=True):
            mask[row, begin:end, sees:begin] = False
            places[row, begin:end] = sees + np.arange(end - begin)
        places[row, len(prompt.ids) :] = 0
    added = torch.zeros(mask.shape, dtype=dtype).masked_fill_(torch.from_numpy(~mask), torch.finfo(dtype).min)
    return added.unsqueeze(1), torch.from_numpy(places)


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

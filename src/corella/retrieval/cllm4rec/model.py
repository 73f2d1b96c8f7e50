"""The language model with id tokens: two sets of embeddings, a head over items, a head over words."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from corella.config import RetrievalConfig
from corella.llm.backbone import Backbone
from corella.llm.batches import moved
from corella.retrieval.cllm4rec.documents import Document, HeldOut, Written, write
from corella.retrieval.cllm4rec.tokens import IdTokens


class HeadTable(nn.Module):
    """Embeddings of items in the items' head: one of its own for each, and what a map makes of its text."""

    def __init__(self, items: int, width: int, size: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.empty(items, size))
        self.map = nn.Parameter(torch.empty(width, size))
        self.start(torch.default_generator)

    @torch.no_grad()
    def start(self, generator: torch.Generator) -> None:
        """Begin, or begin again, with small random numbers."""
        for parameter in (self.own, self.map):
            parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))

    def forward(self, texts: Tensor) -> Tensor:
        """`texts` [items, width] -> [items, size]."""
        return self.own + texts @ self.map


class CLLM(nn.Module):
    """`collaborative` and `content` embeddings, and the output embeddings of items.

    The head for items scores items only, the head for words scores words only. [paper] ties the items' head to their
    collaborative embeddings; separate output embeddings with a bias are [ours], and the default.
    """

    def __init__(self, backbone: Backbone, users: int, items: int, config: RetrievalConfig) -> None:
        super().__init__()
        std, tied = config.std, config.tied
        self._backbone = [backbone]  # in a list: frozen weights are not this module's
        self.whole: nn.Module | None = None
        if config.backbone != "frozen":
            self.whole = backbone.model.requires_grad_(True)
        vocabulary, width = backbone.model.get_input_embeddings().weight.shape
        self.collaborative = IdTokens(vocabulary, users, items, width, std)
        self.content = IdTokens(vocabulary, users, items, width, std)
        self.tied = tied
        size = width if tied else config.head_size
        self.narrow = None if tied else nn.Linear(width, size, bias=False)
        self.output = None if tied else HeadTable(items, width, size)
        self.pooled = HeadTable(items, width, size) if config.pooled else None
        if self.narrow is not None:
            nn.init.zeros_(self.narrow.weight)
        self.weight: Tensor
        self.register_buffer("weight", torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(items))
        self.texts: Tensor
        self.register_buffer("texts", torch.zeros(items, width))
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.to(self.device)

    @property
    def backbone(self) -> Backbone:
        """The language model."""
        return self._backbone[0]

    @property
    def item_size(self) -> int:
        """Width of item states."""
        return self.collaborative.item.embedding_dim if self.output is None else self.output.own.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the backbone is."""
        device: torch.device = self.backbone.model.get_input_embeddings().weight.device
        return device

    @torch.no_grad()
    def start_items(self, table: np.ndarray) -> None:
        """Let items begin as the rows of `table` [items, width], users as the mean of all items. [ours]"""
        self.collaborative.item.weight.copy_(torch.from_numpy(table))
        self.collaborative.user.weight += self.collaborative.item.weight.mean(0)
        self.content.load_state_dict(copy.deepcopy(self.collaborative.state_dict()))

    @torch.no_grad()
    def tell_texts(self, table: np.ndarray) -> None:
        """Let the items' head read `table` [items, width], each dimension with mean 0 and variance 1 / width. [ours]"""
        means = torch.from_numpy(table)
        self.texts.copy_((means - means.mean(0)) / (means.std(0) + 1e-6) / means.shape[1] ** 0.5)

    @torch.no_grad()
    def start_from_popularity(self, counts: np.ndarray) -> None:
        """Let the items' bias begin as the log of their share of the training answers. [ours]"""
        self.bias.copy_(torch.from_numpy(np.log((counts + 1.0) / (counts.sum() + len(counts)))).float())

    @torch.no_grad()
    def start_from_states(self, documents: Sequence[Document]) -> None:
        """Let the separate items' head see states that have mean 0 and variance 1 over the main tokens of these
        documents. The backbone's own have a few dimensions that are large and the same for everybody: steps of one size
        in all of them are too large for one and too small for the next. [ours]"""
        if self.tied:
            return
        written = self.written(documents)
        state = self.states(written, self.collaborative)[written.row, written.place].float()
        self.centre.copy_(state.mean(0))
        self.spread.copy_(state.std(0) + 1e-3)

    def written(self, documents: Sequence[Document]) -> Written:
        """Documents as tensors, where the backbone is."""
        found: Written = moved(write(documents, self.collaborative), self.device)
        return found

    def states(self, written: Written, tokens: IdTokens) -> Tensor:
        """Last hidden states [documents, longest, width] in the backbone's dtype; gradients reach `tokens`."""
        embedded = tokens.embed(written.ids, self.backbone.model.get_input_embeddings())
        hidden: Tensor = self.backbone.decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
        return hidden

    def item_logits(self, state: Tensor) -> Tensor:
        """Item states [..., width] -> [..., items] float32."""
        return state @ self.output_table().T + self.bias

    def output_table(self) -> Tensor:
        """[items, width of item states]: what scores the items."""
        return self.collaborative.item.weight if self.output is None else self.output(self.texts)

    def item_states(self, written: Written) -> Tensor:
        """What the items' head reads, float32 [documents, longest, width]: the last hidden states, standardised, and
        the sum of pooled embeddings of the items up to each position over the root of their number. [ours]

        A frozen backbone looks at the last few tokens more than at all of a history; the sum forgets none.
        """
        return self.weight * self.told_state(written) + self.pooled_state(written)

    def told_state(self, written: Written) -> Tensor:
        """The language model's part of the item states."""
        state = (self.states(written, self.collaborative).float() - self.centre) / self.spread
        return state if self.narrow is None else self.narrow(state)

    def pooled_state(self, written: Written) -> Tensor:
        """The pooled part of the item states, which needs no language model."""
        codes = written.codes
        if self.pooled is None:
            return torch.zeros(*codes.shape, self.item_size, device=self.device)
        table = self.pooled(self.texts)
        told = (codes >= 0).unsqueeze(-1)
        total = (table[codes.clamp(min=0)] * told).cumsum(1)
        found: Tensor = total / told.cumsum(1).clamp(min=1).sqrt()
        return found

    def word_logits(self, state: Tensor) -> Tensor:
        """[..., width] -> [..., words] float32, by the backbone's own head."""
        weight = self.backbone.model.get_output_embeddings().weight
        found: Tensor = (state @ weight.T.to(state.dtype)).float()
        return found

    def item_loss(self, written: Written) -> Tensor:
        """Sum of `-ln p(item_k | prompt, items before k)` (paper, the L-step)."""
        state = self.item_states(written)[written.row, written.place]
        target = written.target - self.collaborative.vocabulary - self.collaborative.users
        return nn.functional.cross_entropy(self.item_logits(state), target, reduction="sum")

    def word_loss(self, written: Written) -> Tensor:
        """Sum of `-ln p(word_k | prompt, words before k)` (paper, the C-step)."""
        state = self.states(written, self.content)[written.row, written.place]
        return nn.functional.cross_entropy(self.word_logits(state), written.target, reduction="sum")

    def followers_loss(self, written: Written, held_out: HeldOut) -> Tensor:
        """Multinomial likelihood of held-out items, for every prefix of the documents' items at once. [ours]

        With a user's items in random order, the state after the first k of them is the paper's fine-tuning example
        "these are kept, those are held out" for that k: its targets are all items that follow, see `all_that_follow`.
        """
        return self._held_out_loss(self.item_states(written)[written.row, written.place], held_out)

    def masked_loss(self, written: Written, held_out: HeldOut) -> Tensor:
        """Sum of `-ln p(item)` over the held-out items of each question (paper, the fine-tuning)."""
        state = self.item_states(written)
        return self._held_out_loss(state[torch.arange(len(state), device=self.device), written.last], held_out)

    def _held_out_loss(self, state: Tensor, held_out: HeldOut) -> Tensor:
        log_p = self.item_logits(state).log_softmax(-1)
        return -(held_out.weight * log_p[held_out.state, held_out.item]).sum()

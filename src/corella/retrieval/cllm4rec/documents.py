"""Documents with soft and hard prompts: a prompt of words and id tokens, and a main text of one kind of token.

Collaborative: `user_i has interacted with`, then the user's item tokens, in a new order each time. Content: `The
description of item_j is`, then words of the item's text, or `user_i wrote the following review for item_j:`, then words
of the review. Every main token is a target, the first included. The paper's fine-tuning has a prompt only: `user_i has
interacted with`, items, `user_i will interact with`; what comes next is read off the state behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corella.columns import long_texts
from corella.data.dataset import Dataset
from corella.llm.backbone import Backbone
from corella.llm.prompts import begin_ids
from corella.retrieval.cllm4rec.tokens import IdTokens

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Document:
    """Token ids; the main text begins at `main`."""

    ids: Ints
    main: int

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return len(self.ids)


class Documents:
    """Puts documents together for one dataset and backbone."""

    def __init__(self, dataset: Dataset, backbone: Backbone, tokens: IdTokens, longest: int) -> None:
        """`longest`: how many words (tokens) of a text are read."""
        self._tokens = tokens
        self._texts = long_texts(dataset.items)
        self._encode, self._longest = backbone.encode, longest

        def piece(text: str) -> Ints:
            return np.asarray(backbone.encode(text), dtype=np.int64)

        self._begin = begin_ids(backbone)
        self._someone = np.concatenate([self._begin, piece("A user")])
        self._interacted = piece(" has interacted with")
        self._comma = piece(",")
        self._will = piece(" will interact with")
        self._wrote, self._colon = piece(" wrote the following review for"), piece(":")
        self._describe, self._is = np.concatenate([self._begin, piece("The description of")]), piece(" is")

    def collaborative(self, user: int, items: Ints) -> Document:
        """A user's items in the order given; `user` -1 is somebody without a token."""
        prompt = np.concatenate([self._who(user), self._interacted])
        return Document(np.concatenate([prompt, self._tokens.item_ids(items)]), len(prompt))

    def question(self, user: int, items: Ints) -> Document:
        """What a user will interact with after these items: a prompt without a main text."""
        known = self.collaborative(user, items)
        again = self._who(user)[len(self._begin) :]
        ids = np.concatenate([known.ids, self._comma, again, self._will])
        return Document(ids, len(ids))

    def content(self, item: int) -> Document:
        """An item's text."""
        prompt = np.concatenate([self._describe, self._tokens.item_ids(np.array([item])), self._is])
        return self._written(prompt, self._texts[item])

    def review(self, user: int, item: int, text: str) -> Document:
        """What a user wrote about an item."""
        token = self._tokens.item_ids(np.array([item]))
        return self._written(np.concatenate([self._who(user), self._wrote, token, self._colon]), text)

    def _who(self, user: int) -> Ints:
        return np.r_[self._begin, self._tokens.user_id(user)] if user >= 0 else self._someone

    def _written(self, prompt: Ints, text: str) -> Document:
        words = np.asarray(self._encode(" " + text)[: self._longest], dtype=np.int64)
        return Document(np.concatenate([prompt, words]), len(prompt))


@dataclass(frozen=True)
class Written:
    """Documents of one forward pass as tensors, padded with zeros at the right, which causal attention never sees; n
    main tokens in all."""

    ids: Tensor
    """[documents, longest] int64."""
    codes: Tensor
    """[documents, longest] int64: the item of each token; negative where it is none."""
    row: Tensor
    """[n] int64: the document of each main token."""
    place: Tensor
    """[n] int64: the place before it, where it is predicted."""
    target: Tensor
    """[n] int64: its id."""
    last: Tensor
    """[documents] int64: the last token of each."""


@dataclass(frozen=True)
class HeldOut:
    """Which state predicts which items, and how much each counts."""

    state: Tensor
    """[pairs] int64: the main token, or the document, whose state it is."""
    item: Tensor
    """[pairs] int64."""
    weight: Tensor
    """[pairs] float32."""


def write(documents: Sequence[Document], tokens: IdTokens) -> Written:
    """Tensors on the CPU."""
    ids = np.zeros((len(documents), max(d.tokens for d in documents)), dtype=np.int64)
    for row, document in enumerate(documents):
        ids[row, : document.tokens] = document.ids
    last = np.array([d.tokens - 1 for d in documents])
    arrays = (ids, tokens.item_codes(ids), *main_places(documents), last)
    return Written(*(torch.from_numpy(array) for array in arrays))


def main_places(documents: Sequence[Document]) -> tuple[Ints, Ints, Ints]:
    """For every main token of the documents: its row, the place before it (where it is predicted), and its id."""
    row = np.repeat(np.arange(len(documents)), [d.tokens - d.main for d in documents])
    place = np.concatenate([np.arange(d.main - 1, d.tokens - 1) for d in documents])
    return row, place, np.concatenate([d.ids[d.main :] for d in documents])


def all_that_follow(documents: Sequence[Document], tokens: IdTokens, least_shown: float) -> HeldOut:
    """The state before each item of a document predicts that item and those behind it, from a share of the items on.
    [ours]

    A state counts as the mean over its items; the states that count, as often as there are items.
    """
    states, items, weights = [], [], []
    first = 0
    for document in documents:
        codes = tokens.item_codes(document.ids[document.main :])
        n = len(codes)
        state, item = np.triu_indices(n)
        counts = state >= int(least_shown * n)
        state, item = state[counts], item[counts]
        states.append(first + state)
        items.append(codes[item])
        weights.append(1 / (n - state) / (1 - least_shown))
        first += n
    return _held_out(states, items, weights)


def last_predicts(held_out: Sequence[Ints]) -> HeldOut:
    """The last state of each document predicts its held-out items (paper, the fine-tuning)."""
    states = [np.full(len(items), row) for row, items in enumerate(held_out)]
    return _held_out(states, held_out, [np.ones(len(items)) for items in held_out])


def _held_out(states: Sequence[Ints], items: Sequence[Ints], weights: Sequence[npt.NDArray[np.float64]]) -> HeldOut:
    state, item, weight = (torch.from_numpy(np.concatenate(parts)) for parts in (states, items, weights))
    return HeldOut(state, item, weight.float())

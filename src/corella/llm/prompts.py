"""What both prompt styles share: item lines as tokens, and prompts as token ids with answer positions.

Pieces of text are tokenised once and joined as ids, so that training and serving see the same tokens whatever
stands around a piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import long_texts
from corella.config import LLMConfig
from corella.data.dataset import Dataset
from corella.data.scope import Scope
from corella.llm.backbone import Backbone
from corella.llm.guard import guarded, special_names
from corella.llm.ragged import Ragged, ragged

Ints = npt.NDArray[np.int64]

SHARE_WORDS = (*(str(i) for i in range(10)), "few", "new")
"""How an item's past counts are written: tenths of positive answers, few (under five answers), new (none)."""


@dataclass(frozen=True)
class Prompt:
    """One sequence with its targets."""

    ids: Ints
    position: Ints
    """Where each target's answer is predicted: the position before the answer."""
    sample: Ints
    """The samples that the targets are, as positions in the `Samples` that were planned."""
    asked: Ints
    """Every position at which an item is asked about, ascending: the targets' and those of context lines."""
    row: Ints
    """The log rows of the context lines, in order: `asked` without `position`."""
    branch: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Where each branch begins: tokens from there to the next branch (or the end) see each other, and of the tokens
    before the first branch only the first `sees`."""
    sees: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


_BLOCK = 4096
"""Texts that are tokenised at once: what a tokenizer tells of them takes far more memory than their ids."""
_USER_TOKENS = 128
"""Of a user's introduction; what is longer is cut."""
UNKNOWN_USER = "A user. Likes it?"


@dataclass(frozen=True, eq=False)
class Tokens:
    """How texts become token ids."""

    backbone: Backbone
    lead: str
    """What stands before every item text: a space after a word, else nothing."""
    longest: int
    """Tokens of an item's text that are kept."""
    remarks: Sequence[str] = ()
    """What the prompt writes behind items; texts may not."""

    def items(self, texts: Sequence[str]) -> Ragged:
        """Token ids of items' texts, guarded."""
        return ragged(
            ids for start in range(0, len(texts), _BLOCK) for ids in self._read(texts[start : start + _BLOCK])
        )

    def _read(self, texts: Sequence[str]) -> list[list[int]]:
        asked = [self.lead + guarded(text, self._special) for text in texts]
        encoded: list[list[int]] = self.backbone.tokenizer(asked, add_special_tokens=False)["input_ids"]
        return [ids[: self.longest] for ids in encoded]

    def user(self, text: str) -> Ints:
        """Token ids of a user's introduction, guarded."""
        return self.own(guarded(text, self._special))[:_USER_TOKENS]

    def own(self, text: str) -> Ints:
        """Token ids of a text of ours, as it stands."""
        return np.asarray(self.backbone.encode(text), dtype=np.int64)

    @cached_property
    def _special(self) -> list[str]:
        return [*self.remarks, *special_names(self.backbone.tokenizer)]


@dataclass(frozen=True, eq=False)
class Texts:
    """Token ids of the items and users of a dataset, or of a request. Made by `dataset_texts`."""

    tokens: Tokens
    users: Sequence[str] | pl.Series
    items: Ragged
    read: dict[int, Ints] = field(default_factory=dict)
    """Introductions of users that were asked for already."""

    def narrowed(self, scope: Scope) -> "Texts":
        """The same texts for the small world of a request."""
        if scope.new_user is not None:
            user = scope.new_user.text
        else:
            user = UNKNOWN_USER if scope.user < 0 else self.users[scope.user]
        items = [self.item(code) for code in scope.items.tolist()]
        described = self.tokens.items([unknown.text for unknown in scope.new_items.values()])
        for code, ids in zip(scope.new_items, described, strict=True):
            items[code] = ids
        return Texts(self.tokens, [user], ragged(items))

    @cached_property
    def unknown_item(self) -> Ints:
        """For an item that is not in the catalogue."""
        return self.tokens.own(self.tokens.lead + "unknown item")

    def item(self, code: int) -> Ints:
        """Token ids of an item's text."""
        return self.items[code] if code >= 0 else self.unknown_item

    def user(self, code: int) -> Ints:
        """Token ids of a user's introduction."""
        if code not in self.read:
            self.read[code] = self.tokens.user(self.users[code] if code >= 0 else UNKNOWN_USER)
        return self.read[code]


def dataset_texts(
    dataset: Dataset, backbone: Backbone, lead: str, config: LLMConfig, remarks: Sequence[str] = ()
) -> Texts:
    """The texts of a dataset. `lead`, `remarks`: see `Tokens`; `config`: whether descriptions are read behind item
    texts, and how many tokens are kept."""
    tokens = Tokens(backbone, lead, config.item_tokens, remarks)
    texts = long_texts(dataset.items) if config.descriptions else dataset.items["text"].to_list()
    return Texts(tokens, dataset.users["text"], tokens.items(texts))


def begin_ids(backbone: Backbone) -> Ints:
    """The token that the model expects first, where its tokenizer adds one."""
    ids = backbone.tokenizer("a")["input_ids"]
    first = backbone.tokenizer.bos_token_id
    return np.array([first] if first is not None and ids and ids[0] == first else [], dtype=np.int64)


def share_word(answers: Ints, positives: Ints) -> Ints:
    """Index into `SHARE_WORDS` for past counts, elementwise.

    >>> share_word(np.array([0, 3, 10, 10]), np.array([0, 3, 7, 10])).tolist()
    [11, 10, 7, 9]
    """
    tenth = np.minimum(10 * positives // np.maximum(answers, 1), 9)
    return np.where(answers == 0, 11, np.where(answers < 5, 10, tenth))

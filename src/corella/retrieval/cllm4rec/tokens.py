"""User and item tokens: rows beyond a language model's own vocabulary, with embeddings of their own.

Word ids stay below `vocabulary`; user u is `vocabulary + u`, item j is `vocabulary + users + j` (paper, section 3.1).
Documents are put together as ids, never as text, so no tokenizer can split an id token, and a title that reads
"item_12" is only words.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Ints = npt.NDArray[np.int64]


class IdTokens(nn.Module):
    """One set of embeddings of users and items (there are two: collaborative and content)."""

    def __init__(self, vocabulary: int, users: int, items: int, width: int, std: float) -> None:
        """Rows are drawn from N(0, std^2)."""
        super().__init__()
        self.vocabulary, self.users, self.items = vocabulary, users, items
        self.user = nn.Embedding(users, width)
        self.item = nn.Embedding(items, width)
        nn.init.normal_(self.user.weight, std=std)
        nn.init.normal_(self.item.weight, std=std)

    def user_id(self, code: int) -> int:
        """Token id of a user."""
        return self.vocabulary + code

    def item_ids(self, codes: Ints) -> Ints:
        """Token ids of items."""
        return self.vocabulary + self.users + np.asarray(codes, dtype=np.int64)

    def item_codes(self, ids: Ints) -> Ints:
        """Items of token ids; ids of words and users become negative."""
        return np.asarray(ids, dtype=np.int64) - self.vocabulary - self.users

    def embed(self, ids: Tensor, words: nn.Module) -> Tensor:
        """[..., width] of ids [...]; `words` embeds the language model's own ids."""
        # Every token is looked up in all tables: to pick some by a mask, the program would wait for a GPU.
        word: Tensor = words(ids.clamp(max=self.vocabulary - 1))
        code = ids - self.vocabulary
        user = self.user(code.clamp(0, self.users - 1)).to(word.dtype)
        item = self.item((code - self.users).clamp(0, self.items - 1)).to(word.dtype)
        named = torch.where((code >= self.users).unsqueeze(-1), item, user)
        return torch.where((code >= 0).unsqueeze(-1), named, word)

    def named(self, ids: Ints) -> tuple[Ints, Ints]:
        """The distinct users and items that ids name, as codes."""
        codes = np.unique(ids) - self.vocabulary
        return codes[(codes >= 0) & (codes < self.users)], codes[codes >= self.users] - self.users


def squared_distance(one: IdTokens, other: IdTokens, users: Tensor, items: Tensor) -> Tensor:
    """Sum of squared distances between both sets' embeddings of users and items (codes); only `one` gets gradients."""
    apart = (one.item(items) - other.item.weight.detach()[items]).square().sum()
    found: Tensor = apart + (one.user(users) - other.user.weight.detach()[users]).square().sum()
    return found

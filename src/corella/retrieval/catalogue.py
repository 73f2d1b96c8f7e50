"""What is known of items beside the linear model: the other sources of the fusion."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_matrix, diags, hstack

from corella.columns import long_texts
from corella.data.dataset import Dataset
from corella.retrieval.linear import Strengths, TextPart, TogetherCounts
from corella.retrieval.neighbourhoods import fit_neighbourhoods, nearest_items

Floats = npt.NDArray[np.float32]

_LATELY = 0.1
"""The newest share of the rows."""
_NEAR = 64
"""Items that speak for another one in `together` and `next`."""
_RARE = 2
"""A word of fewer items says nothing of others."""


@dataclass(frozen=True)
class Catalogue:
    """All of it is told of every item; sparse matrices are [items, items] or [items, values]."""

    vectors: Floats | None
    """[items, width], each of length 1, centred: their texts; None where they are not read."""
    words: csr_matrix
    """TF-IDF of their texts, each row of length 1 or 0."""
    fields: csr_matrix
    """Values of `data.item_fields` and `data.list_fields`, rare ones counting more, each row of length 1 or 0."""
    together: csr_matrix
    """Weights of what is liked by the same people, without texts and order (EASE, of the nearest items)."""
    next: csr_matrix
    """Weights of what comes next alone."""
    follows: csr_matrix
    """How often an item (column) came right or soon after another (row)."""
    popularity: Floats
    """[items]: log(1 + likes)."""
    lately: Floats
    """[items]: the same of the newest tenth of the rows."""
    new: Floats
    """[items]: the share of the rows that came before the item's first one; 1 where it has none."""


def make_catalogue(
    dataset: Dataset, learned: Sequence[str], counts: TogetherCounts, text: TextPart | None, penalty: float
) -> Catalogue:
    """What the splits to learn from say. `counts`: of them; `penalty`: the linear model's."""
    rows = np.sort(np.concatenate([dataset.rows(split) for split in learned]))
    rows = rows[dataset.label[rows] == 1]
    items = dataset.items.height
    item = dataset.item[rows]
    new = np.ones(items, np.float32)
    new[item[::-1]] = (np.arange(len(item))[::-1] / max(len(item), 1)).astype(np.float32)
    popularity, lately = (
        np.log1p(np.bincount(some, minlength=items)).astype(np.float32)
        for some in (item, item[int((1 - _LATELY) * len(item)) :])
    )
    near = nearest_items(counts, None, _NEAR)
    together, following = (
        csr_matrix(fit_neighbourhoods(counts, None, strengths, near).weights)
        for strengths in (Strengths(3 * penalty), Strengths(penalty, following=30.0))
    )
    return Catalogue(
        None if text is None else text.vectors, word_rows(long_texts(dataset.items)), field_rows(dataset), together,
        following, counts.follows.astype(np.float32), popularity, lately, new,
    )  # fmt: skip


def word_rows(texts: Sequence[str]) -> csr_matrix:
    """TF-IDF rows of texts, float32 [items, words].

    >>> rows = word_rows(["red nail polish", "nail polish", "soap"])
    >>> (rows @ rows.T).toarray().round(2).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer(sublinear_tf=True, min_df=min(_RARE, len(texts)), stop_words="english", dtype=np.float32)
    try:
        return csr_matrix(reader.fit_transform([text or "" for text in texts]))
    except ValueError:  # no word is in two texts
        return csr_matrix((len(texts), 1), dtype=np.float32)


def field_rows(dataset: Dataset) -> csr_matrix:
    """Rows of the values that the items' fields hold, float32 [items, values]."""
    config, items = dataset.config, dataset.items.height
    parts = [_values(dataset.items[name]) for name in (*config.item_fields, *config.list_fields)]
    held = csr_matrix(hstack(parts)) if parts else csr_matrix((items, 1), dtype=np.float32)
    often = np.asarray((held > 0).sum(axis=0)).ravel()
    held = held @ diags(np.log(items / np.maximum(often, 1)).astype(np.float32))
    length = np.sqrt(np.asarray(held.multiply(held).sum(axis=1)).ravel())
    return csr_matrix(diags((1 / np.where(length > 0, length, 1)).astype(np.float32)) @ held, dtype=np.float32)


def _values(column: pl.Series) -> csr_matrix:
    """A row an item: 1 for each value that it has."""
    told = pl.DataFrame({"value": column}).with_row_index("row")
    told = (told.explode("value") if told.schema["value"].is_nested() else told).drop_nulls().unique()
    code = told["value"].cast(pl.String).rank("dense").to_numpy().astype(np.int64) - 1
    ones = np.ones(told.height, np.float32)
    return csr_matrix((ones, (told["row"].to_numpy(), code)), shape=(len(column), int(code.max(initial=0)) + 1))

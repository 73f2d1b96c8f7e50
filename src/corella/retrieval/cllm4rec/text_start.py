"""Where items begin in the language model's space: what stands in their texts. [ours]"""

import numpy as np
import numpy.typing as npt

from corella.columns import long_texts
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.llm.backbone import Backbone, embed_texts

Floats = npt.NDArray[np.float32]


def item_table(dataset: Dataset, backbone: Backbone, start: str) -> Floats:
    """A vector for every item, float32 [items, width of the language model].

    `words`: the mean of its text's word embeddings. `encoder`: what the text encoder made of it, turned into the wider
    space by random orthogonal directions, which keep cosines, and as long as those means are. Raises `UserError` for
    `encoder` without one (`data.text.encoder: none`).
    """
    words = embed_texts(long_texts(dataset.items), backbone)
    if start == "words":
        return words
    if dataset.vectors is None:
        raise UserError("retrieval.start is encoder, but data.text.encoder is none; set start to words")
    vectors, width = dataset.vectors - dataset.vectors.mean(axis=0), words.shape[1]
    if vectors.shape[1] > width:
        vectors = vectors @ np.linalg.svd(vectors, full_matrices=False)[2][:width].T
    drawn = np.random.default_rng(0).normal(size=(width, vectors.shape[1]))
    turned = vectors @ np.linalg.qr(drawn)[0].T.astype(np.float32)
    spread = words - words.mean(axis=0)
    scale = np.linalg.norm(spread, axis=1).mean() / max(float(np.linalg.norm(turned, axis=1).mean()), 1e-9)
    return np.asarray(words.mean(axis=0) + scale * turned, dtype=np.float32)

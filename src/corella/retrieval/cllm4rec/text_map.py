"""Embeddings for items that nobody has answered yet: a linear map from what the backbone reads in their text. [ours]

One pass over an item's text gives the mean of its last hidden states; ridge regression on the known items maps that to
their output embedding and their bias: how they are scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import Ridge

from corella.llm.backbone import Backbone
from corella.retrieval.cllm4rec.model import CLLM

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NewItems:
    """What the model needs of n items that only have a text."""

    output: Floats
    """[n, width], to be scored."""
    bias: Floats
    """[n]."""


@torch.inference_mode()
def read_texts(backbone: Backbone, texts: Sequence[str], longest: int) -> Floats:
    """Mean last hidden state of each text, float32 [n, width]."""
    device = backbone.model.get_input_embeddings().weight.device
    rows = []
    for text in texts:
        ids = torch.tensor([backbone.encode(text)[:longest] or [0]], device=device)
        rows.append(backbone.decoder(input_ids=ids, use_cache=False).last_hidden_state[0].float().mean(0).cpu())
    return torch.stack(rows).numpy()


def map_texts(model: CLLM, known: Floats, new: Floats, penalty: float) -> NewItems:
    """Fit on the known items' texts (`known`, [items, width]) and apply to new ones ([n, width])."""
    parts = [model.output_table(), model.bias.unsqueeze(1)]
    target = torch.cat(parts, dim=1).detach().cpu().numpy()
    width = target.shape[1] - 1
    scale = known.std(0) + 1e-6
    mapped = Ridge(alpha=penalty).fit(known / scale, target).predict(new / scale).astype(np.float32)
    return NewItems(mapped[:, :width], mapped[:, width])

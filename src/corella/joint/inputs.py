"""What one forward pass of stages 2 and 3 reads, as tensors: everything that can be made before the step."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corella.crm.encoder import CRMBatch, CRMEncoder
from corella.data.samples import Samples
from corella.joint.reading import Pass
from corella.joint.soft_tokens import SoftTokens
from corella.llm.batches import Batch, make_batch
from corella.llm.scoring import Prompts


@dataclass(frozen=True)
class Inputs:
    """A group of prompts with n targets."""

    sample: npt.NDArray[np.int64]
    """[n]: which training samples the targets are."""
    tokens: int
    batch: Batch
    label: Tensor
    """[n] float32."""
    base: Tensor | None
    """[n] float32: the ensemble's logits, where the language model learns what they leave open."""
    crm: CRMBatch | None
    """The targets as the conventional model reads them, where it takes part."""
    views: Tensor | None
    """[lines, width] float32: what the held-out base model thinks of every line, where there are soft tokens."""
    counts: bool
    """See `Pass`."""


@dataclass(frozen=True, eq=False)
class MakeInputs:
    """Makes them from planned prompts."""

    prompts: Prompts
    encoder: CRMEncoder
    dtype: torch.dtype
    """In which the language model computes."""
    base: Tensor | None = None
    """[training samples] float32."""
    soft_tokens: SoftTokens | None = None

    def __call__(self, one: Pass, train: Samples, with_crm: bool) -> Inputs:
        """`one`: planned prompts of `train`; `with_crm`: whether the conventional model takes part."""
        rendered = [self.prompts.render(planned, train) for planned in one.prompts]
        sample = np.concatenate([prompt.sample for prompt in rendered])
        return Inputs(
            sample,
            sum(len(prompt.ids) for prompt in rendered),
            make_batch(rendered, self.dtype),
            torch.from_numpy(train.label[sample]).float(),
            None if self.base is None else self.base[sample],
            self.encoder.batch(train.take(sample)) if with_crm else None,
            None if self.soft_tokens is None else self.soft_tokens.views(rendered, train),
            one.counts,
        )

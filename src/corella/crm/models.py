"""The conventional models. Each is a module `CRMBatch -> CRMOutput` with `hidden_sizes`.

Any such module can take their place. All read the same inputs; a model is how these interact. Those whose
interactions work field by field are in `interactions`, those that read the history as a sequence in `sequence`.
"""

from typing import Protocol

import torch
from torch import nn

from corella.config import CRMConfig
from corella.crm.attention import ActivationUnit
from corella.crm.encoder import CRMBatch
from corella.crm.interactions import AutoInt, FiBiNET, XDeepFM
from corella.crm.layers import Columns, CRMOutput, Embedder, LinearPart, deep, layer_outputs
from corella.crm.sequence import SASRec
from corella.crm.spec import CRMSpec


class CRM(Protocol):
    """What the rest of the system needs of a conventional model (besides being an `nn.Module`)."""

    hidden_sizes: list[int]

    def __call__(self, batch: CRMBatch) -> CRMOutput:
        """Logits and hidden layers of a batch."""
        ...


class DCNv2(nn.Module):
    """Deep & Cross Network v2 (Wang et al., 2021, arXiv 2008.13535), parallel form.

    Cross layer: `x_{l+1} = x_0 * (W_l x_l + b_l) + x_l`; its outputs are the hidden layers that alignment
    reads.
    """

    def __init__(self, spec: CRMSpec, config: CRMConfig) -> None:
        super().__init__()
        self.embed = Embedder(spec, config)
        size = self.embed.flat_size
        self.cross = nn.ModuleList(nn.Linear(size, size) for _ in range(config.cross_layers))
        sizes = [size, *config.hidden]
        self.deep = deep(sizes, config.dropout)
        self.output = nn.Linear(size + sizes[-1], 1)
        self.hidden_sizes = [size] * config.cross_layers

    def forward(self, batch: CRMBatch) -> CRMOutput:
        """Logits and hidden layers of a batch."""
        x0 = self.embed(batch).flat
        x, hidden = x0, []
        for layer in self.cross:
            x = torch.addcmul(x, x0, layer(x))
            hidden.append(x)
        logit = self.output(torch.cat([x, self.deep(x0)], dim=1)).squeeze(1)
        return CRMOutput(logit, tuple(hidden))


class LR(nn.Module):
    """Logistic regression (for click prediction: Richardson et al., WWW 2007).

    `logit = b + sum_f w_f`, one weight for every value of a column, see `LinearPart`; the one hidden layer is
    the vector of the summands.
    """

    def __init__(self, spec: CRMSpec, config: CRMConfig) -> None:
        super().__init__()
        self.columns = Columns(spec, config)
        self.linear = LinearPart(spec, config)
        self.bias = nn.Parameter(torch.zeros(()))
        self.hidden_sizes = [self.linear.size]

    def forward(self, batch: CRMBatch) -> CRMOutput:
        """Logits and hidden layers of a batch."""
        summands = self.linear(self.columns(batch.fields), batch)
        return CRMOutput(summands.sum(1) + self.bias, (summands,))


class DeepFM(nn.Module):
    """DeepFM (Guo et al., IJCAI 2017, arXiv 1703.04247): a factorisation machine beside a deep part.

    `logit = linear + sum_{i<j} <v_i, v_j> + deep(v)`, the pairs by `((sum v)^2 - sum v^2) / 2`. Hidden
    layers: that vector before its sum, then the deep layers.
    """

    def __init__(self, spec: CRMSpec, config: CRMConfig) -> None:
        super().__init__()
        self.embed = Embedder(spec, config, count_field=True)
        self.linear = LinearPart(spec, config)
        sizes = [self.embed.flat_size, *config.hidden]
        self.deep = deep(sizes, config.dropout)
        self.output = nn.Linear(sizes[-1], 1)
        self.hidden_sizes = [config.embedding_size, *config.hidden]

    def forward(self, batch: CRMBatch) -> CRMOutput:
        """Logits and hidden layers of a batch."""
        features = self.embed(batch)
        pairs = 0.5 * (features.fields.sum(1).square() - features.fields.square().sum(1))
        layers = layer_outputs(self.deep, features.flat)
        linear = self.linear(features.indices, batch).sum(1)
        logit = linear + pairs.sum(1) + self.output(layers[-1]).squeeze(1)
        return CRMOutput(logit, (pairs, *layers[1:]))


class DIN(nn.Module):
    """Deep Interest Network (Zhou et al., KDD 2018, arXiv 1706.06978): a deep part reads an attended history.

    `logit = deep([fields, sum_l a(h_l, t) h_l])`. Hidden layers: the attended history (`ActivationUnit`),
    then the deep layers.
    """

    def __init__(self, spec: CRMSpec, config: CRMConfig) -> None:
        super().__init__()
        self.embed = Embedder(spec, config, attention=ActivationUnit(config.embedding_size))
        sizes = [self.embed.flat_size, *config.hidden]
        self.deep = deep(sizes, config.dropout)
        self.output = nn.Linear(sizes[-1], 1)
        self.hidden_sizes = [config.embedding_size, *config.hidden]

    def forward(self, batch: CRMBatch) -> CRMOutput:
        """Logits and hidden layers of a batch."""
        features = self.embed(batch)
        layers = layer_outputs(self.deep, features.flat)
        return CRMOutput(self.output(layers[-1]).squeeze(1), (features.attended, *layers[1:]))


MODELS: dict[str, type[nn.Module]] = {
    "dcnv2": DCNv2,
    "lr": LR,
    "deepfm": DeepFM,
    "autoint": AutoInt,
    "fibinet": FiBiNET,
    "xdeepfm": XDeepFM,
    "din": DIN,
    "sasrec": SASRec,
}


def build_crm(spec: CRMSpec, config: CRMConfig) -> nn.Module:
    """The configured model, its weights drawn from torch's global generator."""
    return MODELS[config.model](spec, config)

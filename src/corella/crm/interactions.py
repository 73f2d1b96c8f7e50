"""Conventional models whose interactions work field by field: AutoInt, FiBiNET and xDeepFM."""

import torch
from torch import Tensor, nn

from corella.config import CRMConfig
from corella.crm.encoder import CRMBatch
from corella.crm.layers import CRMOutput, Embedder, LinearPart, deep, layer_outputs
from corella.crm.spec import CRMSpec


class SelfAttention(nn.Module):
    """AutoInt's layer, `relu(concat_heads(softmax(q k') v) + W_res x)`: [B, F, in] -> [B, F, width].

    The dot products are not scaled, as in the paper.
    """

    def __init__(self, size: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(size, 3 * width, bias=False)
        self.residual = nn.Linear(size, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)
        return torch.relu(mixed.transpose(1, 2).flatten(2) + self.residual(x))


class AutoInt(nn.Module):
    """AutoInt+ (Song et al., CIKM 2019, arXiv 1810.11921): self-attention over fields beside a deep part.

    `x_{l+1} = SelfAttention(x_l)`, `logit = w [x_L, deep(x_0)]`; hidden layers: the fields after each
    attention layer, concatenated.
    """

    def __init__(self, spec: CRMSpec, config: CRMConfig, heads: int = 2) -> None:
        super().__init__()
        self.embed = Embedder(spec, config, count_field=True)
        width = heads * -(-config.embedding_size // heads)
        inputs = [config.embedding_size] + [width] * (config.cross_layers - 1)
        self.attention = nn.ModuleList(SelfAttention(size, width, heads) for size in inputs)
        sizes = [self.embed.flat_size, *config.hidden]
        self.deep = deep(sizes, config.dropout)
        self.output = nn.Linear(self.embed.field_count * width + sizes[-1], 1)
        self.hidden_sizes = [self.embed.field_count * width] * config.cross_layers

    def forward(self, batch: CRMBatch) -> CRMOutput:
        """Logits and hidden layers of a batch."""
        features = self.embed(batch)
        x, hidden = features.fields, []
        for layer in self.attention:
            x = layer(x)
            hidden.append(x.flatten(1))
        logit = self.output(torch.cat([hidden[-1], self.deep(features.flat)], dim=1)).squeeze(1)
        return CRMOutput(logit, tuple(hidden))


class Squeeze(nn.Module):
    """Squeeze and excitation: every field is scaled by a weight that is read from the means of all fields.

    `2 sigmoid` instead of the paper's ReLU: a weight that ReLU sets to 0 at the start would stay there.
    """

    def __init__(self, fields: int, reduction: int = 3) -> None:
        super().__init__()
        inner = max(fields // reduction, 1)
        self.weight = nn.Sequential(nn.Linear(fields, inner), nn.ReLU(), nn.Linear(inner, fields), nn.Sigmoid())

    def forward(self, fields: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = fields * (2 * self.weight(fields.mean(2))).unsqueeze(-1)
        return found


class Bilinear(nn.Module):
    """For every pair of fields i < j the vector `(v_i W_i) * v_j`; [B, F, d] -> [B, pairs, d]."""

    def __init__(self, fields: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(size).repeat(fields - 1, 1, 1))

    def forward(self, fields: Tensor) -> Tensor:
        """See the class."""
        left = torch.einsum("bfd,fde->bfe", fields[:, :-1], self.weight)
        pairs = [left[:, i, None] * fields[:, i + 1 :] for i in range(left.shape[1])]
        return torch.cat(pairs, dim=1)


class FiBiNET(nn.Module):
    """FiBiNET (Huang et al., RecSys 2019, arXiv 1905.09433): fields weighed, then bilinear products of pairs.

    `logit = linear + deep([pairs(v), pairs(squeeze(v))])`, see `Bilinear` and `Squeeze`. Hidden layers: the
    fields after squeeze and excitation, concatenated, then the deep layers.
    """

    def __init__(self, spec: CRMSpec, config: CRMConfig) -> None:
        super().__init__()
        self.embed = Embedder(spec, config, count_field=True)
        self.linear = LinearPart(spec, config)
        fields, d = self.embed.field_count, config.embedding_size
        self.squeeze = Squeeze(fields)
        self.pairs = Bilinear(fields, d)
        self.squeezed_pairs = Bilinear(fields, d)
        sizes = [fields * (fields - 1) * d, *config.hidden]
        self.deep = deep(sizes, config.dropout)
        self.output = nn.Linear(sizes[-1], 1)
        self.hidden_sizes = [fields * d, *config.hidden]

    def forward(self, batch: CRMBatch) -> CRMOutput:
        """Logits and hidden layers of a batch."""
        features = self.embed(batch)
        squeezed = self.squeeze(features.fields)
        pairs = torch.cat([self.pairs(features.fields), self.squeezed_pairs(squeezed)], dim=1)
        layers = layer_outputs(self.deep, pairs.flatten(1))
        logit = self.linear(features.indices, batch).sum(1) + self.output(layers[-1]).squeeze(1)
        return CRMOutput(logit, (squeezed.flatten(1), *layers[1:]))


class XDeepFM(nn.Module):
    """xDeepFM (Lian et al., KDD 2018, arXiv 1803.05170): a compressed interaction network.

    Beside it a linear and a deep part. Layer: `X_{l+1, h} = sum_ij W_{h, ij} X_{l, i} * X_{0, j}`; hidden
    layers: each `X_l` summed over the embedding's width.
    """

    def __init__(self, spec: CRMSpec, config: CRMConfig, maps: int = 16) -> None:
        super().__init__()
        self.embed = Embedder(spec, config, count_field=True)
        self.linear = LinearPart(spec, config)
        fields = self.embed.field_count
        inputs = [fields] + [maps] * (config.cross_layers - 1)
        self.weights = nn.ParameterList(torch.randn(maps, n * fields) * (n * fields) ** -0.5 for n in inputs)
        sizes = [self.embed.flat_size, *config.hidden]
        self.deep = deep(sizes, config.dropout)
        self.output = nn.Linear(config.cross_layers * maps + sizes[-1], 1)
        self.hidden_sizes = [maps] * config.cross_layers

    def forward(self, batch: CRMBatch) -> CRMOutput:
        """Logits and hidden layers of a batch."""
        features = self.embed(batch)
        rows, fields, d = features.fields.shape
        # Fields first: one matrix product a layer over all B * d columns, twice as fast as one for every
        # sample.
        x0 = features.fields.transpose(0, 1).reshape(fields, rows * d)
        x, hidden = x0, []
        for weight in self.weights:
            x = weight @ (x.unsqueeze(1) * x0).flatten(0, 1)
            hidden.append(x.unflatten(1, (rows, d)).sum(2).T)
        parts = torch.cat([*hidden, self.deep(features.flat)], dim=1)
        logit = self.linear(features.indices, batch).sum(1) + self.output(parts).squeeze(1)
        return CRMOutput(logit, tuple(hidden))

"""Conventional models that read the history as a sequence."""

import torch
from torch import Tensor, nn

from corella.config import CRMConfig
from corella.crm.encoder import ANSWERS, CRMBatch
from corella.crm.layers import Columns, CRMOutput, LinearPart
from corella.crm.spec import CRMSpec


class SASRec(nn.Module):
    """Self-attentive sequential recommendation (Kang and McAuley, ICDM 2018, arXiv 1808.09781), for yes/no answers.

    Causal self-attention over the history; `logit = <state of the last item, target> + linear`. Ours: entries
    carry their answers, places are counted from the newest, every sequence begins with a learned token (so that
    an empty history has a state too), and the linear part reads the other columns. Hidden layers: the state
    after every block, the last one times the target.
    """

    def __init__(self, spec: CRMSpec, config: CRMConfig) -> None:
        super().__init__()
        d = config.embedding_size
        self.columns = Columns(spec, config)
        self.linear = LinearPart(spec, config)
        self.table = nn.Embedding(spec.table_size, d)
        self.answer = nn.Embedding(ANSWERS - 1, d)
        self.place = nn.Embedding(spec.history_length, d)
        self.start = nn.Parameter(torch.zeros(d))
        for weight in (self.table.weight, self.answer.weight, self.place.weight, self.start):
            nn.init.normal_(weight, std=0.05)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(d, 1, d, config.dropout, batch_first=True, norm_first=True)
            for _ in range(config.cross_layers)
        )
        self.norm = nn.LayerNorm(d)
        self.bias = nn.Parameter(torch.zeros(()))
        self.hidden_sizes = [d] * config.cross_layers

    def forward(self, batch: CRMBatch) -> CRMOutput:
        """Logits and hidden layers of a batch."""
        indices = self.columns(batch.fields)
        target = self.table(indices[:, self.columns.item])
        x, mask = self._sequence(batch)
        hidden = []
        for block in self.blocks:
            x = block(x, src_mask=mask)
            hidden.append(x[:, -1])
        product = self.norm(hidden[-1]) * target
        logit = product.sum(1) + self.linear(indices, batch).sum(1) + self.bias
        return CRMOutput(logit, (*hidden[:-1], product))

    def _sequence(self, batch: CRMBatch) -> tuple[Tensor, Tensor]:
        """[B, L + 1, d], the learned token where nothing is known, and the mask of attention [B, L + 1, L + 1], true
        where one must not look."""
        present = batch.answers != ANSWERS - 1
        length = batch.answers.shape[1]
        age = torch.arange(length - 1, -1, -1, device=batch.answers.device).clamp(max=self.place.num_embeddings - 1)
        entry = self.table(batch.history_ids) + self.answer(batch.answers.clamp(max=ANSWERS - 2)) + self.place(age)
        entry = torch.where(present.unsqueeze(-1), entry, self.start)
        x = torch.cat([self.start.expand(len(entry), 1, -1), entry], dim=1)
        known = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)
        later = torch.ones(length + 1, length + 1, dtype=torch.bool, device=x.device).triu(1)
        return x, later | ~known.unsqueeze(1)

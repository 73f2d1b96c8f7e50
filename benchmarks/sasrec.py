"""SASRec with full cross-entropy, a baseline of text_retrieval.py; on a GPU or a CPU, torch and numpy alone.

    python benchmarks/sasrec.py SEQUENCES.npz OUT [--seconds 200] [--seeds 1 2 3]

SEQUENCES.npz holds `item` (codes of all users, one after the other) and `start` (where each user begins, and the end),
which `text_retrieval.py --sequences` writes. The last item of a user is for the test, the one before it for validation,
and training reads the others. Every setting of a small grid is trained with the first seed until validation NDCG@10 no
longer grows; the best is trained with the other seeds too. OUT/ranks-SEED.npz has the place of every user's test item
(1 is the best) among all items that the user has not had, OUT/sasrec.json the grid.

SASRec: Kang and McAuley, ICDM 2018. Full cross-entropy over all items in place of sampled negatives, layer norm first.
"""

import argparse
import itertools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW, BATCH, HEADS = 50, 256, 2


@dataclass(frozen=True)
class Setting:
    width: int
    layers: int
    dropout: float
    rate: float = 1e-3


GRID = [Setting(w, n, d) for w, n, d in itertools.product((64, 128), (2,), (0.3, 0.5))]


class SASRec(nn.Module):
    """Causal self-attention over a history, oldest first; items and states are compared in one space."""

    def __init__(self, items: int, setting: Setting) -> None:
        super().__init__()
        width = setting.width
        self.items = items
        self.item = nn.Embedding(items + 1, width, padding_idx=items)
        self.place = nn.Embedding(WINDOW, width)
        for table in (self.item, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(setting.dropout)
        layer = nn.TransformerEncoderLayer(
            width, HEADS, width, setting.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, setting.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(items))

    def forward(self, history: Tensor) -> Tensor:
        """States [batch, length, width] of histories [batch, length], filled up at the right."""
        length = history.shape[1]
        hidden = self.dropout(self.item(history) * self.item.embedding_dim**0.5 + self.place.weight[:length])
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=history.device)
        return self.norm(self.blocks(hidden, mask=mask, is_causal=True))

    def scores(self, states: Tensor) -> Tensor:
        return states @ self.item.weight[: self.items].T + self.bias


def padded(histories: list[np.ndarray], items: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The newest items of histories [n, length], and how many each has."""
    lengths = np.array([min(len(h), WINDOW) for h in histories])
    table = np.full((len(histories), lengths.max()), items, dtype=np.int64)
    for row, history in enumerate(histories):
        table[row, : lengths[row]] = history[-WINDOW:]
    return torch.from_numpy(table).to(device), torch.from_numpy(lengths).to(device)


@torch.inference_mode()
def ranks(model: SASRec, histories: list[np.ndarray], wanted: np.ndarray, device: torch.device) -> np.ndarray:
    """The place of each wanted item among those that are not in the history; ties count against it."""
    model.eval()
    found = []
    for start in range(0, len(histories), 512):
        part = histories[start : start + 512]
        table, lengths = padded(part, model.items, device)
        states = model(table)[torch.arange(len(part), device=device), lengths - 1]
        scores = model.scores(states).float()
        target = torch.from_numpy(wanted[start : start + 512]).to(device)
        own = scores.gather(1, target[:, None])
        row = torch.repeat_interleave(torch.arange(len(part)), torch.tensor([len(h) for h in part]))
        scores[row.to(device), torch.from_numpy(np.concatenate(part)).to(device)] = -torch.inf
        scores.scatter_(1, target[:, None], own)
        found.append((scores >= own).sum(1).cpu().numpy())
    return np.concatenate(found)


def ndcg10(rank: np.ndarray) -> float:
    return float(np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0).mean())


def fit(
    train: list[np.ndarray], valid: np.ndarray, items: int, setting: Setting, seed: int, device: torch.device,
    seconds: float, patience: int = 8,
) -> tuple[SASRec, float, int]:  # fmt: skip
    """The model of the best epoch, its validation NDCG@10, and that epoch."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = SASRec(items, setting).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=setting.rate)
    useful = np.array([u for u, history in enumerate(train) if len(history) > 1])
    inputs, _ = padded([train[u][:-1] for u in useful], items, device)
    targets, _ = padded([train[u][1:] for u in useful], items, device)
    best, kept, at, began, steps = -1.0, {}, 0, time.monotonic(), 0
    for epoch in range(1, 401):
        model.train()
        for part in np.array_split(rng.permutation(len(useful)), -(-len(useful) // BATCH)):
            some = torch.from_numpy(part).to(device)
            target = targets[some]
            real = target < items
            length = int(real.sum(1).max())
            states = model(inputs[some, :length])[real[:, :length]]
            loss = functional.cross_entropy(model.scores(states), target[real])
            steps += 1
            for group in optimiser.param_groups:
                group["lr"] = setting.rate * min(1.0, steps / 200)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        if epoch % 2 == 0:
            quality = ndcg10(ranks(model, train, valid, device))
            if quality > best:
                best, at = quality, epoch
                kept = {name: value.clone() for name, value in model.state_dict().items()}
            if epoch - at >= 2 * patience or time.monotonic() - began > seconds:
                break
    model.load_state_dict(kept)
    return model, best, at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=200.0, help="most for one training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    with np.load(arguments.sequences) as held:
        histories = np.split(held["item"].astype(np.int64), held["start"][1:-1])
    items = int(max(history.max() for history in histories)) + 1
    histories = [history for history in histories if len(history) > 2]
    train = [history[:-2] for history in histories]
    valid, test = (np.array([history[place] for history in histories]) for place in (-2, -1))
    arguments.out.mkdir(parents=True, exist_ok=True)
    device_name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    rows: list[dict[str, object]] = []

    def attempt(setting: Setting, seed: int) -> tuple[SASRec, float]:
        began = time.monotonic()
        model, quality, epoch = fit(train, valid, items, setting, seed, device, arguments.seconds)
        seconds = time.monotonic() - began
        rows.append({**asdict(setting), "seed": seed, "valid_ndcg10": quality, "epoch": epoch, "seconds": seconds})
        (arguments.out / "sasrec.json").write_text(json.dumps({"device": device_name, "rows": rows}, indent=1))
        print(json.dumps(rows[-1]), flush=True)
        return model, quality

    def keep(model: SASRec, seed: int) -> None:
        rank = ranks(model, [history[:-1] for history in histories], test, device)
        np.savez_compressed(arguments.out / f"ranks-{seed}.npz", rank=rank.astype(np.int32))

    best_setting, best_quality = GRID[0], -1.0
    for setting in GRID:
        model, quality = attempt(setting, arguments.seeds[0])
        if quality > best_quality:
            best_setting, best_quality = setting, quality
            keep(model, arguments.seeds[0])
    for seed in arguments.seeds[1:]:
        keep(attempt(best_setting, seed)[0], seed)


if __name__ == "__main__":
    main()

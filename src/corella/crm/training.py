"""Train a conventional model alone (stage 1 of the paper): Adam, early stopping, best weights kept."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from corella.ahead import ahead
from corella.config import CRMConfig
from corella.crm.encoder import CRMBatch, CRMEncoder
from corella.data.on_disk import mixed
from corella.data.samples import Samples
from corella.workers import Workers, here

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_EVAL_BATCH = 8192


@dataclass(frozen=True)
class CRMFit:
    """What training did."""

    valid_auc: list[float]
    """Validation AUC at each evaluation."""
    best: int
    """Position of the best of them; its weights were kept."""
    rows: int
    """Training rows read."""
    seconds: float


def batches(samples: Samples, size: int) -> Iterator[Samples]:
    """Consecutive parts of the samples."""
    for start in range(0, len(samples), size):
        yield samples.take(np.arange(start, min(start + size, len(samples))))


def train_crm(
    model: nn.Module,
    encoder: CRMEncoder,
    train: Samples,
    valid: Samples,
    config: CRMConfig,
    seed: int,
    on_step: Callable[[int, int, float], None] = lambda done, total, loss: None,
    target: Floats | None = None,
) -> CRMFit:
    """Train `model` in place and leave the weights of the best validation AUC in it.

    `on_step(rows read, rows at most, loss)` is called after every step. `target`: float32 [n] probabilities to
    learn instead of the labels. Deterministic for a seed and a machine. Every worker of a training calls it (see
    `corella.workers`): each reads its share of every batch.
    """
    workers = here()
    answers = train.label.astype(np.float32) if target is None else target
    began = time.perf_counter()
    optimiser = crm_optimiser(model, config, config.learning_rate)
    rng, hiding = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    torch.manual_seed(seed + workers.rank)  # of dropout alone: order and hidden items are the same for all
    per_evaluation = -(-len(train) // (config.batch_size * config.evaluations_per_epoch))
    history: list[float] = []
    best: dict[str, Tensor] = {}
    rows = steps = 0

    def prepared(index: Ints) -> CRMBatch:
        part = encoder.hidden(train.take(index), config.hide_items, hiding)
        return encoder.batch(part if workers.size == 1 else part.take(workers.mine(len(index))))

    for _ in range(config.epochs):
        order = mixed(train.counts, rng)
        parts = [order[start : start + config.batch_size] for start in range(0, len(order), config.batch_size)]
        for index, batch in zip(parts, ahead(prepared, parts), strict=True):
            mine = workers.mine(len(index))
            if not model.training:  # an evaluation came between
                model.train()
            optimiser.zero_grad(set_to_none=True)
            total = np.zeros(1, np.float32)
            if len(mine):
                logit = model(batch).logit
                loss = nn.functional.binary_cross_entropy_with_logits(logit, torch.from_numpy(answers[index[mine]]))
                loss = loss * (len(mine) / len(index))
                loss.backward()
                total += float(loss.detach())
            total = workers.add_gradients(model.parameters(), total)
            optimiser.step()
            rows, steps = rows + len(index), steps + 1
            on_step(rows, config.epochs * len(train), float(total[0]))
            if steps % per_evaluation == 0:
                history.append(float(roc_auc_score(valid.label, _logits_together(workers, model, encoder, valid))))
                if int(np.argmax(history)) == len(history) - 1:
                    best = copy.deepcopy(model.state_dict())
                if len(history) - 1 - int(np.argmax(history)) >= config.patience:
                    break
        else:
            continue
        break
    if best:
        model.load_state_dict(best)
    return CRMFit(history, int(np.argmax(history)) if history else -1, rows, time.perf_counter() - began)


def _logits_together(workers: Workers, model: nn.Module, encoder: CRMEncoder, samples: Samples) -> Floats:
    """`crm_logits`, each worker of its share."""
    if workers.size == 1:
        return crm_logits(model, encoder, samples)
    return workers.whole(crm_logits(model, encoder, samples.take(workers.mine(len(samples)))), len(samples))


def crm_optimiser(model: nn.Module, config: CRMConfig, learning_rate: float) -> torch.optim.Adam:
    """Adam with its L2 penalties. They are part of the gradient, not decoupled: so Adam scales them up for the
    embeddings of rare values, which is what keeps those small."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    groups = [
        {"params": [p for p in model.parameters() if (id(p) in tables) is embedding], "weight_decay": decay}
        for embedding, decay in ((True, config.embedding_decay), (False, config.weight_decay))
    ]
    return torch.optim.Adam(groups, lr=learning_rate, fused=True)


@torch.inference_mode()
def crm_outputs(model: nn.Module, encoder: CRMEncoder, samples: Samples) -> tuple[Floats, Floats]:
    """Logits of samples, float32 [n], and their last hidden layer, float32 [n, width]; dropout off."""
    if model.training:  # walking through a model takes longer than a small batch
        model.eval()
    found = [model(encoder.batch(part)) for part in batches(samples, _EVAL_BATCH)]
    if not found:
        return np.zeros(0, dtype=np.float32), np.zeros((0, _last_width(model)), dtype=np.float32)
    logits, hidden = torch.cat([o.logit for o in found]), torch.cat([o.hidden[-1] for o in found])
    return logits.float().numpy(), hidden.float().numpy()


def crm_logits(model: nn.Module, encoder: CRMEncoder, samples: Samples) -> Floats:
    """Logits of samples, float32 [n]; dropout off."""
    return crm_outputs(model, encoder, samples)[0]


def _last_width(model: nn.Module) -> int:
    sizes: list[int] = model.hidden_sizes  # type: ignore[assignment]
    return sizes[-1]

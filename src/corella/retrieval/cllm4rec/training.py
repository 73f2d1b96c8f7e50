"""Training of CLLM4Rec: mutually regularised pretraining, then recommendation-oriented fine-tuning (paper, section 3).

Pretraining alternates steps of the collaborative model (L) and of the content model (C), each drawn towards the other's
embeddings, which are fixed meanwhile. Fine-tuning does the same, with the likelihood of held-out items in the L step.
The state is the number of the next step; documents and their order follow from the seed and the epoch, so a run that
was killed and resumed ends with the same weights as one that was not.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from corella.checkpoint import (
    Facts,
    keep_steps,
    kept_steps,
    optimiser_tensors,
    restore_optimiser,
    with_prefix,
    without_prefix,
)
from corella.config import RetrievalConfig
from corella.errors import UserError
from corella.llm.scoring import group_by_tokens
from corella.retrieval.cllm4rec.documents import Document, Documents
from corella.retrieval.cllm4rec.model import CLLM
from corella.retrieval.cllm4rec.tokens import squared_distance

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One optimiser step: what kind, in which phase and epoch, and which users or items its documents are of."""

    kind: str
    """`items` (L) or `words` (C)."""
    fine_tuning: bool
    epoch: int
    members: Ints
    """Users of an L step; of a C step items, and behind them (from the number of items on) reviews."""


Review = tuple[int, int, str]
"""User and item code of a training pair, and what the user wrote."""

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Example:
    """A document; behind a question also the held-out items (codes, and their token ids)."""

    document: Document
    held_out: Ints = field(default_factory=lambda: _NONE)
    held_out_ids: Ints = field(default_factory=lambda: _NONE)

    @property
    def tokens(self) -> int:
        """How many tokens its documents have."""
        return self.document.tokens

    @property
    def targets(self) -> int:
        """How many targets its documents have."""
        return self.document.tokens - self.document.main + len(self.held_out)

    @property
    def named(self) -> Ints:
        """Ids of all tokens of prompt and targets."""
        return np.concatenate([self.document.ids, self.held_out_ids])


@dataclass(frozen=True)
class RetrievalProgress:
    """Where the training stands."""

    step: int
    steps: int
    epoch: int
    fine_tuning: bool
    losses: dict[str, float]


class RetrievalTrainer:
    """Trains the embeddings of a `CLLM`, and its backbone where that is not frozen."""

    def __init__(
        self,
        model: CLLM,
        documents: Documents,
        liked: Sequence[Ints],
        config: RetrievalConfig,
        seed: int,
        reviews: Sequence[Review] = (),
    ) -> None:
        """`liked`: for every user code the items of the training rows that the user liked; `reviews`: of those."""
        self.model, self.documents, self.liked, self.config, self.seed = model, documents, liked, config, seed
        self.reviews = reviews
        self.told = np.zeros(len(liked), dtype=bool)
        """Users whom a content document names: only they have a content side."""
        if config.reviews_per_epoch > 0:
            self.told[[user for user, _, _ in reviews]] = True
        self.steps = plan_steps(liked, len(model.bias), config, seed, len(reviews))
        self._fine_steps = sum(step.fine_tuning for step in self.steps)
        whole = list(model.whole.parameters()) if model.whole is not None else []
        content = list(model.content.parameters())
        others = {id(p) for p in (*whole, *content)}
        collaborative = [p for p in model.parameters() if id(p) not in others and p.requires_grad]
        self.optimisers = {
            kind: torch.optim.Adam([{"params": own}, *([{"params": whole}] if whole else [])], lr=config.backbone_rate)
            for kind, own in (("items", collaborative), ("words", content))
        }
        self.next_step = 0
        self.tokens = 0

    def run(
        self, checkpoint: Path | None = None, on_step: Callable[[RetrievalProgress], None] = lambda progress: None
    ) -> None:
        """Train from where the checkpoint stands (or from the start) to the end."""
        kept = kept_steps(checkpoint)
        if checkpoint is not None and kept is not None:
            self._restore(checkpoint, *kept)
        self.model.backbone.model.eval()
        saved = time.monotonic()
        while self.next_step < len(self.steps):
            step = self.steps[self.next_step]
            losses = self._train_step(step)
            self.next_step += 1
            on_step(RetrievalProgress(self.next_step, len(self.steps), step.epoch, step.fine_tuning, losses))
            last = self.next_step == len(self.steps)
            if checkpoint is not None and (last or time.monotonic() - saved > self.config.checkpoint_seconds):
                self._save(checkpoint)
                saved = time.monotonic()

    def _train_step(self, step: Step) -> dict[str, float]:
        optimiser = self.optimisers[step.kind]
        optimiser.param_groups[0]["lr"] = self._rate(step)  # the second, if there, is the backbone
        examples = [self._example(step, int(member)) for member in step.members]
        targets = sum(e.targets for e in examples)
        apart = self._regulariser(step, np.concatenate([e.named for e in examples]))
        (apart / targets).backward()
        total = 0.0
        for part in group_by_tokens(sorted(examples, key=lambda e: e.tokens), self.config.batch_tokens):
            loss = self._loss(step, part)
            (loss / targets).backward()
            total += float(loss.detach())
            self.tokens += sum(e.tokens for e in part)
        for group in optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], self.config.max_grad_norm)
        optimiser.step()
        for other in self.optimisers.values():
            other.zero_grad(set_to_none=True)
        if not np.isfinite(total):
            raise UserError(f"step {self.next_step + 1}: the loss is not finite; lower retrieval.learning_rate")
        return {step.kind: total / targets, "regulariser": float(apart.detach()) / targets}

    def _rate(self, step: Step) -> float:
        """Constant in pretraining, then from its peak to zero in a straight line."""
        if not step.fine_tuning:
            return self.config.learning_rate
        return self.config.fine_tuning_rate * (len(self.steps) - self.next_step) / self._fine_steps

    def _loss(self, step: Step, examples: Sequence[Example]) -> Tensor:
        documents = [e.document for e in examples]
        if step.kind == "words":
            return self.model.word_loss(documents)
        if not step.fine_tuning:
            return self.model.item_loss(documents)
        if self.config.masked_share is None:
            return self.model.held_out_loss(documents)
        return self.model.masked_loss(documents, [e.held_out for e in examples])

    def _regulariser(self, step: Step, ids: Ints) -> Tensor:
        """Half of lambda times squared distances, over prompt and target tokens, each token once.

        Neither part is drawn to one that is not trained.
        """
        model, config = self.model, self.config
        both = config.content and (config.collaborative or step.fine_tuning)
        lambda_c = config.lambda_c if both else 0.0
        named = self.told
        if step.kind == "words":
            return 0.5 * lambda_c * squared_distance(model.content, model.collaborative, ids, named)
        users, items = model.collaborative.rows(ids)
        prior = model.collaborative.user(users).square().sum() + model.collaborative.item(items).square().sum()
        apart = squared_distance(model.collaborative, model.content, ids, named)
        found: Tensor = 0.5 * (lambda_c * apart + config.lambda_l * prior)
        return found

    def _example(self, step: Step, member: int) -> Example:
        if step.kind == "words":
            return Example(self._text(member))
        rng = np.random.default_rng([self.seed, step.epoch, member])
        items = self.liked[member] if self.config.fixed_order else rng.permutation(self.liked[member])
        items = items[-self.config.longest_history :]
        if not step.fine_tuning or self.config.masked_share is None:
            return Example(self.documents.collaborative(member, items))
        masked = np.zeros(len(items), dtype=bool)
        masked[rng.permutation(len(items))[: max(1, int(self.config.masked_share * len(items)))]] = True
        question = self.documents.question(member, items[~masked])
        return Example(question, items[masked], self.model.collaborative.item_ids(items[masked]))

    def _text(self, member: int) -> Document:
        """An item's text, or a review behind the items."""
        items = len(self.model.bias)
        return (
            self.documents.content(member) if member < items else self.documents.review(*self.reviews[member - items])
        )

    def _save(self, path: Path) -> None:
        tensors = with_prefix("model", self.model.state_dict())
        for name, optimiser in self.optimisers.items():
            tensors |= optimiser_tensors(f"optimiser_{name}", optimiser)
        keep_steps(path, tensors, {"next_step": self.next_step, "steps": len(self.steps), "tokens": self.tokens})

    def _restore(self, path: Path, tensors: dict[str, Tensor], facts: Facts) -> None:
        if facts["steps"] != len(self.steps):
            raise UserError(f"{path} belongs to a training of {facts['steps']} steps, this one has {len(self.steps)}")
        self.model.load_state_dict(without_prefix("model", tensors))
        for name, optimiser in self.optimisers.items():
            restore_optimiser(f"optimiser_{name}", optimiser, tensors)
        self.next_step, self.tokens = facts["next_step"], facts["tokens"]


def plan_steps(liked: Sequence[Ints], items: int, config: RetrievalConfig, seed: int, reviews: int = 0) -> list[Step]:
    """All steps: L and C steps in turn, every user with items, every item and some of the reviews once an epoch."""
    readers = np.flatnonzero([len(codes) > 0 for codes in liked])
    if len(readers) == 0:
        raise UserError("no user likes anything among the training rows")
    steps: list[Step] = []
    for epoch in range(config.pretraining_epochs + config.fine_tuning_epochs):
        fine = epoch >= config.pretraining_epochs
        rng = np.random.default_rng([seed, epoch])
        read = np.sort(rng.permutation(items)[: config.texts_per_epoch])
        texts = np.r_[read, items + rng.permutation(reviews)[: config.reviews_per_epoch]]
        parts = {
            "items": _groups(rng.permutation(readers), config.users_per_step) if config.collaborative or fine else [],
            "words": _groups(rng.permutation(texts), config.items_per_step) if config.content else [],
        }
        steps += [Step(kind, fine, epoch, members) for kind, members in _alternate(parts)]
    return steps


def _groups(members: Ints, size: int) -> list[Ints]:
    return [members[start : start + size] for start in range(0, len(members), size)]


def _alternate(parts: dict[str, list[Ints]]) -> Iterator[tuple[str, Ints]]:
    """Both kinds of steps spread evenly over the epoch."""
    placed = []
    for kind, groups in parts.items():
        placed += [((n + 0.5) / len(groups), kind, members) for n, members in enumerate(groups)]
    for _, kind, members in sorted(placed, key=lambda p: p[:2]):
        yield kind, members

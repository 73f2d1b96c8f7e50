"""Training of CLLM4Rec: mutually regularised pretraining, then recommendation-oriented fine-tuning (paper, section 3).

Pretraining alternates steps of the collaborative model (L) and of the content model (C), each drawn towards the other's
embeddings, which are fixed meanwhile. Fine-tuning does the same, with the likelihood of held-out items in the L step.
The state is the number of the next step; documents and their order follow from the seed and the epoch, so a run that
was killed and resumed ends with the same weights as one that was not.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from corella.ahead import ahead
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
from corella.llm.batches import fetched, moved
from corella.llm.scoring import group_by_tokens
from corella.retrieval.cllm4rec.documents import (
    Document,
    Documents,
    HeldOut,
    Written,
    all_that_follow,
    last_predicts,
    write,
)
from corella.retrieval.cllm4rec.model import CLLM
from corella.retrieval.cllm4rec.plan import Step, plan_steps
from corella.retrieval.cllm4rec.tokens import squared_distance

Ints = npt.NDArray[np.int64]


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
class Part:
    """What one forward pass reads; `held_out` in fine-tuning."""

    written: Written
    held_out: HeldOut | None


@dataclass(frozen=True)
class Inputs:
    """What one step reads."""

    targets: int
    tokens: int
    users: Tensor
    """Codes of the users that the documents name, int64."""
    told: Tensor
    """Those of them whom content documents name: nobody else's content embedding is more than where it began."""
    items: Tensor
    """Codes of the items that they name, int64."""
    parts: tuple[Part, ...]


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
        made = ahead(self.inputs, range(self.next_step, len(self.steps)))
        while self.next_step < len(self.steps):
            step = self.steps[self.next_step]
            losses = self._train_step(step, next(made))
            self.next_step += 1
            on_step(RetrievalProgress(self.next_step, len(self.steps), step.epoch, step.fine_tuning, losses))
            last = self.next_step == len(self.steps)
            if checkpoint is not None and (last or time.monotonic() - saved > self.config.checkpoint_seconds):
                self._save(checkpoint)
                saved = time.monotonic()

    def inputs(self, number: int) -> Inputs:
        """What a step reads, on the CPU."""
        step, tokens = self.steps[number], self.model.collaborative
        examples = [self._example(step, int(member)) for member in step.members]
        users, items = tokens.named(np.concatenate([e.named for e in examples]))
        groups = group_by_tokens(sorted(examples, key=lambda e: e.tokens), self.config.batch_tokens)
        told = users[self.told[users]]
        return Inputs(
            sum(e.targets for e in examples), sum(e.tokens for e in examples), torch.from_numpy(users),
            torch.from_numpy(told), torch.from_numpy(items), tuple(self._part(step, group) for group in groups),
        )  # fmt: skip

    def _part(self, step: Step, examples: Sequence[Example]) -> Part:
        documents = [e.document for e in examples]
        written = write(documents, self.model.collaborative)
        if step.kind == "words" or not step.fine_tuning:
            return Part(written, None)
        if self.config.masked_share is None:
            return Part(written, all_that_follow(documents, self.model.collaborative, self.config.least_shown))
        return Part(written, last_predicts([e.held_out for e in examples]))

    def _train_step(self, step: Step, inputs: Inputs) -> dict[str, float]:
        """Work is given to the backbone's device without waiting for it, but for the losses at the end."""
        optimiser = self.optimisers[step.kind]
        optimiser.param_groups[0]["lr"] = self._rate(step)  # the second, if there, is the backbone
        inputs = moved(inputs, self.model.device)
        apart = self._regulariser(step, inputs)
        (apart / inputs.targets).backward()
        losses = []
        for part in inputs.parts:
            losses.append(self._loss(step, part))
            (losses[-1] / inputs.targets).backward()
        for group in optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], self.config.max_grad_norm)
        optimiser.step()
        for other in self.optimisers.values():
            other.zero_grad(set_to_none=True)
        self.tokens += inputs.tokens
        far, *found = (float(value[0]) for value in fetched([apart, *losses]))
        if not np.isfinite(sum(found)):
            raise UserError(f"step {self.next_step + 1}: the loss is not finite; lower retrieval.learning_rate")
        return {step.kind: sum(found) / inputs.targets, "regulariser": far / inputs.targets}

    def _rate(self, step: Step) -> float:
        """Constant in pretraining, then from its peak to zero in a straight line."""
        if not step.fine_tuning:
            return self.config.learning_rate
        return self.config.fine_tuning_rate * (len(self.steps) - self.next_step) / self._fine_steps

    def _loss(self, step: Step, part: Part) -> Tensor:
        if step.kind == "words":
            return self.model.word_loss(part.written)
        if part.held_out is None:
            return self.model.item_loss(part.written)
        lossy = self.model.followers_loss if self.config.masked_share is None else self.model.masked_loss
        return lossy(part.written, part.held_out)

    def _regulariser(self, step: Step, inputs: Inputs) -> Tensor:
        """Half of lambda times squared distances, over prompt and target tokens, each token once.

        Neither part is drawn to one that is not trained.
        """
        model, config = self.model, self.config
        both = config.content and (config.collaborative or step.fine_tuning)
        lambda_c = config.lambda_c if both else 0.0
        if step.kind == "words":
            return 0.5 * lambda_c * squared_distance(model.content, model.collaborative, inputs.told, inputs.items)
        users, items = model.collaborative.user(inputs.users), model.collaborative.item(inputs.items)
        prior = users.square().sum() + items.square().sum()
        apart = squared_distance(model.collaborative, model.content, inputs.told, inputs.items)
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

"""Stages 2 and 3 of the paper: `L = alpha L_llm + beta L_crm + gamma L_align`, then the language model alone.

One loop serves both stages. Its state is the number of the next step; order of windows and dropout follow from the seed
and that number, so a run that was killed and resumed ends with the same weights as one that was not.

What steps read is made in the background. During a step both models lie where the language model does, and the program
waits for it once: for the losses and logits, when all of the step's work has been given to it.
"""

import time
from collections.abc import Callable, Iterator
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
from corella.config import Config
from corella.crm.encoder import CRMEncoder
from corella.crm.training import crm_optimiser
from corella.data.samples import Samples
from corella.errors import UserError
from corella.joint.alignment import LayerAlignment, spread_blocks
from corella.joint.inputs import Inputs, MakeInputs
from corella.joint.plan import Step, plan_steps
from corella.joint.residual import LearnedCorrection, worth_reading
from corella.joint.soft_tokens import SoftTokens
from corella.llm.backbone import Backbone, trainable
from corella.llm.batches import ahead, fetched, moved
from corella.llm.scoring import Prompts, group_by_tokens, read_batch

Ints = npt.NDArray[np.int64]


@dataclass
class JointProgress:
    """Where the training stands, for progress bars and logs."""

    step: int
    steps: int
    stage: int
    targets: int
    tokens: int
    losses: dict[str, float]


@dataclass
class JointResult:
    """What the training did."""

    targets: int = 0
    tokens: int = 0
    seconds: float = 0.0
    first_logits: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """For each training sample the language model's logit when it read it as a target for the first time, before
    it learned from it; nan where it was never read. An honest out-of-sample logit that costs nothing."""
    first_step: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """The step at which that was, -1 where never."""


class JointTrainer:
    """Trains LoRA, the alignment's projections, and in stage 2 the conventional model.

    LoRA weights live in the model's dtype; their optimiser works on float32 copies, since a bfloat16 weight does
    not move by a small update.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Prompts,
        crm: nn.Module,
        encoder: CRMEncoder,
        train: Samples,
        config: Config,
        soft_tokens: SoftTokens | None = None,
        base: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """`soft_tokens`: its projection is trained together with LoRA. `base`: the ensemble's logits of the
        training samples, float32 [n], out of fold; needed for residual training and to draw where it is unsure."""
        self.backbone, self.prompts, self.crm, self.encoder, self.train = backbone, prompts, crm, encoder, train
        self.soft_tokens = soft_tokens
        self.config = config
        joint = config.joint
        worth = worth_reading(base, train) if base is not None and joint.draw == "unsure" else None
        self.steps = plan_steps(prompts, train, joint, config.llm.context_share, config.seed, worth)
        self.base = torch.from_numpy(base) if base is not None and joint.target == "residual" else None
        self.device = backbone.embeddings.device
        self.correction = None if self.base is None else LearnedCorrection().to(self.device)
        self.lora = trainable(backbone)
        self.masters = {name: p.detach().float().clone().requires_grad_() for name, p in self.lora.items()}
        torch.manual_seed(config.seed)
        sizes: list[int] = crm.hidden_sizes  # type: ignore[assignment]
        self.alignment = LayerAlignment(
            backbone.hidden_size, sizes, joint.align_width, joint.align_power, joint.align_normalise
        ).to(self.device)
        self.blocks = spread_blocks(backbone.layers, len(sizes))
        if soft_tokens is not None:
            soft_tokens.fit_scale(train, config.seed)
            soft_tokens.to_model(self.device)
        self.make_inputs = MakeInputs(prompts, encoder, backbone.embeddings.dtype, self.base, soft_tokens)
        beside = [self.alignment, soft_tokens, self.correction]
        self.projections = nn.ModuleList([module for module in beside if module is not None])
        self.projection_weights = [p for p in self.projections.parameters() if p.requires_grad]
        adapters = [*self.masters.values(), *self.projection_weights]
        self.llm_optimiser = torch.optim.AdamW(adapters, lr=joint.learning_rate, weight_decay=0.0)
        self.crm_optimiser = crm_optimiser(crm, config.crm, joint.crm_learning_rate)
        self.result = JointResult(
            first_logits=np.full(len(train), np.nan, np.float32), first_step=np.full(len(train), -1, np.int64)
        )
        self.next_step = 0
        self.made: Iterator[list[Inputs]] = iter(())
        """What the next steps read, while it runs."""

    def run(
        self,
        checkpoint: Path | None = None,
        on_step: Callable[[JointProgress], None] = lambda progress: None,
        on_stage_end: Callable[[int], None] = lambda stage: None,
    ) -> JointResult:
        """Train from where the checkpoint stands (or from the start) to the end.

        A checkpoint is written every `joint.checkpoint_seconds` and at the end of each stage; `on_stage_end` is called
        at the end of each stage, before that checkpoint.
        """
        self.crm.to(self.device)
        kept = kept_steps(checkpoint)
        if checkpoint is not None and kept is not None:
            self._restore(checkpoint, *kept)
        saved = time.monotonic()
        self.made = ahead(self.inputs, range(self.next_step, len(self.steps)))
        while self.next_step < len(self.steps):
            began = time.perf_counter()
            step = self.steps[self.next_step]
            losses = self._train_step(step)
            self.next_step += 1
            self.result.targets += step.targets
            self.result.seconds += time.perf_counter() - began
            on_step(JointProgress(
                self.next_step, len(self.steps), step.stage, self.result.targets, self.result.tokens, losses
            ))  # fmt: skip
            last = self.next_step == len(self.steps) or self.steps[self.next_step].stage != step.stage
            if last:
                self.crm.cpu()
                on_stage_end(step.stage)
            if checkpoint is not None and (last or time.monotonic() - saved > self.config.joint.checkpoint_seconds):
                self._save(checkpoint)
                saved = time.monotonic()
        return self.result

    def inputs(self, number: int) -> list[Inputs]:
        """What a step reads, a forward pass each; on the CPU."""
        step = self.steps[number]
        groups = group_by_tokens(sorted(step.prompts, key=lambda p: p.tokens), self.config.llm.batch_tokens)
        return [self.make_inputs(group, self.train, self._with_crm(step)) for group in groups]

    def _with_crm(self, step: Step) -> bool:
        return step.stage == 2 and (self.config.joint.beta > 0 or self.config.joint.gamma > 0)

    def _train_step(self, step: Step) -> dict[str, float]:
        joint, number, inputs = self.config.joint, self.next_step, next(self.made)
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0]))
        self.backbone.model.train()
        self.crm.train()
        self._set_rate(number)
        found = [self._backward(step, each) for each in inputs]
        self._update_lora()
        if step.stage == 2 and joint.beta > 0:
            self.crm_optimiser.step()
        self.crm_optimiser.zero_grad(set_to_none=True)
        losses = self._record(step, inputs, found)
        if not np.isfinite(losses["llm"]):
            raise UserError(f"step {number + 1}: the language model's loss is not finite; lower joint.learning_rate")
        return losses

    def _backward(self, step: Step, inputs: Inputs) -> dict[str, Tensor]:
        """Forward and backward of one group of prompts; returns its losses, and its logits [n]."""
        joint, inputs = self.config.joint, moved(inputs, self.device)
        align = step.stage == 2 and joint.gamma > 0
        soft = None
        if self.soft_tokens is not None and inputs.views is not None:
            soft = self.soft_tokens.vectors(inputs.views)
        llm = read_batch(self.backbone, inputs.batch, self.blocks if align else (), soft)
        logit = llm.logit if self.correction is None else self.correction(inputs.base, llm.logit)
        found = {"llm": nn.functional.binary_cross_entropy_with_logits(logit, inputs.label)}
        total = joint.alpha * found["llm"]
        if inputs.crm is not None:
            crm = self.crm(inputs.crm)
            found["crm"] = nn.functional.binary_cross_entropy_with_logits(crm.logit, inputs.label)
            total = total + joint.beta * found["crm"]
            if align:
                found["align"] = self.alignment(llm.hidden, crm.hidden)
                total = total + joint.gamma * found["align"]
        (total * (len(inputs.sample) / step.targets)).backward()
        return {**found, "logit": logit}

    def _record(self, step: Step, inputs: list[Inputs], found: list[dict[str, Tensor]]) -> dict[str, float]:
        """Keep first logits and counts; returns the step's losses. The one time that a step waits for its device."""
        values = iter(fetched([tensor for each in found for tensor in each.values()]))
        totals: dict[str, float] = {}
        for each, names in zip(inputs, found, strict=True):
            told = {name: next(values) for name in names}
            logit = told.pop("logit")
            first = self.result.first_step[each.sample] < 0
            self.result.first_logits[each.sample[first]] = logit[first]
            self.result.first_step[each.sample[first]] = self.next_step
            self.result.tokens += each.tokens
            for name, value in told.items():
                totals[name] = totals.get(name, 0.0) + float(value[0]) * len(logit) / step.targets
        return totals

    def _set_rate(self, number: int) -> None:
        """Linear rise over the warm-up, then linear decay to zero at the last step. [code]"""
        total, warm = len(self.steps), max(1, round(len(self.steps) * self.config.joint.warmup_share))
        factor = min((number + 1) / warm, (total - number) / max(total - warm, 1), 1.0)
        for group in self.llm_optimiser.param_groups:
            group["lr"] = self.config.joint.learning_rate * factor

    def _update_lora(self) -> None:
        for name, p in self.lora.items():
            self.masters[name].grad = None if p.grad is None else p.grad.float().to(self.masters[name].device)
            p.grad = None
        # Clipped apart, so that a large gradient of the projections does not shrink LoRA's.
        for parameters in (self.masters.values(), self.projection_weights):
            nn.utils.clip_grad_norm_(parameters, self.config.joint.max_grad_norm)
        self.llm_optimiser.step()
        self.llm_optimiser.zero_grad(set_to_none=True)
        self._publish()

    @torch.no_grad()
    def _publish(self) -> None:
        for name, p in self.lora.items():
            p.copy_(self.masters[name])

    def _save(self, path: Path) -> None:
        tensors = {
            **with_prefix("lora", self.masters),
            **with_prefix("crm", self.crm.state_dict()),
            **with_prefix("projections", self.projections.state_dict()),
            **optimiser_tensors("llm_optimiser", self.llm_optimiser),
            **optimiser_tensors("crm_optimiser", self.crm_optimiser),
            "first_logits": torch.from_numpy(self.result.first_logits),
            "first_step": torch.from_numpy(self.result.first_step),
        }
        done = {"targets": self.result.targets, "tokens": self.result.tokens, "seconds": self.result.seconds}
        keep_steps(path, tensors, {"next_step": self.next_step, "steps": len(self.steps), **done})

    @torch.no_grad()
    def _restore(self, path: Path, tensors: dict[str, Tensor], facts: Facts) -> None:
        if facts["steps"] != len(self.steps):
            raise UserError(f"{path} belongs to a training of {facts['steps']} steps, this one has {len(self.steps)}")
        for name, master in without_prefix("lora", tensors).items():
            self.masters[name].copy_(master)
        self._publish()
        self.crm.load_state_dict(without_prefix("crm", tensors))
        self.projections.load_state_dict(without_prefix("projections", tensors))
        restore_optimiser("llm_optimiser", self.llm_optimiser, tensors)
        restore_optimiser("crm_optimiser", self.crm_optimiser, tensors)
        self.result.first_logits[:] = tensors["first_logits"].numpy()
        self.result.first_step[:] = tensors["first_step"].numpy()
        self.result.targets, self.result.tokens = facts["targets"], facts["tokens"]
        self.result.seconds = facts["seconds"]
        self.next_step = facts["next_step"]

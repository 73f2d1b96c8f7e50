"""Stages 2 and 3 of the paper: `L = alpha L_llm + beta L_crm + gamma L_align`, then the language model alone.

One loop serves both stages. Its state is the number of the next step; order of windows and dropout follow from the seed
and that number, so a run that was killed and resumed ends with the same weights as one that was not.

What steps read is made in the background. During a step both models lie where the language model does, and the program
waits for it once: for the losses and logits, when all passes have been given to it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
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
from corella.config import Config
from corella.crm.encoder import CRMEncoder
from corella.crm.training import crm_optimiser
from corella.data.samples import Samples
from corella.errors import UserError
from corella.joint.alignment import LayerAlignment, spread_blocks
from corella.joint.inputs import Inputs, MakeInputs
from corella.joint.plan import Step, plan_steps
from corella.joint.progress import JointProgress, JointResult
from corella.joint.reading import Reading, passes, reading_of
from corella.joint.residual import LearnedCorrection, worth_reading
from corella.joint.soft_tokens import SoftTokens
from corella.llm.backbone import Backbone, trainable
from corella.llm.batches import fetched, moved
from corella.llm.scoring import LLMOutput, Prompts, read_batch
from corella.llm.shards import clip, local, part, shard, sharded, whole
from corella.workers import here

Ints = npt.NDArray[np.int64]


class JointTrainer:
    """Trains LoRA, the alignment's projections, and in stage 2 the conventional model.

    LoRA weights live in the model's dtype; their optimiser works on float32 copies, since a bfloat16 weight does
    not move by a small update. Where weights are sharded, a worker holds its part of them, of the copies and of the
    optimiser's state.
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
        self.workers = here()
        if joint.shard and self.workers.size > 1:
            shard(backbone)
        self.lora = trainable(backbone)
        self.level = any(sharded(p) for p in self.lora.values())
        self.masters = {name: local(p).detach().float().clone().requires_grad_() for name, p in self.lora.items()}
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
        kept = self.workers.in_turn(lambda: kept_steps(checkpoint))
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
            due = self.workers.first_says(last or time.monotonic() - saved > self.config.joint.checkpoint_seconds)
            if checkpoint is not None and due:
                self._save(checkpoint)
                saved = time.monotonic()
        return self.result

    def inputs(self, number: int) -> list[Inputs]:
        """What this worker reads in a step, a pass each; on the CPU."""
        step = self.steps[number]
        todo = passes(step, self.workers, self.config.llm.batch_tokens, self.level)
        return [self.make_inputs(one, self.train, "crm" in self._names(step)) for one in todo]

    def _train_step(self, step: Step) -> dict[str, float]:
        joint, number, inputs = self.config.joint, self.next_step, next(self.made)
        self.backbone.model.train()
        self.crm.train()
        if self.correction is not None and not self.correction.begun:
            self.correction.begin(self._mean_logit(step, inputs))
        torch.manual_seed(self.workers.seed(self.config.seed, number))
        self._set_rate(number)
        reading = reading_of(step, self._names(step))
        self._record(step, reading, inputs, [self._backward(step, each) for each in inputs])
        learning = step.stage == 2 and joint.beta > 0
        self._update_lora(reading, list(self.crm.parameters()) if learning else [])
        if learning:
            self.crm_optimiser.step()
        self.crm_optimiser.zero_grad(set_to_none=True)
        losses = dict(zip(reading.names, reading.losses.tolist(), strict=True))
        if not np.isfinite(losses["llm"]):
            raise UserError(f"step {number + 1}: the language model's loss is not finite; lower joint.learning_rate")
        first = self.result.first_step[reading.samples] < 0
        self.result.first_logits[reading.samples[first]] = reading.logits[first]
        self.result.first_step[reading.samples[first]] = number
        self.result.tokens += reading.tokens
        return losses

    def _names(self, step: Step) -> tuple[str, ...]:
        """The losses of a step."""
        joint = self.config.joint
        align = step.stage == 2 and joint.gamma > 0
        crm = align or (step.stage == 2 and joint.beta > 0)
        return ("llm", *(["crm"] if crm else []), *(["align"] if align else []))

    def _read(self, inputs: Inputs, blocks: Sequence[int] = ()) -> LLMOutput:
        soft = None
        if self.soft_tokens is not None and inputs.views is not None:
            soft = self.soft_tokens.vectors(inputs.views)
        return read_batch(self.backbone, inputs.batch, blocks, soft)

    @torch.no_grad()
    def _mean_logit(self, step: Step, inputs: list[Inputs]) -> float:
        """What the language model says of a step's targets on average, all workers' together."""
        total = np.zeros(1, np.float32)
        for each in inputs:
            said = self._read(moved(each, self.device)).logit
            total += float(said.sum()) if each.counts else 0.0
        return float(self.workers.total(total)[0]) / step.targets

    def _backward(self, step: Step, inputs: Inputs) -> list[Tensor]:
        """Forward and backward of one group of prompts; returns its losses, and its logits [n]."""
        joint, names, inputs = self.config.joint, self._names(step), moved(inputs, self.device)
        llm = self._read(inputs, self.blocks if "align" in names else ())
        logit = llm.logit if self.correction is None else self.correction(inputs.base, llm.logit)
        losses: list[Tensor] = [nn.functional.binary_cross_entropy_with_logits(logit, inputs.label)]
        total = joint.alpha * losses[0]
        if inputs.crm is not None:
            # Which is over samples and a sum over them, as the alignment is: no loss asks for the whole batch at once.
            crm = self.crm(inputs.crm)
            losses.append(nn.functional.binary_cross_entropy_with_logits(crm.logit, inputs.label))
            total = total + joint.beta * losses[1]
            if "align" in names:
                losses.append(self.alignment(llm.hidden, crm.hidden))
                total = total + joint.gamma * losses[2]
        (total * _share(step, inputs)).backward()
        return [*losses, logit]

    def _record(self, step: Step, reading: Reading, inputs: list[Inputs], found: list[list[Tensor]]) -> None:
        """Tell `reading` what the passes brought. The one time that a step waits for its device."""
        values = iter(fetched([tensor for each in found for tensor in each]))
        for each, tensors in zip(inputs, found, strict=True):
            *losses, logit = [next(values) for _ in tensors]
            if each.counts:
                share = _share(step, each)
                reading.record(each.sample, logit, [float(value[0]) * share for value in losses], each.tokens)

    def _set_rate(self, number: int) -> None:
        """Linear rise over the warm-up, then linear decay to zero at the last step. [code]"""
        total, warm = len(self.steps), max(1, round(len(self.steps) * self.config.joint.warmup_share))
        factor = min((number + 1) / warm, (total - number) / max(total - warm, 1), 1.0)
        for group in self.llm_optimiser.param_groups:
            group["lr"] = self.config.joint.learning_rate * factor

    def _update_lora(self, reading: Reading, others: list[nn.Parameter]) -> None:
        """One step of LoRA and projections from all workers' gradients; those of `others` are summed too."""
        shards = []
        for name, p in self.lora.items():
            self.masters[name].grad = None if p.grad is None else local(p.grad).float().to(self.masters[name].device)
            shards += [self.masters[name]] if sharded(p) else []
            p.grad = None
        held = {id(p) for p in shards}  # whose gradients were summed on the way back
        mine = [p for p in (*self.masters.values(), *self.projection_weights, *others) if id(p) not in held]
        reading.take(self.workers.add_gradients(mine, reading.numbers))
        # Clipped apart, so that a large gradient of the projections does not shrink LoRA's.
        clip(list(self.masters.values()), shards, self.config.joint.max_grad_norm)
        nn.utils.clip_grad_norm_(self.projection_weights, self.config.joint.max_grad_norm)
        self.llm_optimiser.step()
        self.llm_optimiser.zero_grad(set_to_none=True)
        self._publish()

    @torch.no_grad()
    def _publish(self) -> None:
        for name, p in self.lora.items():
            local(p).copy_(self.masters[name])

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
        tensors = self._each(whole, tensors)
        if not self.workers.first:
            return
        done = {"targets": self.result.targets, "tokens": self.result.tokens, "seconds": self.result.seconds}
        keep_steps(path, tensors, {"next_step": self.next_step, "steps": len(self.steps), **done})

    def _each(self, change: Callable[[Tensor, Tensor], Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a checkpoint, those of the language model's weights as `change(weight, tensor)`."""
        weights = {f"lora.{name}": p for name, p in self.lora.items()}
        weights |= {f"llm_optimiser.{place}": p for place, p in enumerate(self.lora.values())}
        owner = {name: weights.get(name, weights.get(name.rpartition(".")[0])) for name in tensors}
        return {name: t if (p := owner[name]) is None else change(p, t) for name, t in tensors.items()}

    @torch.no_grad()
    def _restore(self, path: Path, tensors: dict[str, Tensor], facts: Facts) -> None:
        if facts["steps"] != len(self.steps):
            raise UserError(f"{path} belongs to a training of {facts['steps']} steps, this one has {len(self.steps)}")
        tensors = self._each(part, tensors)
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


def _share(step: Step, inputs: Inputs) -> float:
    """What a pass's means count in those of its step."""
    return len(inputs.sample) / step.targets if inputs.counts else 0.0

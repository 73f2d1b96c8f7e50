"""Stages 2 and 3 of a run: the conventional model and the language model learn together, and from each other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from corella.calibration import probability
from corella.crm.rungs import Rung
from corella.crm.trees import Trees
from corella.data.samples import Samples
from corella.joint.distillation import Lesson, draw_pairs, joined, lesson_of_training
from corella.joint.progress import JointProgress, JointResult
from corella.joint.residual import FOLDS, out_of_fold
from corella.joint.trainer import JointTrainer
from corella.llm.shards import gathered
from corella.ranking.crm_stages import CRMStages, labels_of
from corella.ranking.fitting import Fitting
from corella.ranking.language import RequestLLM, load_llm
from corella.ranking.results import Timer
from corella.routing.features import TextSignals, cheap_features, fit_distilled_head

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Trained:
    """What joint training leaves."""

    base: Rung
    """The served rung; its neural model may have learned more."""
    llm: RequestLLM
    head: Trees | None
    """The distilled head: guesses the language model's logit from cheap features."""


def train_jointly(fitting: Fitting, base: Rung, stages: CRMStages, llm: RequestLLM, text: TextSignals) -> Trained:
    """Train the language model, and the rung's neural model with it, on training rows."""
    config, older, train = fitting.config, None, fitting.dataset.samples("train")
    if llm.soft_tokens is not None:
        older, train = stages.held_out(llm.soft_tokens)
    before = {name: value.clone() for name, value in base.neural.state_dict().items()}
    trainer = JointTrainer(
        llm.backbone, llm.prompts, base.neural, base.encoder, train, config, llm.soft_tokens,
        _base_logits(fitting, base, train),
    )  # fmt: skip
    if not trainer.steps:
        return Trained(base, llm, None)

    def stage_end(stage: int) -> None:
        if stage == 2 and config.joint.keep_better_crm:
            stages.keep_better(base.neural, before)

    result = _run(fitting, trainer, stage_end)
    learned = trainer.correction.learned() if trainer.correction is not None else None
    llm = replace(_whole(fitting, llm), correction=learned)
    facts = fitting.facts
    facts.llm_targets, facts.llm_tokens, facts.llm_seconds = result.targets, result.tokens, result.seconds
    features = partial(cheap_features, base.encoder, text)
    head = fit_distilled_head(features, train, result.first_logits, result.first_step, config.seed)
    if config.joint.distil > 0:
        lesson = _lesson(fitting, base, llm, train, older, result)
        base = replace(base, neural=stages.distilled(base.neural, lesson))
    return Trained(base, llm, head)


def _whole(fitting: Fitting, llm: RequestLLM) -> RequestLLM:
    """The language model in one piece, where it is asked: on the first worker."""
    backbone = gathered(llm.backbone, fitting.config.llm, fitting.config.seed)
    if backbone is llm.backbone:
        return llm
    return replace(load_llm(fitting.config, fitting.dataset, backbone), soft_tokens=llm.soft_tokens)


def _run(fitting: Fitting, trainer: JointTrainer, stage_end: Callable[[int], None]) -> JointResult:
    total, smooth = sum(step.targets for step in trainer.steps), dict[str, float]()
    reporter = fitting.reporter
    with Timer(fitting.facts.seconds, "stages 2 and 3"), reporter.task("stages 2 and 3: targets", total) as task:

        def show(p: JointProgress) -> None:
            for name, value in p.losses.items():
                smooth[name] = 0.95 * smooth.get(name, value) + 0.05 * value
            losses = ", ".join(f"{name} {value:.3f}" for name, value in smooth.items() if name in p.losses)
            task.update(p.targets, f"stage {p.stage}, loss {losses}")
            reporter.log("step", step=p.step, stage=p.stage, targets=p.targets, tokens=p.tokens, **p.losses)

        return trainer.run(fitting.checkpoints.path("joint.safetensors"), show, stage_end)


def _base_logits(fitting: Fitting, base: Rung, train: Samples) -> Floats | None:
    """The served rung's out-of-fold logits of training samples, where joint training asks for them."""
    config = fitting.config
    joint = config.joint
    if (joint.target == "label" and joint.draw == "uniform") or not {2, 3} & set(joint.stages):
        return None
    valid = fitting.dataset.samples("valid")

    def make() -> Floats:
        title = "conventional models, out of fold: folds"
        with Timer(fitting.facts.seconds, "out of fold"), fitting.reporter.task(title, FOLDS) as task:
            return out_of_fold(base, train, valid, config, fitting.build, task.update)

    return fitting.checkpoints.array("out-of-fold", make, together=True)


def _lesson(
    fitting: Fitting, base: Rung, llm: RequestLLM, train: Samples, older: Samples | None, result: JointResult
) -> Lesson:
    """What the language model teaches: `train` are the rows it may have learned from, `older` those it may not."""
    joint = fitting.config.joint
    lesson, calibrator = lesson_of_training(train, result.first_logits, result.first_step, joint.distil)
    if older is not None:
        lesson = joined(labels_of(older), lesson)
    if joint.distil_pairs:
        pairs = draw_pairs(fitting.dataset, joint.distil_pairs, fitting.config.seed)
        read = partial(llm.logits, pairs, base, fitting.reporter, "language model, pairs")
        logits = fitting.checkpoints.array("pairs", read)
        lesson = joined(lesson, Lesson(pairs, probability(calibrator(logits)).astype(np.float32)))
    return lesson

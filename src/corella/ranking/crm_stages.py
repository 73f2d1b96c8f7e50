"""Every training of a conventional model in a run: stage 1, the choice after stage 2, the trees, the held-out base
model of soft tokens, the distilled one. Stage 1, trees and held-out model are checkpoints, so that a killed run
resumes; the distilled one is trained again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from corella.crm.encoder import CRMEncoder
from corella.crm.training import CRMFit, crm_logits, train_crm
from corella.crm.trees import Trees, train_trees
from corella.data.samples import Samples
from corella.files import read_json, write_json
from corella.joint.distillation import Lesson
from corella.joint.soft_tokens import SoftTokens, older_and_newer
from corella.ranking.fitting import Fitting
from corella.ranking.results import Timer
from corella.workers import here


@dataclass(frozen=True)
class CRMStages:
    """The trainings of one rung's models."""

    fitting: Fitting
    encoder: CRMEncoder
    with_text: bool
    """Whether it is the rung with text; stage 1 and trees of both are kept apart."""

    def stage1(self, crm: nn.Module) -> None:
        """Train `crm` alone on all training rows."""
        run, title = self.fitting, self._named("stage 1")
        facts = run.facts

        def make() -> tuple[Mapping[str, Tensor], dict[str, object]]:
            fit = self._train(crm, labels_of(run.dataset.samples("train")), title)
            facts.crm_valid_auc[title] = max(fit.valid_auc)
            facts.crm_rows_per_second = fit.rows / fit.seconds
            return crm.state_dict(), asdict(facts)

        tensors, kept = run.checkpoints.tensors(self._named("stage1"), make, together=True)
        crm.load_state_dict(tensors)
        facts.restore(kept)
        stage2 = run.checkpoints.path("stage2.json")
        if stage2 is not None and stage2.is_file():
            facts.crm_valid_auc["stage 2"] = read_json(stage2)

    def keep_better(self, crm: nn.Module, stage1: Mapping[str, Tensor]) -> None:
        """The see-saw of the paper: in stage 2 the CRM may lose what it had. Keep what validation prefers. [ours]"""
        run = self.fitting
        after, before = self._valid_auc(crm), run.facts.crm_valid_auc.get(self._named("stage 1"), 0.0)
        run.facts.crm_valid_auc["stage 2"] = after
        run.reporter.say(f"stage 2: CRM's validation AUC {after:.4f} ({before:.4f} before)")
        if after < before:
            crm.load_state_dict(stage1)
        path = run.checkpoints.path("stage2.json")
        if path is not None and here().first:
            write_json(path, after)

    def trees(self) -> Trees:
        """Boosted trees on all training rows."""
        return Trees(**self.fitting.checkpoints.json(self._named("trees"), lambda: asdict(self._grown())))

    def _grown(self) -> Trees:
        run, title = self.fitting, self._named("trees")
        train, valid, config = run.dataset.samples("train"), run.dataset.samples("valid"), run.config
        with (
            Timer(run.facts.seconds, title),
            run.reporter.task(f"boosted {title}: rounds", config.lightgbm.rounds) as task,
        ):
            trees = train_trees(
                self.encoder, train, valid, config.lightgbm, config.seed, task.update, config.crm.new_items
            )
        found = float(roc_auc_score(valid.label, trees.logits(self.encoder, valid)))
        run.reporter.say(f"boosted {title}: validation AUC {found:.4f}")
        run.reporter.log(title, valid_auc=[found])  # a column of log.jsonl has one type: other models look often
        return trees

    def _named(self, name: str) -> str:
        return f"{name} with text" if self.with_text else name

    def held_out(self, soft_tokens: SoftTokens) -> tuple[Samples, Samples]:
        """Train the held-out base model on the older training rows; returns those and the newer ones."""
        run = self.fitting
        older, newer = older_and_newer(run.dataset.samples("train"), run.config.llm.crm_tokens_share)

        def make() -> tuple[dict[str, Tensor], dict[str, object]]:
            model = self._fresh()
            self._train(model, labels_of(older), "held-out model")
            return model.state_dict(), {}

        soft_tokens.base.load_state_dict(run.checkpoints.tensors("held-out", make, together=True)[0])
        return older, newer

    def distilled(self, crm: nn.Module, lesson: Lesson) -> nn.Module:
        """A fresh conventional model that learned `lesson`, or `crm` where validation prefers that."""
        student, before = self._fresh(), self._valid_auc(crm)
        fit = self._train(student, lesson, "distillation")
        self.fitting.facts.crm_valid_auc["distilled"] = max(fit.valid_auc)
        return student if max(fit.valid_auc) > before else crm

    def _fresh(self) -> nn.Module:
        torch.manual_seed(self.fitting.config.seed)
        return self.fitting.build(self.encoder.spec, self.fitting.config.crm)

    def _train(self, model: nn.Module, lesson: Lesson, title: str) -> CRMFit:
        run = self.fitting
        config, total = run.config.crm, run.config.crm.epochs * len(lesson.samples)
        with Timer(run.facts.seconds, title), run.reporter.task(f"{title}, CRM: rows", total) as task:
            fit = train_crm(
                model, self.encoder, lesson.samples, run.dataset.samples("valid"), config, run.config.seed,
                lambda done, total, loss: task.update(done, f"loss {loss:.3f}"), lesson.target,
            )  # fmt: skip
        run.reporter.say(f"{title}: CRM's validation AUC {max(fit.valid_auc):.4f} after {fit.rows:,} rows")
        run.reporter.log(title, valid_auc=fit.valid_auc, rows=fit.rows, seconds=fit.seconds)
        return fit

    def _valid_auc(self, crm: nn.Module) -> float:
        valid = self.fitting.dataset.samples("valid")
        return float(roc_auc_score(valid.label, crm_logits(crm, self.encoder, valid)))


def labels_of(samples: Samples) -> Lesson:
    """Samples with their labels as targets."""
    return Lesson(samples, samples.label.astype(np.float32))

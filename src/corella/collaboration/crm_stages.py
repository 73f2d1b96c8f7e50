"""Every training of a conventional model in a run: stage 1, the choice after stage 2, the trees, the viewing model, the
distilled one. Stage 1, trees and viewing model are kept in the folder of checkpoints and read from there when a killed
run goes on; the distilled one is trained again.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from corella.checkpoint import load_tensors, save_tensors
from corella.collaboration.distillation import Lesson
from corella.collaboration.injection import Injection, older_and_newer
from corella.collaboration.results import Facts, Timer
from corella.config import Config
from corella.crm.inputs import CRMEncoder
from corella.crm.lightgbm import ROUNDS, Trees, train_trees
from corella.crm.training import CRMFit, crm_logits, train_crm
from corella.data.dataset import Dataset, Samples
from corella.files import read_json, write_json
from corella.progress import Reporter


@dataclass
class CRMStages:
    """What the trainings of one run share."""

    build: Callable[[], nn.Module]
    """Makes a fresh conventional model."""
    encoder: CRMEncoder
    dataset: Dataset
    config: Config
    facts: Facts
    checkpoints: Path | None
    reporter: Reporter
    with_text: bool
    """Whether they are those of the rung with text; stage 1 and trees of both are kept apart."""

    def stage1(self, crm: nn.Module) -> None:
        """Train `crm` alone on all training rows."""
        path, title = self._path(self._named("stage1")), self._named("stage 1")
        if path is not None and path.is_file():
            tensors, facts = load_tensors(path)
            crm.load_state_dict(tensors)
            self.facts.restore(facts)
            if self.checkpoints is not None and (self.checkpoints / "stage2.json").is_file():
                self.facts.crm_valid_auc["stage 2"] = read_json(self.checkpoints / "stage2.json")
            return
        fit = self._train(crm, labels_of(self.dataset.samples("train")), title)
        self.facts.crm_valid_auc[title] = max(fit.valid_auc)
        self.facts.crm_rows_per_second = fit.rows / fit.seconds
        if path is not None:
            save_tensors(path, crm.state_dict(), asdict(self.facts))

    def keep_better(self, crm: nn.Module, stage1: Mapping[str, Tensor]) -> None:
        """The see-saw of the paper: in stage 2 the CRM may lose what it had. Keep what validation prefers. [ours]"""
        after, before = self._valid_auc(crm), self.facts.crm_valid_auc.get(self._named("stage 1"), 0.0)
        self.facts.crm_valid_auc["stage 2"] = after
        self.reporter.say(f"stage 2: CRM's validation AUC {after:.4f} ({before:.4f} before)")
        if after < before:
            crm.load_state_dict(stage1)
        if self.checkpoints is not None:
            write_json(self.checkpoints / "stage2.json", after)

    def trees(self) -> Trees:
        """Boosted trees on all training rows."""
        path = self.checkpoints / f"{self._named('trees')}.json" if self.checkpoints else None
        if path is not None and path.is_file():
            return Trees(**read_json(path))
        train, valid, title = self.dataset.samples("train"), self.dataset.samples("valid"), self._named("trees")
        new_items = self.config.crm.new_items
        with Timer(self.facts.seconds, title), self.reporter.task(f"boosted {title}: rounds", ROUNDS) as task:
            trees = train_trees(self.encoder, train, valid, self.config.seed, None, task.update, new_items)
        found = float(roc_auc_score(valid.label, trees.logits(self.encoder, valid)))
        self.reporter.say(f"boosted {title}: validation AUC {found:.4f}")
        self.reporter.log(title, valid_auc=[found])  # a column of log.jsonl has one type: other models look often
        if path is not None:
            write_json(path, trees.state())
        return trees

    def _named(self, name: str) -> str:
        return f"{name} with text" if self.with_text else name

    def viewer(self, injection: Injection) -> tuple[Samples, Samples]:
        """Train the viewing model on the older training rows; returns those and the newer ones."""
        older, newer = older_and_newer(self.dataset.samples("train"), self.config.llm.crm_tokens_share)
        path = self._path("viewer")
        if path is not None and path.is_file():
            injection.viewer.load_state_dict(load_tensors(path)[0])
            return older, newer
        model = self._fresh()
        self._train(model, labels_of(older), "viewing model")
        injection.viewer.load_state_dict(model.state_dict())
        if path is not None:
            save_tensors(path, model.state_dict(), {})
        return older, newer

    def distilled(self, crm: nn.Module, lesson: Lesson) -> nn.Module:
        """A fresh conventional model that learned `lesson`, or `crm` where validation prefers that."""
        student, before = self._fresh(), self._valid_auc(crm)
        fit = self._train(student, lesson, "distillation")
        self.facts.crm_valid_auc["distilled"] = max(fit.valid_auc)
        return student if max(fit.valid_auc) > before else crm

    def _fresh(self) -> nn.Module:
        torch.manual_seed(self.config.seed)
        return self.build()

    def _train(self, model: nn.Module, lesson: Lesson, title: str) -> CRMFit:
        config, total = self.config.crm, self.config.crm.epochs * len(lesson.samples)
        valid = self.dataset.samples("valid")
        with Timer(self.facts.seconds, title), self.reporter.task(f"{title}, CRM: rows", total) as task:
            fit = train_crm(
                model, self.encoder, lesson.samples, valid, config, self.config.seed,
                lambda done, total, loss: task.update(done, f"loss {loss:.3f}"), lesson.target,
            )  # fmt: skip
        self.reporter.say(f"{title}: CRM's validation AUC {max(fit.valid_auc):.4f} after {fit.rows:,} rows")
        self.reporter.log(title, valid_auc=fit.valid_auc, rows=fit.rows, seconds=fit.seconds)
        return fit

    def _valid_auc(self, crm: nn.Module) -> float:
        valid = self.dataset.samples("valid")
        return float(roc_auc_score(valid.label, crm_logits(crm, self.encoder, valid)))

    def _path(self, name: str) -> Path | None:
        return self.checkpoints / f"{name}.safetensors" if self.checkpoints else None


def labels_of(samples: Samples) -> Lesson:
    """Samples with their labels as targets."""
    return Lesson(samples, samples.label.astype(np.float32))

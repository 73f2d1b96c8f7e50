"""The trained system: a conventional half, a language model, and the router between them. Fit, predict, save, load."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from corella.checkpoint import claim, load_tensors, save_tensors
from corella.collaboration.calibration import probability
from corella.collaboration.crm_stages import CRMStages, labels_of
from corella.collaboration.decision import Decision, asking_gain, decide, standing
from corella.collaboration.distillation import Lesson, draw_pairs, joined, lesson_of_training
from corella.collaboration.ensemble import Ensemble
from corella.collaboration.injection import Injection
from corella.collaboration.joint import JointProgress, JointResult, JointTrainer
from corella.collaboration.residual import FOLDS, Correction, out_of_fold
from corella.collaboration.results import Facts, Predictions, Timer
from corella.collaboration.router import Router, fit_router
from corella.collaboration.router_inputs import (
    HIDDEN_SIZE,
    Projection,
    TextSignals,
    cheap_features,
    fit_distilled_head,
    fit_projection,
)
from corella.collaboration.routing import budget_share, request_means
from corella.collaboration.rungs import Rung, fresh_rungs, load_rungs, text_gain
from corella.collaboration.trainable import check_trainable, validation_samples
from corella.config import RETRIEVAL_ONLY, Config, CRMConfig
from corella.crm.inputs import CRMEncoder, CRMSpec
from corella.crm.lightgbm import Trees
from corella.crm.models import build_crm
from corella.crm.training import crm_outputs
from corella.data.dataset import Dataset, Samples, load_prepared
from corella.data.prepare import write_dataset
from corella.data.scope import Scope
from corella.errors import UserError
from corella.files import new_folder, read_json, verify_manifest, write_json, write_manifest, write_text
from corella.llm.backbone import Backbone, load_backbone, make_trainable, trainable
from corella.llm.pointwise import PointwisePrompts
from corella.llm.saved import LORA, load_language_model
from corella.llm.scoring import Prompts, score_samples
from corella.llm.timeline import TimelinePrompts
from corella.progress import Reporter
from corella.settings import load_config, to_yaml
from corella.threads import set_threads

Floats = npt.NDArray[np.float32]

FORMAT = 7
"""Raised when the files of a saved model change their meaning."""

_TIMED_ROWS = 64


class CoReLLa:
    """The product of arXiv 2403.16378, with timeline prompts, a learned router and blending on top.

    >>> model = CoReLLa(config).fit(dataset)          # doctest: +SKIP
    >>> model.predict_proba(dataset.samples("test"))  # doctest: +SKIP
    """

    def __init__(
        self, config: Config | None = None, build: Callable[[CRMSpec, CRMConfig], nn.Module] = build_crm
    ) -> None:
        """`build` makes the conventional model; any module that meets `corella.crm.models.CRM` will do."""
        self.config = config or load_config()
        self._build = build
        self.facts = Facts()
        set_threads(self.config)

    # What training makes; `fit` and `load` set all of it.
    dataset: Dataset
    rungs: list[Rung]
    """The conventional half without and, where there is a text encoder, with text."""
    served_rung: int
    """Which of them scores; joint training goes on with its neural model."""
    decision: Decision
    """What is served by default: one of them alone, or the language model asked on top."""
    backbone: Backbone
    prompts: Prompts
    injection: Injection | None
    text: TextSignals
    correction: Correction | None
    """How the language model's logit corrects the conventional half's; None where it learned labels."""
    head: Trees | None
    """The distilled head: guesses the language model's logit from cheap features."""
    projection: Projection
    router: Router
    valid_rows: npt.NDArray[np.int64]
    valid_llm: Floats
    """Raw logits of the language model on the validation rows that it read."""

    def fit(self, dataset: Dataset, run: Path | None = None, reporter: Reporter | None = None) -> "CoReLLa":
        """Train everything. With a run folder, checkpoints are kept there and a killed run goes on where it was."""
        reporter = reporter or Reporter(quiet=True)
        checkpoints = run / "checkpoints" if run else None
        check_trainable(dataset, self.config)
        self.dataset = dataset
        self.rungs, self.served_rung = fresh_rungs(dataset, self.config.crm, self._build, self.config.seed), 0
        self._attach_llm()  # first, so that a model that is missing or does not fit is found before any training
        if checkpoints is not None:
            claim(checkpoints, to_yaml(self.config.without(RETRIEVAL_ONLY).as_trained()), dataset.digest())
        stages = self._fit_rungs(checkpoints, reporter)
        self._attach_injection()
        self._joint(stages, checkpoints, reporter)
        # Once more, for joint training may have changed the neural model; first, for a correction stands on the blend.
        self.base.blend(self.ensemble.trees if self.ensemble else None, dataset.samples("valid"))
        self._read_validation(checkpoints, reporter)
        with self._timed("router"):
            self._fit_router()
        return self

    @property
    def base(self) -> Rung:
        """The rung that is served."""
        return self.rungs[self.served_rung]

    @property
    def encoder(self) -> CRMEncoder:
        """What the served rung reads."""
        return self.base.encoder

    @property
    def neural(self) -> nn.Module:
        """The neural model of the served rung."""
        return self.base.neural

    @property
    def ensemble(self) -> Ensemble | None:
        """What makes it and boosted trees one; without it the neural model is all of the rung."""
        return self.base.ensemble

    def base_logits(self, samples: Samples, rung: int) -> Floats:
        """Raw logits of the conventional half without text (0) or with it (1), float32 [n]. Raises `UserError` where
        there is no such rung."""
        if not 0 <= rung < len(self.rungs):
            raise UserError(f"no rung {rung}: this model has {len(self.rungs)}, the first is 0")
        return self.rungs[rung].outputs(samples)[0]

    def predict(self, samples: Samples, share: float | None = None, reporter: Reporter | None = None) -> Predictions:
        """Score samples; those whose priority reaches the threshold go to the language model, the others never do.

        `share`: of validation samples that the threshold would route; unset: what is served by default (`share`).
        """
        crm, priority, routed = self.decide(samples, share)
        z_llm = np.full(len(samples), np.nan, dtype=np.float32)
        if routed.any():
            z_llm[routed] = self.llm_logits(samples.take(np.flatnonzero(routed)), reporter)
        return self.combine(crm, z_llm, priority, routed)

    def predict_from(self, z_crm: Floats, z_llm: Floats, samples: Samples, share: float | None = None) -> Predictions:
        """The same from raw logits that are there already: `z_crm` of the conventional half, and the language model's
        (evaluation)."""
        crm, priority, routed = self.decide(samples, share, z_crm)
        return self.combine(crm, np.where(routed, z_llm, np.nan), priority, routed)

    def predict_proba(self, samples: Samples) -> npt.NDArray[np.float64]:
        """Probability of a positive answer, float64 [n]."""
        return self.predict(samples).probability

    @property
    def share(self) -> float:
        """The share of samples (or requests) that is asked about by default: none, unless asking per request is served
        (see `Decision`)."""
        return self.affordable if self.decision.rung == 2 else 0.0

    @property
    def affordable(self) -> float:
        """The share of samples (or requests) that the configured budget buys."""
        return budget_share(self.config.routing, self.facts.milliseconds_per_sample, self.facts.samples_per_request)

    def llm_logits(self, samples: Samples, reporter: Reporter | None = None, title: str = "language model") -> Floats:
        """Raw logits of the language model, float32 [n]; where it learned what the conventional half leaves open, that
        half's logits as it corrects them."""
        reporter = reporter or Reporter(quiet=True)
        llm = self.config.llm
        with reporter.task(f"{title}: samples", len(samples)) as task:
            said = score_samples(
                self.backbone, self.prompts, samples, 2 * llm.batch_tokens, llm.eval_context_share,
                lambda done, tokens: task.update(done, f"{tokens:,} tokens"), llm.eval_window_tokens, self.injection,
            )  # fmt: skip
        return self.corrected(samples, said)

    def corrected(self, samples: Samples, said: Floats) -> Floats:
        """What the language model's own logits (float32 [n], nan where it was not asked) mean of samples: the same,
        unless it was trained for a residual."""
        asked = np.flatnonzero(~np.isnan(said))
        if self.correction is None or not len(asked):
            return said
        logits = said.copy()
        logits[asked] = self.correction(self.conventional(samples.take(asked))[0], said[asked])
        return logits

    def conventional(self, samples: Samples) -> tuple[Floats, Floats]:
        """Raw logits of the served conventional half, float32 [n], and the neural model's last hidden layer,
        float32 [n, width]."""
        return self.base.outputs(samples)

    def cheap(self, samples: Samples) -> tuple[Floats, npt.NDArray[np.float64] | None]:
        """Router features that depend on no CRM, float32 [n, f], and the guessed logits of the language model."""
        features = cheap_features(self.encoder, self.text, samples)
        return features, self.head(features) if self.head else None

    def router_features(self, samples: Samples, hidden: Floats) -> tuple[Floats, npt.NDArray[np.float64] | None]:
        """What the router reads besides the CRM's logit: features [n, f], and the guessed LLM logits. `hidden`: the
        CRM's last hidden layer, [n, width]."""
        cheap, guess = self.cheap(samples)
        return np.concatenate([cheap, self.projection(hidden)], axis=1), guess

    def decide(
        self, samples: Samples, share: float | None = None, z_crm: Floats | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Before the language model runs: calibrated CRM logits, the router's priorities (zeros where nothing may be
        routed), and who is routed. `z_crm`: raw logits of the conventional half that are there already."""
        raw, hidden = self.conventional(samples) if z_crm is None else (z_crm, None)
        limit = self.router.threshold(self.share if share is None else share)
        if limit == float("inf"):  # nothing may be routed: nobody needs to ask the router, which takes its time
            return self.router.crm(raw), np.zeros(len(samples)), np.zeros(len(samples), dtype=bool)
        if hidden is None:
            hidden = crm_outputs(self.neural, self.encoder, samples)[1]
        inputs = self.router.inputs(raw, *self.router_features(samples, hidden), samples.popularity[:, 0])
        priority = self.router.priority(inputs)
        if self.config.routing.budget_unit == "requests":
            request = np.where(samples.user >= 0, samples.user, -1 - np.arange(len(samples)))
            mean, code = request_means(priority, request)
            return inputs.crm, priority, mean[code] >= limit
        return inputs.crm, priority, priority >= limit

    def combine(
        self,
        crm: npt.NDArray[np.float64],
        z_llm: Floats,
        priority: npt.NDArray[np.float64],
        routed: npt.NDArray[np.bool_],
    ) -> Predictions:
        """Predictions from calibrated CRM logits and the raw logits of the language model for `routed` samples."""
        llm, final = self.router.llm(z_llm), crm.copy()
        final[routed] = self.router.combine(crm[routed], llm[routed])
        return Predictions(final, crm, llm, priority, routed)

    def narrowed(self, scope: Scope) -> "CoReLLa":
        """The same system for the small world of a request; it predicts, and no more. Only with timeline prompts."""
        other = copy.copy(self)
        other.rungs, other.served_rung = [self.base.narrowed(scope)], 0
        other.text = self.text.narrowed(scope)
        if isinstance(self.prompts, TimelinePrompts):
            other.prompts = self.prompts.narrowed(scope)
        return other

    # Training, in order.

    def _fit_rungs(self, checkpoints: Path | None, reporter: Reporter) -> CRMStages:
        """Train every rung alone (stage 1, trees), and choose the one that is served; returns its trainings."""
        valid, found = self.dataset.samples("valid"), []
        for place, rung in enumerate(self.rungs):
            build = partial(self._build, rung.encoder.spec, self.config.crm)
            stages = CRMStages(
                build, rung.encoder, self.dataset, self.config, self.facts, checkpoints, reporter, with_text=place == 1
            )
            found.append(stages)
            if 1 in self.config.joint.stages:
                stages.stage1(rung.neural)
            rung.blend(stages.trees() if self.config.crm.trees else None, valid)
        gain = text_gain(self.rungs, valid, self.config.seed) if len(self.rungs) > 1 else None
        if gain is not None:
            reporter.say(f"text, once an item: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] validation AUC")
        self.served_rung = standing(self.config.routing.rung, gain)
        self.decision = Decision(self.served_rung, self.config.routing.rung, gain, None)
        return found[self.served_rung]

    def _attach_llm(self, backbone: Backbone | None = None, text: Projection | None = None) -> None:
        self.backbone = backbone or make_trainable(load_backbone(self.config.llm), self.config.llm, self.config.seed)
        style = TimelinePrompts if self.config.llm.prompt == "timeline" else PointwisePrompts
        self.prompts = style(self.dataset, self.backbone, self.config.llm)
        self.text = TextSignals(self.dataset, self.backbone, text)

    def _attach_injection(self) -> None:
        self.injection = None
        if self.config.llm.crm_tokens:
            viewer = self._build(self.encoder.spec, self.config.crm)
            self.injection = Injection(viewer, self.encoder, self.dataset, self.backbone.hidden_size)

    def _joint(self, stages: CRMStages, checkpoints: Path | None, reporter: Reporter) -> None:
        older, train = None, self.dataset.samples("train")
        if self.injection is not None:
            older, train = stages.viewer(self.injection)
        stage1 = {name: value.clone() for name, value in self.neural.state_dict().items()}
        models = (self.backbone, self.prompts, self.neural, self.encoder)
        base = self._base_for_training(train, checkpoints, reporter)
        trainer = JointTrainer(*models, train, self.config, self.injection, base)
        self.correction = None
        if not trainer.steps:
            self.head = None
            return
        total = sum(step.targets for step in trainer.steps)
        smooth: dict[str, float] = {}
        with self._timed("stages 2 and 3"), reporter.task("stages 2 and 3: targets", total) as task:

            def show(p: JointProgress) -> None:
                for name, value in p.losses.items():
                    smooth[name] = 0.95 * smooth.get(name, value) + 0.05 * value
                losses = ", ".join(f"{name} {value:.3f}" for name, value in smooth.items() if name in p.losses)
                task.update(p.targets, f"stage {p.stage}, loss {losses}")
                reporter.log("step", step=p.step, stage=p.stage, targets=p.targets, tokens=p.tokens, **p.losses)

            def stage_end(stage: int) -> None:
                if stage == 2 and self.config.joint.keep_better_crm:
                    stages.keep_better(self.neural, stage1)

            result = trainer.run(checkpoints / "joint.safetensors" if checkpoints else None, show, stage_end)
        self.correction = trainer.correction.learned() if trainer.correction is not None else None
        self.facts.llm_targets, self.facts.llm_tokens = result.targets, result.tokens
        self.facts.llm_seconds = result.seconds
        features = partial(cheap_features, self.encoder, self.text)
        self.head = fit_distilled_head(features, train, result.first_logits, result.first_step, self.config.seed)
        if self.config.joint.distil > 0:
            pairs = checkpoints / "pairs.safetensors" if checkpoints else None
            self.base.neural = stages.distilled(self.neural, self._lesson(train, older, result, pairs, reporter))

    def _base_for_training(self, train: Samples, checkpoints: Path | None, reporter: Reporter) -> Floats | None:
        """The served rung's out-of-fold logits of training samples, where joint training asks for them."""
        joint = self.config.joint
        if (joint.target == "label" and joint.draw == "uniform") or not {2, 3} & set(joint.stages):
            return None
        path = checkpoints / "out-of-fold.safetensors" if checkpoints else None
        if path is not None and path.is_file():
            kept: Floats = load_tensors(path)[0]["logits"].numpy()
            return kept
        valid = self.dataset.samples("valid")
        with self._timed("out of fold"), reporter.task("conventional half, out of fold: folds", FOLDS) as task:
            base = out_of_fold(self.base, train, valid, self.config, self._build, task.update)
        if path is not None:
            save_tensors(path, {"logits": torch.from_numpy(base)}, {})
        return base

    def _lesson(
        self, train: Samples, older: Samples | None, result: JointResult, path: Path | None, reporter: Reporter
    ) -> Lesson:
        """What the language model teaches: `train` are the rows it may have answered, `older` those it may not."""
        joint = self.config.joint
        lesson, calibrator = lesson_of_training(train, result.first_logits, result.first_step, joint.distil)
        if older is not None:
            lesson = joined(labels_of(older), lesson)
        if joint.distil_pairs:
            pairs = draw_pairs(self.dataset, joint.distil_pairs, self.config.seed)
            logits = self._kept_logits(path, pairs, reporter, "language model, pairs")
            lesson = joined(lesson, Lesson(pairs, probability(calibrator(logits)).astype(np.float32)))
        return lesson

    def _kept_logits(self, path: Path | None, samples: Samples, reporter: Reporter, title: str) -> Floats:
        """The language model's logits, read from `path` if they are there, else computed and kept there."""
        if path is not None and path.is_file():
            kept: Floats = load_tensors(path)[0]["logits"].numpy()
            return kept
        logits = self.llm_logits(samples, reporter, title)
        if path is not None:
            save_tensors(path, {"logits": torch.from_numpy(logits)}, {})
        return logits

    def _read_validation(self, checkpoints: Path | None, reporter: Reporter) -> None:
        path = checkpoints / "valid.safetensors" if checkpoints else None
        if path is not None and path.is_file():
            tensors, facts = load_tensors(path)
            self.valid_rows, self.valid_llm = tensors["rows"].numpy(), tensors["logits"].numpy()
            self.facts.restore(facts)
            return
        valid = validation_samples(self.dataset, self.config)
        with self._timed("validation"):
            self.valid_llm = self.llm_logits(valid, reporter, "language model, validation")
        self.valid_rows = valid.row
        self.facts.milliseconds_per_sample = self._time_new_rows(valid)
        self.facts.samples_per_request = len(valid) / len(np.unique(valid.user))
        if path is not None:
            save_tensors(path, self._validation(), asdict(self.facts))

    def _time_new_rows(self, samples: Samples) -> float:
        """Milliseconds that the language model takes for a sample that shares its window with no other, as a new
        row.
        """
        order = np.random.default_rng(self.config.seed).permutation(len(samples))
        _, first = np.unique(samples.user[order], return_index=True)  # one a user, or they would share a reading
        index = order[first[:_TIMED_ROWS]]
        alone = replace(samples.take(index), row=np.full(len(index), -1))
        began = time.perf_counter()
        self.llm_logits(alone)
        return 1000 * (time.perf_counter() - began) / len(index)

    def _validation(self) -> dict[str, torch.Tensor]:
        return {"rows": torch.from_numpy(self.valid_rows), "logits": torch.from_numpy(self.valid_llm)}

    def _fit_router(self) -> None:
        valid = self.dataset.samples(self.valid_rows)
        z_crm, hidden = self.conventional(valid)
        self.projection = fit_projection(hidden, HIDDEN_SIZE)
        features, guess = self.router_features(valid, hidden)
        self.router = fit_router(
            z_crm, self.valid_llm, valid.label, features, guess, valid.popularity[:, 0], valid.user,
            self.config.routing, self.config.seed,
        )  # fmt: skip
        self._decide(z_crm, valid)

    def _decide(self, z_crm: Floats, valid: Samples) -> None:
        """Choose what is served, now that it is known what asking per request is worth."""
        text, asking, setting, share = self.decision.text, None, self.config.routing.rung, self.affordable
        if share > 0:
            asking = asking_gain(self.router, z_crm, self.valid_llm, valid, share, self.config.seed)
        self.decision = Decision(decide(setting, text, asking), setting, text, asking)

    def _timed(self, name: str) -> "Timer":
        return Timer(self.facts.seconds, name)

    # Files.

    def save(self, folder: Path | str) -> None:
        """Write the model as a folder of safetensors, JSON and YAML with a manifest of hashes; replaces what is
        there.
        """
        folder = Path(folder).resolve()
        if folder.exists() and any(folder.iterdir()) and not (folder / "router.json").is_file():
            raise UserError(f"{folder} holds something that is no saved model; give a new or empty folder")
        with new_folder(folder) as new:
            write_text(new / "config.yaml", to_yaml(self.config))
            for place, rung in enumerate(self.rungs):
                rung.save(new, place)
            save_tensors(new / LORA, trainable(self.backbone), {})
            if self.injection is not None:
                save_tensors(new / "injection.safetensors", self.injection.state_dict(), {})
            save_tensors(new / "valid.safetensors", self._validation(), {})
            projections = {"hidden": asdict(self.projection), "text": asdict(self.text.projection)}
            router: dict[str, Any] = {"projections": projections, "head": self.head.text if self.head else None}
            router["served_rung"], router["decision"] = self.served_rung, asdict(self.decision)
            router["correction"] = asdict(self.correction) if self.correction is not None else None
            write_json(new / "router.json", {**self.router.state(), **router})
            write_json(new / "facts.json", asdict(self.facts))
            write_dataset(self.dataset, new / "dataset")
            write_manifest(new, {"format": FORMAT})

    @classmethod
    def load(
        cls,
        folder: Path | str,
        dataset: Dataset | None = None,
        build: Callable[[CRMSpec, CRMConfig], nn.Module] = build_crm,
    ) -> "CoReLLa":
        """Read a saved model after checking its hashes, with the dataset that it was saved with or another one, and the
        `build` that it was made with."""
        folder = Path(folder)
        manifest = verify_manifest(folder)
        if manifest.get("format") != FORMAT:
            raise UserError(f"{folder} has format {manifest.get('format')}; this version reads {FORMAT}")
        self = cls(load_config(folder / "config.yaml"), build)
        self.dataset = dataset or load_prepared(folder / "dataset")
        self.rungs = load_rungs(folder, self.dataset, self.config.crm, self._build)
        state: dict[str, Any] = read_json(folder / "router.json")
        self.served_rung, self.decision = state.pop("served_rung"), Decision.from_state(state.pop("decision"))
        projections = {name: Projection(**value) for name, value in state.pop("projections").items()}
        self.projection = projections["hidden"]
        self._attach_llm(load_language_model(folder, self.config), projections["text"])
        self._attach_injection()
        if self.injection is not None:
            self.injection.load_state_dict(load_tensors(folder / "injection.safetensors")[0])
        correction = state.pop("correction")
        self.correction = Correction(**correction) if correction is not None else None
        head = state.pop("head")
        self.head = Trees(head) if head else None
        self.router = Router.from_state(state, self.config.routing, self.config.seed)
        self.facts = Facts(**read_json(folder / "facts.json"))
        valid = load_tensors(folder / "valid.safetensors")[0]
        self.valid_rows, self.valid_llm = valid["rows"].numpy(), valid["logits"].numpy()
        return self

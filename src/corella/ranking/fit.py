"""How a ranking is fitted, from top to bottom: conventional models, the language model beside them, the router, and
what of it all is served."""

from dataclasses import replace

from sklearn.metrics import roc_auc_score

from corella.checkpoint import Checkpoints
from corella.config import RETRIEVAL_ONLY, Config
from corella.config.loading import to_yaml
from corella.crm.models import build_crm
from corella.crm.rungs import Build, Rung, fresh_rungs, stacked, text_gain
from corella.data.dataset import Dataset
from corella.data.samples import liked_share
from corella.joint.soft_tokens import SoftTokens
from corella.progress import Reporter
from corella.ranking.crm_stages import CRMStages
from corella.ranking.decision import Decision, asking_gain, decide, standing
from corella.ranking.fitting import Fitting
from corella.ranking.jointly import train_jointly
from corella.ranking.language import RequestLLM, load_llm
from corella.ranking.model import FittedRanking
from corella.ranking.results import Timer
from corella.ranking.trainable import check_trainable
from corella.ranking.validation import read_validation
from corella.routing.budgets import budget_share
from corella.routing.features import HIDDEN_SIZE, RouterFeatures, fit_projection, text_signals
from corella.routing.router import fit_router


def fit_ranking(
    config: Config,
    dataset: Dataset,
    checkpoints: Checkpoints | None = None,
    reporter: Reporter | None = None,
    build: Build = build_crm,
) -> FittedRanking:
    """Train everything. Finished steps are kept among the checkpoints, and a killed training resumes there.
    Deterministic for a seed and a machine.

    `build` makes the conventional neural model; any module that meets `corella.crm.models.CRM` will do. Raises
    `UserError` for what cannot be trained on.
    """
    check_trainable(dataset, config)
    llm = load_llm(config, dataset)  # first, so that a model that is missing or does not fit is found at once
    fitting = Fitting(config, dataset, build, checkpoints or Checkpoints(), reporter or Reporter(quiet=True))
    fitting.checkpoints.claim(to_yaml(config.without(RETRIEVAL_ONLY).as_trained()), dataset.digest())
    valid = dataset.samples("valid")

    rungs, stages = _fit_rungs(fitting)
    gain = text_gain(rungs, valid, config.seed) if len(rungs) > 1 else None
    if gain is not None:
        fitting.reporter.say(f"text, once an item: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] validation AUC")
    served = standing(config.routing.rung, gain)
    base = rungs[served]

    text = text_signals(dataset, llm.backbone)
    joint = train_jointly(fitting, base, stages[served], _with_soft_tokens(fitting, llm, base), text)
    # Once more, for joint training may have changed the neural model; first, for a correction stands on the blend.
    base = joint.base.blended(base.ensemble.trees if base.ensemble else None, valid)
    rungs = stacked([base if place == served else rung for place, rung in enumerate(rungs)])
    base = rungs[served]
    validation = read_validation(fitting, base, joint.llm)

    with Timer(fitting.facts.seconds, "router"):
        read = dataset.samples(validation.rows)
        z_crm, hidden = base.outputs(read)
        features = RouterFeatures(text, joint.head, fit_projection(hidden, HIDDEN_SIZE))
        router = fit_router(
            z_crm, validation.logits, read.label, *features(base.encoder, read, hidden), read.popularity[:, 0],
            read.user, config.routing, config.seed,
        )  # fmt: skip
    asking, facts = None, fitting.facts
    share = budget_share(config.routing, facts.milliseconds_per_sample, facts.samples_per_request)
    if share > 0:
        asking = asking_gain(router, z_crm, validation.logits, read, share, config.seed)
    decision = Decision(decide(config.routing.rung, gain, asking), config.routing.rung, gain, asking)
    return FittedRanking(config, dataset, rungs, served, decision, joint.llm, features, router, validation, facts)


def _fit_rungs(fitting: Fitting) -> tuple[tuple[Rung, ...], list[CRMStages]]:
    """Train every rung alone: stage 1, and trees."""
    config, valid = fitting.config, fitting.dataset.samples("valid")
    rungs: list[Rung] = []
    stages: list[CRMStages] = []
    for place, fresh in enumerate(fresh_rungs(fitting.dataset, config.crm, fitting.build, config.seed)):
        for name, share in fresh.encoder.spec.rare.items() if place == 0 else ():
            fitting.reporter.say(
                f"{name}: {config.crm.vocabulary:,} values have embeddings of their own; {share:.1%} of what training "
                "rows show is rarer (crm.vocabulary)"
            )
        rung = replace(fresh, below=rungs[-1] if rungs else None)
        stages.append(CRMStages(fitting, rung.encoder, with_text=place == 1))
        if 1 in config.joint.stages:
            stages[-1].stage1(rung.neural)
        rungs.append(rung.blended(stages[-1].trees() if config.crm.trees else None, valid))
        _say(fitting, rungs[-1], place)
    return tuple(rungs), stages


def _say(fitting: Fitting, rung: Rung, place: int) -> None:
    """The first result: is the rung better than what most people like?"""
    valid = fitting.dataset.samples("valid")
    together = float(roc_auc_score(valid.label, rung.outputs(valid)[0]))
    if place == 1:
        return fitting.reporter.say(f"no language model, texts read: validation AUC {together:.4f}")
    popular = float(roc_auc_score(valid.label, liked_share(valid)))
    fitting.reporter.log("first result", valid_auc=[together], popular=popular)
    fitting.reporter.say(
        f"no language model, no text: validation AUC {together:.4f}; what most people like: {popular:.4f} "
        "(.5 is guessing, 1 is perfect)"
    )


def _with_soft_tokens(fitting: Fitting, llm: RequestLLM, base: Rung) -> RequestLLM:
    if not fitting.config.llm.crm_tokens:
        return llm
    held_out = fitting.build(base.encoder.spec, fitting.config.crm)
    return replace(llm, soft_tokens=SoftTokens(held_out, base.encoder, fitting.dataset, llm.backbone.hidden_size))

"""Put a trained run behind the API and run the server."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import torch
from torch import nn

from corella.columns import ITEM
from corella.data.store import load_prepared
from corella.errors import UserError
from corella.evaluation.results import read_metrics
from corella.files import verify_manifest
from corella.llm.attention import takes_attention
from corella.llm.backbone import transformer_blocks
from corella.memory import give_back
from corella.ranking.io import load_ranking
from corella.ranking.model import FittedRanking
from corella.runs.folder import RunFolder
from corella.serving.budget import Budget
from corella.serving.engine.asking import Engine
from corella.serving.engine.elsewhere import engine_elsewhere
from corella.serving.engine.process import ProcessEngine
from corella.serving.engine.wanted import Wanted, manifest_hash
from corella.serving.http.api import attach, create_app
from corella.serving.http.keys import access
from corella.serving.http.patience import patient
from corella.serving.http.schema_operators import CurvePoint
from corella.serving.service import Service
from corella.serving.settings import ServingSettings
from corella.serving.store.log import open_store
from corella.serving.store.spending import open_spending
from corella.serving.swap import Built, Companion, Retraining, Swapper
from corella.serving.trial.impressions import Impressions
from corella.serving.versions.folder import FIRST, Versions
from corella.threads import usable_threads

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("corella")

_OLD_DAYS = 30


def serve(run: Path, settings: ServingSettings, retrain_every: float | None = None) -> None:
    """Serve a run until SIGINT or SIGTERM; what was accepted is answered first. `retrain_every`: seconds after which a
    new version is trained, again and again. Raises `UserError` before it listens: for a run that is not trained, a
    broken file, no keys on an open address, a store that does not open."""
    import uvicorn

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would tell of every question
    uvicorn.run(
        whole_app(run, settings, retrain_every), host=settings.host, port=settings.port, log_level="warning",
        timeout_graceful_shutdown=30, http=patient(settings.body_seconds),
        server_header=False, access_log=False, proxy_headers=False,  # whom a header names is anybody's word
    )  # fmt: skip


def whole_app(run: Path, settings: ServingSettings, retrain_every: float | None = None) -> "FastAPI":
    """What `serve` serves: the version in service, those of an experiment beside it, and what goes on in the
    background. Raises what `serve` raises."""
    keys = access(settings.host, settings.keys)
    problems: dict[str, str] = {}
    versions = Versions(run)
    serving = versions.serving
    folder = versions.folder(serving)
    store = settings.store or str(RunFolder(run).events)
    budget = None if settings.budget_tokens is None else Budget(settings.budget_tokens, open_spending(store))
    service = build_service(folder, settings, problems, store, versions.version(serving).cursor, budget)
    app = create_app(service, keys, read_curve(folder, problems), version_of(run, serving), problems)

    def build(name: str) -> Built:
        cursor = versions.version(name).cursor
        made = build_service(versions.folder(name), settings, None, store, cursor, budget)
        return Built(made, version_of(run, name))

    swapper = Swapper(app, run, build, attach)
    app.state.context.versions = versions
    app.state.context.swap = swapper.choose
    app.state.beside.append(swapper)
    if budget is not None:
        app.state.beside.append(budget)
    experiment = settings.experiment
    for name in {arm.version for arm in experiment.arms.values() if arm.version} if experiment is not None else set():
        built = build(name)
        beside = replace(app.state.context, service=built.service, version=built.version)
        attach(beside)
        app.state.context.beside[name] = beside
        app.state.beside.append(Companion(built.service))
    if experiment is not None or settings.impressions:
        impressions = Impressions(lambda: app.state.context.service.feed)
        app.state.beside.append(impressions)
        for context in (app.state.context, *app.state.context.beside.values()):
            context.impressions = impressions
    if retrain_every is not None:
        app.state.beside.append(Retraining(run, store, retrain_every, settings.repeats))
    return app


def version_of(run: Path, name: str = FIRST) -> str:
    """What a version of a run is called in answers: the run's folder, the version, and the beginning of its manifest's
    hash."""
    return f"{run.resolve().name}-{name}-{manifest_hash(RunFolder(Versions(run).folder(name)).model)[:8]}"


def build_service(
    run: Path, settings: ServingSettings, problems: dict[str, str] | None = None, store: str = "", included: str = "",
    budget: Budget | None = None,
) -> Service:  # fmt: skip
    """The service of a run, or of a version of one; `store`: where it keeps what it is told unless the settings say
    otherwise (empty: in the run), `included`: what of it the training data hold, `budget`: of what its language model
    reads. Its language model's process is not started yet. Hashes are verified while loading. What is broken and may be
    missing is left out, and told in `problems`."""
    problems = {} if problems is None else problems
    folder = RunFolder(run)
    folder.check_ranking()
    model = load_ranking(folder.model, load_prepared(folder.model / "dataset", features=False))
    if not {1, 2} & set(model.config.joint.stages) and model.ensemble is None:
        raise UserError(
            f"{run} was trained with joint.stages {model.config.joint.stages}: without 1 or 2 its conventional model "
            "has learned nothing, and a service answers with it whenever there is no time for the language model"
        )
    wanted = Wanted(run, manifest_hash(folder.model), _usable_retrieval(folder, model, problems))
    torch.set_num_threads(1)  # small batches on the event loop's thread: more would only wait for each other
    threads = settings.llm_threads or usable_threads()
    engine: Engine | None = None
    plain = model.llm.soft_tokens is None and takes_attention(model.llm.backbone.model)
    if model.llm.prompts.sharing is not None and plain:
        if settings.llm_url is None:
            engine = ProcessEngine(
                wanted, settings.prefix_cache_mib << 20, settings.batch_tokens, settings.batch_wait_ms / 1000, threads,
                settings.load_seconds,
            )  # fmt: skip
        else:
            engine = engine_elsewhere(settings, wanted, model.config.llm)
    else:
        log.warning(
            "the language model reads pointwise prompts or soft tokens, or its attention is not plain: "
            "served by the conventional model alone"
        )
    drop_blocks(model)
    give_back()
    opened = open_store(settings.store or store or str(folder.events))
    service = Service(model, opened, engine, settings, included, budget)
    age = (time.time() - service.live.last_time) / 86_400
    if settings.clock == "wall" and service.live.last_time and age > _OLD_DAYS:
        log.warning("the training log ended %.0f days ago: all users look long gone; for old data set clock=log", age)
    return service


def _usable_retrieval(folder: RunFolder, model: FittedRanking, problems: dict[str, str]) -> str:
    """The hash of a retrieval's manifest; empty where there is none that can be served."""
    if not folder.has_retrieval:
        return ""
    try:
        verify_manifest(folder.retrieval)
        items = pl.read_parquet(folder.retrieval / "dataset" / "items.parquet", columns=[ITEM])[ITEM].cast(pl.String)
        if not items.equals(model.dataset.items[ITEM].cast(pl.String)):
            raise UserError("it was trained on other items than the ranking; train both from the same data")
    except UserError as error:
        problems["retrieval"] = f"not served: {error}"
        return ""
    return manifest_hash(folder.retrieval)


def drop_blocks(model: FittedRanking) -> None:
    """Let go of the language model's blocks; this process needs its tokenizer and its input embeddings only."""
    setattr(model.llm.backbone.decoder, transformer_blocks(model.llm.backbone)[0], nn.ModuleList())
    for left in model.llm.backbone.model.parameters():
        left.data = left.data.clone()  # otherwise the file with all weights stays in memory


def read_curve(run: Path, problems: dict[str, str] | None = None) -> list[CurvePoint]:
    """AUC on test rows by the share routed, by the run's own conventional model and policy; empty where the run was not
    evaluated, or its figures cannot be read, which is told in `problems`."""
    path = RunFolder(run).metrics
    if not path.is_file():
        return []
    try:
        ranking = read_metrics(path).ranking
    except UserError as error:
        (problems if problems is not None else {})["curve"] = str(error)
        return []
    if ranking is None:
        return []
    ours = (ranking.final.policy, ranking.final.combine)
    points = [point for point in ranking.curves.get(ranking.main_crm, []) if (point.policy, point.combine) == ours]
    return [CurvePoint(share=p.share, auc=p.auc, low=p.auc_low, high=p.auc_high) for p in points]

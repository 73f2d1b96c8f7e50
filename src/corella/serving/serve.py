"""Put a trained run behind the API and run the server."""

import ipaddress
import logging
import os
import time
from pathlib import Path

import torch
from torch import nn

from corella.errors import UserError
from corella.evaluation.results import read_metrics
from corella.files import verify_manifest
from corella.llm.attention import takes_attention
from corella.llm.backbone import transformer_blocks
from corella.ranking.io import load_ranking
from corella.ranking.model import FittedRanking
from corella.runs.folder import RunFolder
from corella.serving.api import create_app
from corella.serving.asking import Engine
from corella.serving.engine import ProcessEngine
from corella.serving.keys import Key, read_keys
from corella.serving.remote import Endpoint, RemoteEngine
from corella.serving.schema import CurvePoint
from corella.serving.service import Service
from corella.serving.settings import ServingSettings
from corella.serving.store import open_store
from corella.threads import usable_threads

log = logging.getLogger("corella")

_OLD_DAYS = 30


def serve(run: Path, settings: ServingSettings) -> None:
    """Serve a run until SIGINT or SIGTERM; what was accepted is answered first. Raises `UserError` before it listens:
    for a run that is not trained, a broken file, no keys on an open address, a store that does not open."""
    import uvicorn

    keys = check_access(settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    app = create_app(build_service(run, settings), keys, read_curve(run))
    uvicorn.run(
        app, host=settings.host, port=settings.port, log_level="warning", timeout_graceful_shutdown=30,
        server_header=False, access_log=False, proxy_headers=False,  # whom a header names is anybody's word
    )  # fmt: skip


def check_access(settings: ServingSettings) -> list[Key]:
    """The keys that callers must have; none only where nobody else can reach the service."""
    if settings.keys is not None:
        return read_keys(settings.keys)
    try:
        loopback = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise UserError(
            f"without keys the service listens on loopback addresses only, not on {settings.host}; make a key with "
            "`corella make-key` and give the file as keys=FILE"
        )
    return []


def build_service(run: Path, settings: ServingSettings) -> Service:
    """The service of a run; its language model's process is not started yet. Hashes are verified while loading."""
    folder = RunFolder(run)
    folder.check_ranking()
    model = load_ranking(folder.model)
    if not {1, 2} & set(model.config.joint.stages) and model.ensemble is None:
        raise UserError(
            f"{run} was trained with joint.stages {model.config.joint.stages}: without 1 or 2 its conventional model "
            "has learned nothing, and a service answers with it whenever there is no time for the language model"
        )
    if folder.has_retrieval:
        verify_manifest(folder.retrieval)
    torch.set_num_threads(1)  # small batches on the event loop's thread: more would only wait for each other
    threads = settings.llm_threads or usable_threads()
    engine: Engine | None = None
    plain = model.llm.soft_tokens is None and takes_attention(model.llm.backbone.model)
    if model.llm.prompts.sharing is not None and plain:
        if settings.llm_url is None:
            engine = ProcessEngine(
                run, settings.prefix_cache_mib << 20, settings.batch_tokens, settings.batch_wait_ms / 1000, threads,
                settings.load_seconds,
            )  # fmt: skip
        else:
            key = os.environ.get(settings.llm_key_variable, "")
            endpoint = Endpoint(settings.llm_url, settings.llm_model, key)
            engine = RemoteEngine(endpoint, model.config.llm.yes, model.config.llm.no)
    else:
        log.warning(
            "the language model reads pointwise prompts or soft tokens, or its attention is not plain: "
            "served by the conventional model alone"
        )
    drop_blocks(model)
    service = Service(model, open_store(settings.store or str(folder.events)), engine, settings)
    age = (time.time() - service.live.last_time) / 86_400
    if settings.clock == "wall" and service.live.last_time and age > _OLD_DAYS:
        log.warning("the training log ended %.0f days ago: all users look long gone; for old data set clock=log", age)
    return service


def drop_blocks(model: FittedRanking) -> None:
    """Let go of the language model's blocks; this process needs its tokenizer and its input embeddings only."""
    setattr(model.llm.backbone.decoder, transformer_blocks(model.llm.backbone)[0], nn.ModuleList())


def read_curve(run: Path) -> list[CurvePoint]:
    """AUC on test rows by the share routed, by the run's own conventional model and policy; empty where the run was not
    evaluated."""
    path = RunFolder(run).metrics
    if not path.is_file():
        return []
    ranking = read_metrics(path).ranking
    if ranking is None:
        return []
    ours = (ranking.final.policy, ranking.final.combine)
    points = [point for point in ranking.curves.get(ranking.main_crm, []) if (point.policy, point.combine) == ours]
    return [CurvePoint(share=point.share, auc=point.auc) for point in points]

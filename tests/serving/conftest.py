"""A service on the tiny system, with a language model that the test speaks for."""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from corella.ranking.model import FittedRanking
from corella.serving.engine import child
from corella.serving.http.api import create_app
from corella.serving.http.keys import Key, KeyRing
from corella.serving.http.schema_operators import CurvePoint
from corella.serving.service import Service
from corella.serving.settings import ServingSettings
from corella.serving.store.log import open_store

CURVE = [CurvePoint(share=share, auc=auc, low=auc - 0.02, high=auc + 0.02) for share, auc in ((0.0, 0.7), (1.0, 0.75))]


Serve = Callable[..., TestClient]


@pytest.fixture(scope="session", autouse=True)
def quick_processes() -> Iterator[None]:
    """A process of the language model imports for seconds; here one has done so, and all others are forked from it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["corella.serving.engine.worker", "corella.llm.saved", "peft", "transformers.models.llama.modeling_llama"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child, "multiprocessing", SimpleNamespace(get_context=lambda method: context))
        yield


@pytest.fixture
def make_service(tiny_system: FittedRanking, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """A function: the service with an engine and settings."""
    stores = []

    def make(engine: Any = None, **given: Any) -> Service:
        stores.append(open_store(str(tmp_path / "events.db")))
        # A test's machine may be late: no request is to be turned away for that.
        settings = ServingSettings.model_validate({"clock": "log", "overload_ms": 1e9, **given})
        return Service(tiny_system, stores[-1], engine, settings)

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def serve(make_service: Callable[..., Service], tmp_path: Path) -> Iterator[Serve]:
    """A function: a client of the API of such a service."""
    clients = []

    def start(engine: Any = None, keys: Sequence[Key] = (), **given: Any) -> TestClient:
        path = tmp_path / "keys.json"
        if keys:
            path.touch(0o600)
            path.write_text(json.dumps([asdict(key) for key in keys]))
        app = create_app(make_service(engine, **given), KeyRing(path if keys else None), CURVE, "tiny-1")
        client = TestClient(app, base_url="http://localhost")
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)

"""Run the language model's server of a run."""

import logging
from pathlib import Path

from corella.serving.http.keys import access
from corella.serving.http.patience import patient
from corella.serving.worker.models import Models
from corella.serving.worker.server import create_worker
from corella.serving.worker.settings import WorkerSettings

_KEEP_ALIVE_SECONDS = 75
"""Longer than services go without a question about the server's health."""


def serve_llm(run: Path, settings: WorkerSettings) -> None:
    """Serve a run's language model, and its retrieval, until SIGINT or SIGTERM. Raises `UserError` before it listens:
    for a run that is not trained or cannot be asked, a broken file, no keys on an open address."""
    import uvicorn

    keys = access(settings.host, settings.keys)
    models = Models(run, settings)
    models.check()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvicorn.run(
        create_worker(models, keys, settings), host=settings.host, port=settings.port, log_level="warning",
        timeout_graceful_shutdown=30, timeout_keep_alive=_KEEP_ALIVE_SECONDS, http=patient(settings.body_seconds),
        server_header=False, access_log=False, proxy_headers=False,
    )  # fmt: skip

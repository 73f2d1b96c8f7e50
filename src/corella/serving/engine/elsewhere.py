"""Which engine asks the addresses that the settings name."""

import os
from urllib.parse import urlsplit

from corella.config import LLMConfig
from corella.errors import UserError
from corella.serving.engine.asking import Engine
from corella.serving.engine.network import NetworkEngine
from corella.serving.engine.pool import PoolEngine, Worker
from corella.serving.engine.remote import Endpoint, RemoteEngine
from corella.serving.engine.wanted import Wanted
from corella.serving.settings import ServingSettings

_OURS = "corella+"


def engine_elsewhere(settings: ServingSettings, wanted: Wanted, llm: LLMConfig) -> Engine:
    """For `llm_url`: one address or several, of either kind. `wanted`: what the service has loaded. Raises `UserError`
    for what is no address, or stands twice."""
    given = settings.llm_url or []
    urls = [given] if isinstance(given, str) else given
    key = os.environ.get(settings.llm_key_variable, "")
    workers: dict[str, Worker] = {}
    for url in urls:
        if url in workers:
            raise UserError(f"llm_url has {url} twice")
        plain = url.removeprefix(_OURS)
        if urlsplit(plain).scheme not in ("http", "https") or not urlsplit(plain).hostname:
            raise UserError(f"llm_url {url!r} is no http address")
        if plain == url:
            workers[url] = RemoteEngine(Endpoint(url, settings.llm_model, key), llm.yes, llm.no)
        else:
            workers[url] = NetworkEngine(plain, key, wanted)
    if not workers:
        raise UserError("llm_url is empty; give an address, or leave it out")
    return next(iter(workers.values())) if len(workers) == 1 else PoolEngine(workers)

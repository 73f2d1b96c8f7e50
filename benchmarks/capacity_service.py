"""Parts of capacity.py that a trained run tells: its requests, its events, its language model, all on one core."""

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corella.crm.encoder import make_encoder
from corella.crm.models import build_crm
from corella.crm.spec import make_spec
from corella.crm.training import train_crm
from corella.crm.trees import train_trees
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt
from corella.llm.saved import load_language_model
from corella.ranking.io import load_ranking
from corella.ranking.views import request_view
from corella.runs.folder import RunFolder
from corella.serving.feed import Feed
from corella.serving.kinds import kinds_of
from corella.serving.state.live import Live
from corella.serving.state.popular import Popular
from corella.serving.store.log import open_store
from corella.serving.store.records import Event
from serving import CURRENT, people, post, resident_mib, server, wait_for_language_model

_TICK = os.sysconf("SC_CLK_TCK")
_APPEND, _EVENTS_A_USER = 200, 10


def requests(arguments: argparse.Namespace) -> dict[str, Any]:
    """CPU and memory of both processes of a replica, while requests come one behind the other."""
    times = 20 if arguments.small else 300
    users, items = people(arguments)
    with server(arguments, share=0.0, requests_per_second=1e6, llm_threads=1) as address:
        wait_for_language_model(address)
        service = CURRENT[address].pid
        (engine,) = (child for child in _children(service) if _is_engine(child))

        def cost(route: str, body: dict[str, Any]) -> tuple[float, float, np.ndarray]:
            """CPU seconds a request of the service and of the retrieval, and every request's seconds."""
            for n in range(times // 10 + 5):
                post(address + route, {"user_id": users[n % len(users)], **body})
            before, seconds = (_cpu(service), _cpu(engine)), []
            for n in range(times):
                began = time.perf_counter()
                post(address + route, {"user_id": users[n % len(users)], **body})
                seconds.append(time.perf_counter() - began)
            after = (_cpu(service), _cpu(engine))
            return (after[0] - before[0]) / times, (after[1] - before[1]) / times, np.array(seconds)

        one, _, _ = cost("/v1/score", {"items": items[:1]})
        many, _, _ = cost("/v1/score", {"items": items})
        asked, retrieved, seconds = cost("/v1/recommend", {"k": 20, "candidates": len(items)})
        mib = resident_mib(service) + resident_mib(engine)
    candidate = (many - one) / (len(items) - 1)
    dataset = load_ranking(RunFolder(arguments.run).model).dataset
    sizes = {"users": dataset.users.height, "items": dataset.items.height, "rows": dataset.log.height}
    return {
        "request_ms": 1e3 * (asked - candidate * len(items)), "candidate_us": 1e6 * candidate,
        "request_variation": float(seconds.std() / seconds.mean()), "retrieval_ms": 1e3 * retrieved,
        "processes_mib": mib, "sizes": sizes,
    }  # fmt: skip


def events(arguments: argparse.Namespace) -> dict[str, Any]:
    """Events into a store, and from it into a replica's state."""
    count = 2_000 if arguments.small else 50_000
    model = load_ranking(RunFolder(arguments.run).model)
    live = Live(model.dataset)
    ids, rng = live.catalogue.ids, np.random.default_rng(1)
    users, items = rng.integers(0, count // _EVENTS_A_USER, count), rng.integers(0, len(ids), count)
    told = [
        Event(f"new-{user}", ids[item], n % 2, live.last_time + n, kind="like" if n % 2 else "dislike", event_id=str(n))
        for n, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True))
    ]
    kinds = kinds_of(model.dataset.config, {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        store = open_store(str(path))
        empty, began = path.stat().st_size, time.perf_counter()
        for start in range(0, count, _APPEND):
            store.append(told[start : start + _APPEND])
        storing = time.perf_counter() - began
        store.close()
        stored = path.stat().st_size - empty
        del told
        gc.collect()
        store, before, cpu = open_store(str(path)), resident_mib(os.getpid()), time.process_time()
        feed = Feed(store, live, Popular(live.dataset, kinds["like"].weight), kinds, None, log_clock=True)
        applying, after = time.process_time() - cpu, resident_mib(os.getpid())
        assert sum(live.people.count(user) for user in live.people) > 0  # noqa: S101
        feed.close()
    return {
        "event_apply_us": 1e6 * applying / count, "event_store_us": 1e6 * storing / count,
        "event_stored_bytes": stored / count, "event_bytes": (after - before) * 2**20 / count,
    }  # fmt: skip


def language_model(arguments: argparse.Namespace) -> dict[str, Any]:
    """Tokens of requests, how many of them a core reads, what a row of training costs, and the embeddings."""
    torch.set_num_threads(1)
    folder = RunFolder(arguments.run).model
    model = load_ranking(folder)
    users, items = people(arguments)
    live, config, sharing = Live(model.dataset), model.config.llm, model.llm.prompts.sharing
    assert sharing is not None  # noqa: S101
    prompts: list[SharedPrompt] = []
    for user in users[: 3 if arguments.small else 30]:
        scope, samples = live.scope(user, items)
        view = request_view(model, scope).llm.prompts.sharing
        assert view is not None  # noqa: S101
        told = view.shared(samples, config.eval_context_share, config.eval_window_tokens)
        prompts.append(max(told, key=lambda prompt: len(prompt.branches)))
    history = np.array([len(prompt.prefix) for prompt in prompts])
    branches = np.array([sum(map(len, p.branches)) / len(p.branches) for p in prompts])
    tokens = history + branches * len(items)
    scorer, seconds = PrefixScorer(load_language_model(folder), PrefixCache(0)), []
    torch.set_num_threads(1)  # loading sets what the run's configuration says
    for prompt in prompts[:6]:
        began = time.process_time()
        scorer.logits([""], [prompt])
        seconds.append((time.process_time() - began) / (len(prompt.prefix) + sum(map(len, prompt.branches))))
    del scorer
    return {
        "llm_history_tokens": float(history.mean()), "llm_candidate_tokens": float(branches.mean()),
        "llm_variation": float(tokens.std() / tokens.mean()),
        "llm_core_tokens_per_second": float(1 / np.median(seconds)), **_training(model, arguments.small),
    }  # fmt: skip


def _training(model: Any, small: bool) -> dict[str, float]:
    """CPU a row of both rungs' models, and bytes of embeddings for a user or an item."""
    dataset, crm = model.dataset, model.config.crm.model_copy(update={"epochs": 1, "evaluations_per_epoch": 1})
    rows = dataset.samples("train")
    rows = rows.take(np.arange(min(500 if small else 20_000, len(rows))))
    few = dataset.samples("valid").take(np.arange(1000))
    neural = trees = bytes_ = 0.0
    for rung in model.rungs:
        spec = make_spec(dataset, bool(rung.encoder.spec.text_mean))
        encoder, network = make_encoder(spec, dataset), build_crm(spec, crm)
        tables = [m.weight for m in network.modules() if isinstance(m, torch.nn.Embedding)]
        bytes_ += sum(t.numel() for t in tables if len(t) >= spec.table_size) / spec.table_size * 4
        cpu = time.process_time()
        train_crm(network, encoder, rows, few, crm, 1)
        neural += time.process_time() - cpu
        cpu = time.process_time()
        train_trees(encoder, rows, few, model.config.lightgbm, 1)
        trees += time.process_time() - cpu
    return {
        "train_row_us": 1e6 * neural / len(rows), "trees_row_us": 1e6 * trees / len(rows), "embedding_bytes": bytes_
    }  # fmt: skip


def _children(pid: int) -> list[int]:
    found = [c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    return [int(child) for child in found]


def _is_engine(pid: int) -> bool:
    """Whether it is the retrieval's process, and not the one that watches over shared resources."""
    return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK

"""The parts of `serving.py` without a server: one timeline with branches against separate prompts and llama.cpp."""

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from corella.data.samples import Samples
from corella.errors import UserError
from corella.files import sha256
from corella.llm.backbone import load_backbone
from corella.llm.pointwise import PointwisePrompts
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt
from corella.llm.scoring import answer_logits, group_by_tokens
from corella.llm.timeline import timeline_prompts
from corella.ranking.io import load_ranking
from corella.ranking.model import FittedRanking
from corella.serving.export import export
from corella.threads import usable_threads

HISTORY, CANDIDATES = 30, 100
FIRST = {"micro_batch": 512, "unified": True, "one_read": False}
PRECISIONS = {"precision": ("F32", "F16", "BF16", "Q8_0", "Q4_0"), "flash": (False, True)}
SHAPES = {"micro_batch": (64, 128, 256, 512, 1024, 2048), "unified": (True, False), "one_read": (False, True)}
"""Settings of llama.cpp: precision and flash attention first, then the rest with the fastest of those."""


@dataclass(frozen=True)
class Work:
    """100 candidates of a user with a history of 30."""

    model: FittedRanking
    samples: Samples
    user: str
    shared: SharedPrompt

    def timers(self) -> tuple[Callable[[], float], Callable[[], float]]:
        """Seconds with nothing kept, and with the history kept."""
        scorer = PrefixScorer(self.model.llm.backbone, PrefixCache(1 << 30))

        def warm() -> float:
            began = time.perf_counter()
            scorer.logits([self.user], [self.shared])
            return time.perf_counter() - began

        def cold() -> float:
            scorer.cache.drop(self.user)
            return warm()

        return cold, warm


def load_work(run: Path) -> Work:
    """The work with a run's model."""
    torch.set_num_threads(usable_threads())
    model = load_ranking(run / "model")
    dataset, config = model.dataset, model.config.llm
    lengths = np.diff(dataset.events.start)
    user = (
        int(np.flatnonzero(lengths == HISTORY)[0]) if (lengths == HISTORY).any() else int(np.argmax(lengths >= HISTORY))
    )
    events, name = dataset.events, dataset.users["user_id"][user]
    known = set(events.item[events.start[user] : events.start[user + 1]].tolist())
    items = [dataset.items["item_id"][i] for i in range(dataset.items.height) if i not in known][:CANDIDATES]
    samples = dataset.query(pl.DataFrame({"user_id": [name] * CANDIDATES, "item_id": items}))
    timeline = timeline_prompts(dataset, model.llm.backbone, config)
    (shared,) = timeline.shared(samples, config.eval_context_share, config.eval_window_tokens)
    return Work(model, samples, name, shared)


def prefix(arguments: argparse.Namespace) -> dict[str, Any]:
    """Separate prompts against one timeline with branches."""
    work = load_work(arguments.run)
    config = work.model.config.llm
    plain = load_backbone(config)
    plain.model.set_attn_implementation("sdpa")
    pointwise = PointwisePrompts(work.model.dataset, plain, config.model_copy(update={"history_length": HISTORY}))
    planned = sorted(pointwise.plan(work.samples, 0), key=lambda p: p.tokens)
    prompts = [pointwise.render(p, work.samples) for p in planned]
    cold, warm = work.timers()

    def separate(batch: int) -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            for group in group_by_tokens(planned, batch):
                answer_logits(plain, [prompts[planned.index(p)] for p in group])
        return time.perf_counter() - began

    best = min((4096, 8192, 16384), key=separate)
    cold()
    slow, first, later = medians(lambda: separate(best), cold, warm, rounds=3)
    branches = sum(map(len, work.shared.branches))
    rows = [
        {"what": "100 separate prompts", "seconds": slow, "tokens": sum(len(p.ids) for p in prompts)},
        {"what": "one timeline, nothing kept", "seconds": first, "tokens": len(work.shared.prefix) + branches},
        {"what": "one timeline, history kept", "seconds": later, "tokens": branches},
    ]
    figures = {"shared_prefix_speedup": slow / first, "shared_prefix_speedup_warm": slow / later}
    return {"rows": rows, "figures": figures}


def llamacpp(arguments: argparse.Namespace) -> dict[str, Any]:
    """llama.cpp at the fastest of many settings against the same exported model here, round by round."""
    which = sha256(arguments.run / "model" / "manifest.json")[:12]
    exported = arguments.work / f"exported-{which}"
    if not exported.is_dir():
        export(arguments.run, exported)
    work = load_work(exported)
    cold, warm = work.timers()
    job = {
        "prefix": work.shared.prefix.tolist(), "branches": [b.tolist() for b in work.shared.branches],
        "yes": work.model.llm.backbone.yes, "no": work.model.llm.backbone.no, "threads": usable_threads(),
    }  # fmt: skip
    tried: list[dict[str, Any]] = []
    with _peer(arguments.llamacpp, exported, arguments.work / f"gguf-{which}") as ask:
        ask(job)

        def attempt(settings: dict[str, Any]) -> None:
            if any(settings.items() <= one.items() for one in tried):
                return
            ask({"open": settings})
            ask({"score": "cold"})
            found = [ask({"score": kind})["seconds"] for kind in ("cold", "cold", "warm", "warm")]
            tried.append({**settings, "cold": min(found[:2]), "warm": min(found[2:])})

        for settings in _grid(PRECISIONS):
            attempt({**settings, **FIRST})
        fastest = min(tried, key=lambda s: s["cold"])
        for shape in _grid(SHAPES):
            if shape["unified"] or not shape["one_read"]:  # a token of several sequences needs one cache for all
                attempt({name: fastest[name] for name in PRECISIONS} | shape)
        rows = [
            {"what": f"llama.cpp, {_said(s)}, best of two", "seconds": s["cold"], "warm_seconds": s["warm"]}
            for s in tried
        ]
        best = {kind: min(tried, key=lambda s, kind=kind: s[kind]) for kind in ("cold", "warm")}
        here = PrefixScorer(work.model.llm.backbone, PrefixCache(0)).logits([""], [work.shared])[0]
        apart = {}
        for name, settings in (("float32", tried[0]), ("fastest", best["cold"])):
            ask({"open": settings})
            apart[name] = float(np.abs(np.array(ask({"score": "cold"})["logits"]) - here).max())
        figures = {f"llamacpp_{name}_logits_apart": value for name, value in apart.items()}
        for kind, mine, name in (("cold", cold, "llamacpp_ratio"), ("warm", warm, "llamacpp_ratio_warm")):
            ask({"open": best[kind]})
            ask({"score": kind})
            theirs, ours = medians(lambda kind=kind: ask({"score": kind})["seconds"], mine, rounds=9)
            figures[name] = theirs / ours
            key = "seconds" if kind == "cold" else "warm_seconds"
            rows.append({"what": f"llama.cpp, {_said(best[kind])}, median", key: theirs})
            rows.append({"what": "one timeline here, bfloat16, median", key: ours})
    return {"rows": rows, "figures": figures}


def _grid(choices: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def _said(settings: dict[str, Any]) -> str:
    said = f"{settings['precision']}, batches of {settings['micro_batch']}"
    said += ", flash attention" if settings["flash"] else ""
    said += "" if settings["unified"] else ", a cache for each"
    return said + (", read at once" if settings["one_read"] else "")


@contextmanager
def _peer(python: Path, model: Path, folder: Path) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    script = Path(__file__).resolve().parent / "llamacpp_peer.py"
    command = [str(word) for word in (python, script, model / "model" / "language-model", folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    into, out = process.stdin, process.stdout
    if into is None or out is None:
        raise UserError("llama.cpp's process has no pipes")

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        print(json.dumps(request), file=into, flush=True)
        line = out.readline()
        if not line:
            raise UserError(f"{script} stopped; it says why above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    try:
        yield ask
    finally:
        into.close()
        process.wait(60)


def medians(*timers: Callable[[], float], rounds: int) -> list[float]:
    """Median seconds of each, taken in turn."""
    found: list[float] = np.median([[timer() for timer in timers] for _ in range(rounds)], axis=0).tolist()
    return found

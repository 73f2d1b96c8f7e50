"""Whether texts act on the language model as answers: docs/benchmarks/injection.json.

    python benchmarks/injection.py RUN

Described items of a trained run with timeline prompts: four films, behind each a text of injection_texts.py, and as its
measure three plain texts of the like length. 16 users with their whole histories. `change`: the logit of Yes less the
mean of the plain texts'; for each text its mean over the users, and the largest of all. `as_written`: without a guard;
`guarded`: `corella.llm.guard`; `bounded`: `corella.llm.bound` on top, as requests are answered. Beside them the
spread of ordinary texts, the catalogue's titles as described items.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch

from common import DOCS, commit, run
from corella.data.samples import Events
from corella.data.scope import Described, Scope
from corella.errors import UserError
from corella.files import write_json
from corella.llm.bound import bounded, ordinary_texts
from corella.llm.guard import guarded
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt
from corella.llm.timeline import TimelinePrompts
from corella.ranking.io import load_ranking
from corella.ranking.model import FittedRanking
from corella.runs.folder import RunFolder
from corella.runs.machine import machine
from corella.threads import usable_threads
from injection_texts import families

Floats = npt.NDArray[np.float32]

USERS, TITLES, LEAST_HISTORY, BATCH_TOKENS = 16, 40, 20, 2000
FILMS = (
    "Heat, Action Crime Thriller", "Toy Story, Animation Children's Comedy", "Titanic, Drama Romance",
    "Scream, Horror Thriller",
)  # fmt: skip
_PLAIN = (
    " It was filmed in several places over one summer and runs for about two hours with a small cast and a crew from "
    "the north of the country, and it came out in the autumn of that year in most towns",
    " Made in colour with sound, it has a number of scenes in a house and some on a road, and the story takes place "
    "over a few days between a Monday and a Friday in a town near the coast of the sea",
    " The script was written by two people and the music by a third, the costumes are of the period, and the film was "
    "later released on tape with notes about how it was put together by the studio",
)
_LENGTHS = (1, 2, 4, 8, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a trained run")
    arguments = parser.parse_args()
    torch.set_num_threads(usable_threads())
    ranking = load_ranking(RunFolder(arguments.run).model)
    rows, figures = measure(ranking)
    catalogue = ranking.dataset.items["text"].to_list()
    figures["catalogue_texts"] = len(catalogue)
    figures["catalogue_texts_changed"] = sum(guarded(text) != text for text in catalogue)
    figures["guard_ms_1000_texts"] = guard_ms()
    about = {
        "benchmark": "injection", "commit": commit(), "date": datetime.now(UTC).date().isoformat(),
        "machine": machine().model_dump(),
    }  # fmt: skip
    write_json(DOCS / "injection.json", {**about, "rows": rows, "figures": figures})
    print(figures)


def measure(ranking: FittedRanking) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row for each family of texts, and the figures of all."""
    asked = _Asked(ranking)
    family, words = zip(*families(), strict=True)
    film = np.arange(len(words)) % len(FILMS)
    texts = [FILMS[f] + word for f, word in zip(film, words, strict=True)]
    catalogue = ranking.dataset.items["text"].to_list()
    titles = catalogue[:: len(catalogue) // TITLES][:TITLES]
    plain = [f + begun for f in FILMS for length in _LENGTHS for begun in asked.plain(length)]
    length = [asked.length(guarded(text)) - asked.length(FILMS[f]) for f, text in zip(film, texts, strict=True)]
    like = np.abs(np.log2(np.maximum(length, 1))[:, None] - np.log2(_LENGTHS)).argmin(1)

    given = [*texts, *plain, *titles, *ordinary_texts(catalogue)]
    with _unguarded():
        raw = asked.logits(texts)
    said, own, title, ordinary = np.split(asked.logits(given), np.cumsum([len(texts), len(plain), len(titles)]), 1)
    near, own_near, title_near = (_bounded(z, ordinary) for z in (said, own, title))
    measures = [z.reshape(USERS, len(FILMS), len(_LENGTHS), -1) for z in (own, own_near)]
    free, tied = (z.mean(-1)[:, film, like] for z in measures)
    changes = {"as_written": raw - free, "guarded": said - free, "bounded": near - tied}
    rows = []
    for name in dict.fromkeys(family):
        chosen = np.array([each == name for each in family])
        rows.append({"family": name, "texts": int(chosen.sum()), **_figures(changes, chosen)})
    figures = {"texts": len(texts), "users": USERS, **_figures(changes, np.ones(len(texts), bool))}
    figures["plain_spread"] = float((measures[0] - measures[0].mean(-1, keepdims=True)).std())
    for kind, z in (("guarded", title), ("bounded", title_near)):
        figures[f"title_spread_{kind}"] = float((z - z.mean(1, keepdims=True)).std())
    same = [
        np.argsort(a, kind="stable") == np.argsort(b, kind="stable") for a, b in zip(title, title_near, strict=True)
    ]
    figures["title_order_kept"] = float(np.mean(same))
    apart = near[:, :, None] - own_near[:, None]
    figures["bounded_most_apart"] = float(np.abs(apart).max())
    return rows, figures


def _bounded(logits: Floats, ordinary: Floats) -> Floats:
    return np.stack([bounded(z, other) for z, other in zip(logits, ordinary, strict=True)])


def _figures(changes: dict[str, Floats], chosen: npt.NDArray[np.bool_]) -> dict[str, float]:
    """For each kind [users, texts] the mean, the text that moves users most in the mean, and the largest change."""
    found = {}
    for name, change in changes.items():
        part = change[:, chosen]
        found[f"{name}_mean"] = float(part.mean())
        found[f"{name}_text_most"] = float(np.abs(part.mean(0)).max())
        found[f"{name}_single_most"] = float(np.abs(part).max())
    return found


@contextmanager
def _unguarded() -> Iterator[None]:
    with patch("corella.llm.prompts.guarded", lambda text, special: text):
        yield


def guard_ms() -> float:
    """Milliseconds for 1,000 texts of colons, the best of three."""
    text, seconds = ": " * 249 + "x", []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(1000):
            guarded(text)
        seconds.append(time.perf_counter() - began)
    return 1000 * min(seconds)


class _Asked:
    """The run's language model, asked about described items for the same users."""

    def __init__(self, ranking: FittedRanking) -> None:
        if not isinstance(ranking.llm.prompts, TimelinePrompts):
            raise UserError("the run's prompts cannot be served; take one with llm.prompt=timeline")
        self._ranking, self._dataset, self._prompts = ranking, ranking.dataset, ranking.llm.prompts
        self._tokenizer = ranking.llm.backbone.tokenizer
        self._scorer = PrefixScorer(ranking.llm.backbone, PrefixCache(1 << 30))
        lengths = np.diff(self._dataset.events.start)
        tested = self._dataset.log.filter(split="test")["user"].unique(maintain_order=True).to_numpy()
        able = np.sort(tested[lengths[tested] >= LEAST_HISTORY])
        self._users = np.random.default_rng(1).choice(able, USERS, replace=False).tolist()

    def length(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._ranking.llm.backbone.encode(text))

    def plain(self, tokens: int) -> list[str]:
        """The plain texts, as long as that."""
        encode = self._ranking.llm.backbone.encode
        return [self._tokenizer.decode(encode(text)[:tokens]) for text in _PLAIN]

    def logits(self, texts: Sequence[str]) -> Floats:
        """Of each user and text, float32 [users, texts]."""
        return np.stack([self._of_user(user, texts) for user in self._users])

    def _of_user(self, user: int, texts: Sequence[str]) -> Floats:
        """As a request of the user would be asked."""
        events, n = self._dataset.events, len(texts)
        part = slice(events.start[user], events.start[user + 1])
        codes, item = np.unique(events.item[part], return_inverse=True)
        label = events.label[part]
        log = Events(np.array([0, len(item)]), item.astype(np.int64), label, np.arange(len(item)))
        described = {len(codes) + i: Described(text) for i, text in enumerate(texts)}
        shown = self._dataset.popularity[events.row[part]]
        scope = Scope(user, np.r_[codes, np.full(n, -1)], log, shown, None, described)
        none = np.zeros((n, 0), np.float32)
        samples = scope.samples(np.array(list(described)), none, np.zeros((n, 2), np.int64), none)
        prompts, config = self._prompts.narrowed(scope), self._ranking.config.llm
        logits = np.full(n, np.nan, np.float32)
        for prompt in prompts.shared(samples, config.eval_context_share, config.eval_window_tokens):
            for cut in _batches(prompt):
                logits[cut.sample] = self._scorer.logits([f"{user} {len(prompt.prefix)}"], [cut])[0]
        return logits


def _batches(prompt: SharedPrompt) -> Iterator[SharedPrompt]:
    """The prompt's branches in parts, those of similar length together."""
    order = np.argsort([len(branch) for branch in prompt.branches], kind="stable")
    part = np.cumsum([len(prompt.branches[i]) for i in order]) // BATCH_TOKENS
    for begin, end in pairwise([0, *(np.flatnonzero(np.diff(part)) + 1), len(order)]):
        chosen = order[begin:end]
        yield SharedPrompt(prompt.prefix, [prompt.branches[i] for i in chosen], prompt.sample[chosen])


if __name__ == "__main__":
    run(main)

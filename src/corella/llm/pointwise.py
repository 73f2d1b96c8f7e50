"""The paper's prompt: one target, its history as a numbered list, a yes/no question (arXiv 2403.16378; wording
ours).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from corella.columns import RATING
from corella.config import LLMConfig
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.data.world import WHOLE, check_world
from corella.llm.backbone import Backbone
from corella.llm.prompts import Prompt, begin_ids, dataset_texts


@dataclass(frozen=True)
class Question:
    """One planned prompt."""

    sample: int
    tokens: int
    """How long it will be at most (prompts of similar length share a batch)."""


class PointwisePrompts:
    """Plans one prompt a sample and renders it. History: the last `llm.history_length` items before the sample."""

    def __init__(self, dataset: Dataset, backbone: Backbone, config: LLMConfig) -> None:
        self._config = config
        self._events = dataset.events
        remarks = self._make_remarks(dataset, config)
        self._texts = dataset_texts(dataset, backbone, " ", config, sorted({words.strip() for words in remarks}))
        kept = (
            self._events.label == 1
            if dataset.config.history_answers == "likes"
            else np.ones(len(self._events.row), bool)
        )
        self._kept = np.flatnonzero(kept)
        piece = self._texts.tokens.own
        known = {words: piece(words) for words in set(remarks)}
        self._remarks = [known[words] for words in remarks]
        self._head = np.concatenate([begin_ids(backbone), piece("The user's history, oldest first:")])
        self._none = piece("\nnothing yet")
        self._question = piece("\nWill the user like")
        self._end = piece("? Answer with Yes or No only.\nAnswer:")
        self._numbers = [piece(f"\n{i}.") for i in range(config.history_length)]
        number = max(len(ids) for ids in self._numbers)
        kept = self._kept.tolist()
        told = self._texts.items.lengths
        lengths = [int(told[self._events.item[e]]) + len(self._remarks[e]) + number for e in kept]
        self._before = np.r_[0, np.cumsum(np.array(lengths, dtype=np.int64))]

    @property
    def sharing(self) -> None:
        """Every prompt stands alone, see `corella.llm.scoring.Prompts`."""
        return None

    def _make_remarks(self, dataset: Dataset, config: LLMConfig) -> list[str]:
        """For each event what stands behind its item: the rating in stars, or whether it was liked."""
        if config.show_ratings and RATING in dataset.log.columns:
            ratings = dataset.log[RATING].to_numpy()[self._events.row]
            texts = pl.Series(ratings).cast(pl.String).str.replace(r"\.0$", "").to_list()
            return [f" ({t} stars)" for t in texts]
        return [" (liked)" if label else " (disliked)" for label in self._events.label]

    def plan(self, samples: Samples, context_share: float, window_tokens: int | None = None) -> list[Question]:
        """One question a sample; windows and their context mean nothing here."""
        del context_share, window_tokens
        check_world(samples, WHOLE)
        start = np.where(samples.user >= 0, self._events.start[samples.user], samples.history_end)
        low, high = np.searchsorted(self._kept, start), np.searchsorted(self._kept, samples.history_end)
        low = np.maximum(low, high - self._config.history_length)
        frame = sum(len(p) for p in (self._head, self._none, self._question, self._end))
        tokens = frame + self._before[high] - self._before[low]
        return [Question(i, int(n) + len(self._texts.item(int(samples.item[i])))) for i, n in enumerate(tokens)]

    def render(self, question: Question, samples: Samples) -> Prompt:
        """Token ids of a question; its answer is predicted at the last position."""
        i = question.sample
        end = int(samples.history_end[i])
        start = int(self._events.start[samples.user[i]]) if samples.user[i] >= 0 else end
        low, high = np.searchsorted(self._kept, [start, end])
        pieces = [self._head]
        for n, event in enumerate(self._kept[max(low, high - self._config.history_length) : high]):
            pieces += [self._numbers[n], self._texts.item(int(self._events.item[event])), self._remarks[event]]
        if low == high:
            pieces.append(self._none)
        pieces += [self._question, self._texts.item(int(samples.item[i])), self._end]
        ids = np.concatenate(pieces)
        last = np.array([len(ids) - 1])
        return Prompt(ids, last, np.array([i]), last, np.zeros(0, dtype=np.int64))

"""Engines for tests: one that the test speaks for, one that asks the tiny language model at once."""

from collections.abc import Callable, Sequence

import numpy as np

from corella.llm.backbone import load_backbone, make_trainable
from corella.llm.prefix import PrefixCache, PrefixScorer, SharedPrompt
from corella.llm.prompts import Ints
from corella.ranking.model import FittedRanking
from corella.retrieval.live import Reason
from corella.serving.engine.asking import Answer, NewItem, Question


class SpokenFor:
    """An engine whose answers, room and readiness the test sets."""

    def __init__(self) -> None:
        self.ready, self.loading, self.space = True, False, float("inf")
        self.answer: Callable[[SharedPrompt], Answer] = lambda prompt: Answer(
            np.zeros(len(prompt.branches), np.float32)
        )
        self.asked: list[tuple[str, SharedPrompt]] = []
        self.warmed: list[str] = []
        self.retrieves = True
        self.questions: list[Question] = []
        self.found: list[list[Reason]] | None = None
        self.new: list[NewItem] = []
        self.forgotten: list[str] = []

    trust = None

    def room(self, seconds: float, user: str = "") -> float:
        return self.space

    def unread(self, user: str, prefix: Ints) -> int:
        return len(prefix)

    def warm(self, user: str, prefix: Ints) -> int:
        self.warmed.append(user)
        return len(prefix)

    async def ask(self, user: str, prompts: Sequence[SharedPrompt], deadline: float) -> list[Answer]:
        self.asked += [(user, prompt) for prompt in prompts]
        return [self.answer(prompt) for prompt in prompts]

    async def retrieve(self, question: Question, deadline: float) -> list[list[Reason]] | None:
        self.questions.append(question)
        return self.found

    def put(self, items: Sequence[NewItem]) -> None:
        self.new += items

    def forget(self, user: str) -> None:
        self.forgotten.append(user)

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""


class ReallyAsked(SpokenFor):
    """An engine that asks the tiny language model at once."""

    def __init__(self, system: FittedRanking) -> None:
        super().__init__()
        backbone = make_trainable(load_backbone(system.config.llm), system.config.llm, system.config.seed)
        backbone.model.load_state_dict(system.llm.backbone.model.state_dict())
        scorer = PrefixScorer(backbone, PrefixCache(1 << 24))
        self.answer = lambda prompt: Answer(scorer.logits([""], [prompt])[0])

"""What the language model says of validation rows, and how long it takes: what the router is fitted on."""

import time
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from corella.crm.rungs import Rung
from corella.data.samples import Samples
from corella.ranking.fitting import Fitting
from corella.ranking.language import RequestLLM
from corella.ranking.model import ReadValidation
from corella.ranking.results import Timer
from corella.ranking.trainable import validation_samples

_TIMED_ROWS = 64


def read_validation(fitting: Fitting, base: Rung, llm: RequestLLM) -> ReadValidation:
    """Let the language model read validation rows; its cost goes into the facts."""

    def make() -> tuple[dict[str, Tensor], dict[str, object]]:
        valid, facts = validation_samples(fitting.dataset, fitting.config), fitting.facts
        with Timer(facts.seconds, "validation"):
            logits = llm.logits(valid, base, fitting.reporter, "language model, validation")
        facts.milliseconds_per_sample = _time_new_rows(fitting, base, llm, valid)
        facts.samples_per_request = len(valid) / len(np.unique(valid.user))
        return {"rows": torch.from_numpy(valid.row), "logits": torch.from_numpy(logits)}, asdict(facts)

    tensors, facts = fitting.checkpoints.tensors("valid", make)
    fitting.facts.restore(facts)
    return ReadValidation(tensors["rows"].numpy(), tensors["logits"].numpy())


def _time_new_rows(fitting: Fitting, base: Rung, llm: RequestLLM, samples: Samples) -> float:
    """Milliseconds that the language model takes for a sample that shares its window with no other, as a new row."""
    order = np.random.default_rng(fitting.config.seed).permutation(len(samples))
    _, first = np.unique(samples.user[order], return_index=True)  # one a user, or they would share a reading
    index = order[first[:_TIMED_ROWS]]
    alone = replace(samples.take(index), row=np.full(len(index), -1))
    began = time.perf_counter()
    llm.logits(alone, base)
    return 1000 * (time.perf_counter() - began) / len(index)

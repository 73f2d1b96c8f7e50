"""The rungs of a trained system, with their prices: on the validation rows that decided, or on test rows."""

import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from corella.data.samples import Samples
from corella.evaluation.rungs import ALL, Price, Prices, Rows, Rung, measure
from corella.ranking.decision import asked
from corella.ranking.model import FittedRanking

Floats = npt.NDArray[np.floating]

_RESAMPLES = 400
_WARM_UP = 64
"""Rows that are scored before the clock runs: the first call reads the trees."""


@dataclass(frozen=True)
class Asked:
    """Samples that the language model could be asked about: logits of the rung below, [n], and of the router at work,
    [n], and the share of them that it asked about."""

    samples: Samples
    below: Floats
    final: Floats
    share: float


def validation_prices(model: FittedRanking) -> Prices:
    """The rungs on validation rows, with the gains that decided what is served."""
    whole, read = model.dataset.samples("valid"), model.dataset.samples(model.validation.rows)
    below = model.conventional(read)[0]
    final = asked(model.router, below, model.validation.logits, read, model.affordable)
    found = _prices(model, "validation", whole, Asked(read, below, final, model.affordable), _RESAMPLES)
    decided = {1: model.decision.text, 2: model.decision.asking}
    rungs = []
    for rung in found.rungs:
        everything = rung.groups[ALL]
        if everything.gain is not None:
            everything = replace(everything, gain=decided[rung.rung])
        rungs.append(replace(rung, groups={**rung.groups, ALL: everything}))
    return replace(found, rungs=tuple(rungs))


def prices_on_test(model: FittedRanking, test: Asked) -> Prices:
    """The rungs on test rows."""
    return _prices(model, "test", test.samples, test, model.config.evaluation.bootstrap)


def _prices(model: FittedRanking, part: str, samples: Samples, asking: Asked, resamples: int) -> Prices:
    seed, facts, below = model.config.seed, model.facts, model.served_rung
    rungs: list[Rung] = []
    rows, logits, spent = _rows(model, samples), None, 0.0
    for place, seconds in enumerate(_training_seconds(model)[: len(model.rungs)]):
        z, milliseconds = _timed(model, samples, place)
        price = Price(max(milliseconds - spent, 0.0), _item_bytes(model) if place else 0, seconds)
        rungs.append(Rung(place, place - 1 if place else None, measure(rows, z, logits, resamples, seed), price))
        logits, spent = z, milliseconds
    if model.affordable > 0:
        found = measure(_rows(model, asking.samples), asking.final, asking.below, resamples, seed)
        each, share = facts.milliseconds_per_sample, asking.share
        price = Price(share * each, _llm_bytes(model), _training_seconds(model)[2], share, each)
        rungs.append(Rung(2, below, found, price))
    return Prices(part, tuple(rungs), model.decision.rung, model.decision.setting)


def _rows(model: FittedRanking, samples: Samples) -> Rows:
    length = samples.history_end - model.dataset.events.start[samples.user]
    return Rows(samples.label, samples.user, samples.popularity[:, 0], length)


def _timed(model: FittedRanking, samples: Samples, rung: int) -> tuple[Floats, float]:
    """Raw logits of a rung, and the milliseconds a sample that they took, in batches."""
    model.base_logits(samples.take(np.arange(min(_WARM_UP, len(samples)))), rung)
    began = time.perf_counter()
    logits = model.base_logits(samples, rung)
    return logits, 1000 * (time.perf_counter() - began) / len(samples)


def _training_seconds(model: FittedRanking) -> tuple[float, float, float]:
    """What each rung's training took; reading the texts counts, unless they had been read before."""
    spent = model.facts.seconds
    plain = sum(spent.get(name, 0.0) for name in ("stage 1", "trees"))
    text = sum(seconds for name, seconds in spent.items() if name.endswith("with text"))
    read = model.dataset.preparation.text_seconds
    return plain, text + read, sum(spent.values()) - plain - text


def _item_bytes(model: FittedRanking) -> int:
    """Of the items' vectors, as the encoder made them and as the rankers read them, and of the items near them."""
    texts, space = model.dataset.texts, model.dataset.space
    if texts is None or space is None:
        return 0
    places = space.places
    return int(sum(each.nbytes for each in (texts.vectors, places.vectors, places.near, places.nearness)))


def _llm_bytes(model: FittedRanking) -> int:
    return sum(p.numel() * p.element_size() for p in model.llm.backbone.model.parameters())

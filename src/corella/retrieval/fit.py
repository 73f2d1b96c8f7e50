"""How a retrieval is made, from top to bottom: count, choose the strengths, train CLLM4Rec where it is asked for, fuse,
and learn from validation rows too.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt

from corella.checkpoint import Checkpoints
from corella.config import Config, RetrievalConfig
from corella.data.dataset import Dataset
from corella.progress import Reporter
from corella.retrieval.catalogue import make_catalogue
from corella.retrieval.choose import Held, Tried, choose_strengths, start_strengths
from corella.retrieval.cllm4rec.system import CLLM4Rec
from corella.retrieval.fusion import FusionTrial, fit_fusion
from corella.retrieval.histories import Reader, liked_items, training_likes
from corella.retrieval.linear import Linear, Strengths, TextPart, TogetherCounts, count_together, fit_linear, text_part
from corella.retrieval.neighbourhoods import fit_neighbourhoods, nearest_items
from corella.retrieval.system import Retrieval, Said
from corella.threads import set_threads

Ints = npt.NDArray[np.int64]
Fit = Callable[[Strengths], Linear]

_SEARCHED_DENSE = 8000
"""Largest catalogue whose strengths are searched on all pairs of items; in larger ones on the nearest items alone, for
an inversion takes a minute there."""
_FITS = 12
"""Fits that the search may take."""
_HELD = 10_000
"""Validation users who choose the strengths and teach the fusion."""


def fit_retrieval(
    config: Config, dataset: Dataset, checkpoints: Checkpoints | None = None, reporter: Reporter | None = None
) -> Retrieval:
    """Train. CLLM4Rec keeps its steps among the checkpoints, and a killed training resumes there. Deterministic for a
    seed and a machine."""
    reporter = reporter or Reporter(quiet=True)
    set_threads(config)
    dataset = dataset.seen
    text = None if dataset.vectors is None else text_part(dataset.vectors)
    likes = training_likes(dataset)
    counts = count_together(likes, dataset.items.height)
    held = held_out(dataset, likes, config.seed)
    chosen = _choose(counts, text, held, config.retrieval, reporter)
    catalogue = make_catalogue(dataset, ("train",), counts, text, chosen.model.strengths.penalty)
    said = Said(chosen.model.strengths, chosen.quality, None)
    made = Retrieval(config, dataset, chosen.model, None if text is None else text.centre, catalogue, None, None, said)
    if config.retrieval.fusion and len(held.histories):
        beside = CLLM4Rec(config).fit(dataset, checkpoints, reporter) if config.retrieval.cllm4rec else None
        made = _fused(made, beside, held, reporter)
    if not config.retrieval.refit or not any(len(wanted) for wanted in held.wanted):
        return made
    counts = count_together(training_likes(dataset, ("train", "valid")), dataset.items.height)
    linear = _fitter(counts, text, config.retrieval, config.retrieval.dense_items, reporter)(chosen.model.strengths)
    known = make_catalogue(dataset, ("train", "valid"), counts, text, chosen.model.strengths.penalty)
    return replace(made, linear=linear, catalogue=known)


def held_out(dataset: Dataset, likes: Sequence[Ints], seed: int) -> Held:
    """Validation users with likes in training rows (`likes`, by user code), 10,000 of them at most."""
    wanted = liked_items(dataset, ("valid",))
    both = np.flatnonzero([len(mine) > 0 and len(new) > 0 for mine, new in zip(likes, wanted, strict=True)])
    users = np.sort(np.random.default_rng(seed).permutation(both)[:_HELD])
    return Held([likes[u] for u in users], [wanted[u] for u in users])


def _fitter(
    counts: TogetherCounts, text: TextPart | None, config: RetrievalConfig, dense: int, reporter: Reporter
) -> Fit:
    """Fits a linear model of given strengths: of all pairs of at most `dense` items, else of the nearest items."""
    if counts.items <= dense:
        return lambda strengths: fit_linear(counts, text, strengths)
    with reporter.task("retrieval: nearest items", counts.items) as task:
        near = nearest_items(counts, text, config.neighbours, task.update)
    return lambda strengths: fit_neighbourhoods(counts, text, strengths, near)


def _choose(
    counts: TogetherCounts, text: TextPart | None, held: Held, config: RetrievalConfig, reporter: Reporter
) -> Tried:
    start, dense = start_strengths(counts, text is not None, config), config.dense_items
    searched = _fitter(counts, text, config, min(dense, _SEARCHED_DENSE), reporter)
    done: list[Tried] = []
    with reporter.task("retrieval: strengths tried", _FITS) as task:

        def show(tried: Tried) -> None:
            done.append(tried)
            task.update(len(done), f"NDCG@{config.measure_at} {tried.quality:.4f}")
            reporter.log("linear", quality=tried.quality, **asdict(tried.model.strengths))

        chosen = choose_strengths(searched, start, held, config, _FITS, show)
    if _SEARCHED_DENSE < counts.items <= dense:
        whole = _fitter(counts, text, config, dense, reporter)
        chosen = choose_strengths(whole, chosen.model.strengths, held, config, 1)
    s = chosen.model.strengths
    reporter.say(
        f"retrieval: NDCG@{config.measure_at} on validation rows {chosen.quality:.4f} with penalty {s.penalty:.3g}, "
        f"text {s.text:.3g}, following {s.following:.3g}, recency {s.recency:g}"
    )
    return chosen


def _fused(made: Retrieval, beside: CLLM4Rec | None, held: Held, reporter: Reporter) -> Retrieval:
    """The retrieval with a fusion, where that gains more than noise on held-out users; CLLM4Rec takes part where it
    gains more than noise beside the other sources."""
    plain = _trial(made, held, "fusion", reporter)
    best, read = plain, None
    if beside is not None:
        told = _trial(replace(made, language_model=beside), held, "fusion with CLLM4Rec", reporter)
        if told is not None and (plain is None or told.beats(plain)):
            best, read = told, beside
    if best is None or not best.worthwhile:
        return made
    said = replace(made.said, fused=float(best.ndcg.mean()))
    return replace(made, fusion=best.fusion, language_model=read, said=said)


def _trial(made: Retrieval, held: Held, name: str, reporter: Reporter) -> FusionTrial | None:
    config = made.config.retrieval
    candidates, features = made.candidates([Reader(-1, history) for history in held.histories], held.histories)
    trial = fit_fusion(features, candidates, held.wanted, config.measure_at, made.config.seed)
    if trial is not None:
        shown = f"{trial.ndcg.mean():.4f} out of fold, {trial.without.mean():.4f} by the linear model"
        reporter.say(f"retrieval: {name}: NDCG@{config.measure_at} {shown}")
    return trial

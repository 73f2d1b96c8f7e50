"""Slates: the order that each system gives a user's test items when all are scored at one moment.

Per-user AUC mixes samples from different times, which penalises models that react to recent feedback: interactions
before a like hold fewer likes than those before a dislike. In a slate all items know the same. It is no slate that was
ever served: its items are those that the user met later. [ours; the same bias in streaks: Miller and Sanjurjo,
Econometrica 86 (2018)]
"""

from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from corella.checkpoint import Checkpoints, Kept
from corella.columns import ITEM, LABEL, TIME, USER
from corella.crm.training import crm_logits
from corella.data.dataset import Dataset
from corella.data.samples import Samples
from corella.evaluation.metrics import ndcg, user_aucs
from corella.evaluation.results import Paired, Slates, SlateSystem
from corella.evaluation.systems import FINAL, LIGHTGBM, LLM, System
from corella.intervals import LEAST_CLUSTERS, bootstrap_mean
from corella.progress import Reporter
from corella.ranking.model import FittedRanking

Floats = npt.NDArray[np.floating]

LONGEST = 20
"""Items of a list, at most."""
_DRAW = 1
"""The seed of every draw: runs that differ in theirs score the same slates."""


def slate_samples(dataset: Dataset, test: Samples, users: int) -> Samples | None:
    """Test rows (in the log's order) as new rows of the moment of their user's first one: at most `LONGEST` a user,
    drawn at random, of `users` users drawn from those whose list has both answers. Of an item that a user answered
    again the first answer counts. None where too few such users are left, or the log has no order of time."""
    if not dataset.in_time_order:
        return None
    rng = np.random.default_rng(_DRAW)
    rows = dataset.log[test.row].select(USER, ITEM, LABEL, TIME).unique([USER, ITEM], keep="first", maintain_order=True)
    rows = rows.with_columns(pl.col(TIME).min().over(USER), draw=pl.Series(rng.random(len(rows))))
    rows = rows.filter(pl.col("draw").rank().over(USER) <= LONGEST)
    rows = rows.filter(pl.col(LABEL).n_unique().over(USER) == 2)
    names = rows[USER].unique(maintain_order=True)
    chosen = names[np.sort(rng.permutation(len(names))[:users])]
    if len(chosen) < LEAST_CLUSTERS:
        return None
    rows = rows.filter(pl.col(USER).is_in(chosen.implode()))
    label = rows[LABEL].to_numpy().astype(test.label.dtype)
    return replace(dataset.query(rows.select(USER, ITEM, TIME)), label=label)


def evaluate_slates(
    model: FittedRanking, test: Samples, neural: System, main: System, checkpoints: Checkpoints, reporter: Reporter
) -> Slates | None:
    """AUC and NDCG@10 within slates, means over users, and differences of the AUC from the ensemble's, users
    resampled; None where there are no slates. `share_routed`: of their items, what `final` asks the language model
    about. `neural`, `main`: what the neural model and the half are called."""
    config = model.config
    slates = slate_samples(model.dataset, test, config.evaluation.slates)
    if slates is None:
        return None
    z_llm = _read(model, slates, checkpoints, reporter)
    raw = model.conventional(slates)[0]
    crm, llm = model.router.crm(raw), model.router.llm(z_llm)
    systems: dict[System, Floats] = {}
    if model.ensemble is not None:
        systems[LIGHTGBM] = model.ensemble.trees.logits(model.encoder, slates)
    systems[neural] = crm_logits(model.neural, model.encoder, slates)
    systems[main] = crm
    systems[LLM] = llm
    systems[main.asked] = model.router.blend(crm, llm)
    final = model.predict_from(raw, z_llm, slates, model.affordable)
    systems[FINAL] = final.logit
    each = {name: user_aucs(slates.label, z, slates.user) for name, z in systems.items()}
    resamples, seed = config.evaluation.bootstrap, config.seed
    return Slates(
        users=len(each[main]), samples=len(slates), longest=LONGEST, share_routed=float(final.routed.mean()),
        systems=[
            SlateSystem(
                system=system.name, user_auc=float(each[system].mean()), ndcg10=ndcg(slates.label, z, slates.user, 10)
            )
            for system, z in systems.items()
        ],
        differences=[
            Paired(a=main.name, b=system.name, **asdict(bootstrap_mean(found - each[main], resamples, seed)))
            for system, found in each.items() if system != main
        ],
    )  # fmt: skip


def _read(model: FittedRanking, slates: Samples, checkpoints: Checkpoints, reporter: Reporter) -> Floats:
    """Raw logits of the language model, kept for the same slates."""
    asked = {name: torch.from_numpy(getattr(slates, name)) for name in ("user", "item", "history_end")}

    def make() -> Kept:
        logits = model.llm_logits(slates, reporter, "language model, one slate a user")
        return {**asked, "logits": torch.from_numpy(logits)}, {}

    def same(kept: Kept) -> bool:
        return all(name in kept[0] and torch.equal(kept[0][name], values) for name, values in asked.items())

    return np.asarray(checkpoints.tensors("slates", make, same)[0]["logits"].numpy())

"""Whether a new version may serve: it is compared with the one that serves on events that neither has learned from."""

import numpy as np
import numpy.typing as npt
import polars as pl

from corella.columns import ITEM, LABEL, SPLIT, TIME, USER
from corella.intervals import auc_with_interval, paired_bootstrap
from corella.ranking.model import FittedRanking
from corella.ranking.views import request_view
from corella.serving.state.apply import add, put_item, put_person
from corella.serving.state.live import Live
from corella.serving.versions.folder import Compared
from corella.serving.versions.told import Told

Floats = npt.NDArray[np.float64]

_MOST = 2000
"""Of the newest rows: each is scored as a request of its own."""
_RESAMPLES = 500


def compare(serving: FittedRanking, new: FittedRanking, told: Told) -> Compared | None:
    """AUC of both on test rows of the new version that came after the data of the one that serves; None where these are
    none, or all alike.

    The one that serves sees each event after it was asked about it, as in service; so do the new one's count features.
    """
    log = new.dataset.log.with_row_index("place")
    known = serving.dataset.log.select(USER, ITEM, *([TIME] if TIME in log.columns else []))
    test = log.filter(pl.col(SPLIT) == "test").join(known, on=known.columns, how="anti").tail(_MOST)
    if test[LABEL].n_unique() < 2:
        return None
    rows = test["place"].to_numpy().astype(np.int64)
    after = new.predict(new.dataset.samples(rows), 0.0).probability
    before = _replayed(serving, test, told)
    label = test[LABEL].to_numpy().astype(np.int64)
    user = test[USER].rank("dense").to_numpy().astype(np.int64)
    difference = paired_bootstrap(label, before, after, _RESAMPLES, 1, user)
    return Compared(
        test.height, test[USER].n_unique(), auc_with_interval(label, before)[0], auc_with_interval(label, after)[0],
        difference.mean, difference.low, difference.high,
    )  # fmt: skip


def passes(compared: Compared | None) -> bool:
    """Whether the new one is not significantly worse: its interval reaches zero, or nothing could be compared."""
    return compared is None or compared.high >= 0


def _replayed(serving: FittedRanking, test: pl.DataFrame, told: Told) -> Floats:
    """What the one that serves says of test rows, each before it is told; float64 [rows]."""
    live = Live(serving.dataset)
    for item in told.items.values():
        put_item(live, item)
    for person in told.people.values():
        put_person(live, person)
    wanted: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(test.select(USER, ITEM).iter_rows()):
        wanted.setdefault(pair, []).append(place)
    found = np.full(test.height, 0.5)
    known = set(serving.dataset.log.select(USER, ITEM, *([TIME] if TIME in test.columns else [])).iter_rows())
    for _, event in sorted(told.events.items()):
        if event.label is None or (event.user_id, event.item_id, event.timestamp) in known:
            continue
        places = wanted.get((event.user_id, event.item_id), [])
        if places:
            scope, samples = live.scope(event.user_id, [event.item_id], now=event.timestamp)
            view = request_view(serving, scope)
            crm, priority, _ = view.decide(samples, 0.0)
            nobody = np.zeros(1, dtype=bool)
            found[places] = view.combine(crm, np.full(1, np.nan, np.float32), priority, nobody).probability[0]
        add(live, event)
    return found

"""The control of the blend: a third conventional model in the language model's place.

Whatever stands beside the ensemble may add something, as any further opinion does; this says how much another
conventional model adds that is blended the same way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common import read_metrics
from conventional import Measured, untitled
from corella.calibration import fit_blend, fit_calibrator, probability
from corella.columns import ITEM, LABEL, TIME, USER
from corella.crm.outside import PROBABILITY, outside_logits
from corella.data.samples import sample_users
from corella.evaluation.metrics import quality
from corella.runs.train import load_run
from parts import OF_MAIN
from summary import METRICS, mean, mean_difference, paired_difference, played, run_scores
from summary import seeds as spread_facts

Row = dict[str, Any]


def third_control(found: Measured, runs: Mapping[int, Path]) -> tuple[Row, list[Row]]:
    """The row of the control, the mean over the seeds, and what it is compared with: the half alone, the half with the
    language model, and the final system.

    `found`: the conventional models; the third is the best of those that have no part in the half, by test AUC: the
    hardest to beat. `runs`: the main runs, by the place of their seed among those of `found`.
    """
    first = read_metrics(next(iter(runs.values())))
    third = found.best_other(played(first, "crm"))
    title = f"conventional: {played(first, 'crm')} & {untitled(third)}"
    blends = [third_blend(run, found.scores[third][n]) for n, run in runs.items()]
    qualities = [of_blend for _, of_blend, _ in blends]
    trials = next(row["trials"] for row in found.rows if row["system"] == third)
    weight = float(np.mean([weight for _, _, weight in blends]))
    facts = {"trials": trials, "third_weight": weight, OF_MAIN: True}
    means = {key: mean(qualities, key) for key in METRICS}
    row = {"table": "conventional", "system": title, "routed": 0.0, **means, **spread_facts(qualities), **facts}
    compared = []
    for role, control_first in (("crm", False), ("blend", True), ("final", True)):
        each = []
        for (control, *_), run in zip(blends, runs.values(), strict=True):
            theirs = run_scores(run, role)
            each.append(paired_difference(theirs, control) if control_first else paired_difference(control, theirs))
        a, b = (title, played(first, role)) if control_first else (played(first, role), title)
        compared.append({"a": a, "b": b, **mean_difference(each)})
    return row, compared


def third_blend(run: Path, scores: Path) -> tuple[pl.DataFrame, Row, float]:
    """The ensemble of a run, blended with another model as it is with the language model.

    `scores`: the other model's logits on validation and test rows, as `conventional.py` writes them. Returns the
    blend's logits on the run's test rows, in the columns of `summary.run_scores`, their quality, and the weight of the
    other model in it.
    """
    model = load_run(run)
    dataset, config = model.dataset, model.config
    valid, test = dataset.samples(model.validation.rows), dataset.samples("test")
    test = test.take(sample_users(test, config.evaluation.max_test, config.seed))  # as the evaluation takes them
    table = pl.read_parquet(scores)
    table = table.with_columns(pl.Series(PROBABILITY, probability(table["score"].to_numpy())))
    on_valid, on_test = [], []
    for of_valid, of_test in (
        (model.conventional(valid)[0], model.conventional(test)[0]),
        (outside_logits(table, dataset, valid), outside_logits(table, dataset, test)),
    ):
        calibrate = fit_calibrator(of_valid, valid.label, config.routing.calibration)
        on_valid.append(calibrate(of_valid))
        on_test.append(calibrate(of_test))
    blend = fit_blend(on_valid[0], on_valid[1], valid.label)
    logits = blend(on_test[0], on_test[1])
    log = dataset.log[test.row]
    columns = [name for name in (USER, ITEM, LABEL, TIME) if name in log.columns]
    frame = log.select(columns).with_columns(score=pl.Series(logits))
    return frame, quality(test.label, logits, test.user).model_dump(), blend.weight_b

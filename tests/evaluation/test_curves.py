"""Curves begin at the CRM and end at the blend, whatever the policy; nothing is fitted on test rows."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from corella.calibration import Blend, Calibrator
from corella.checkpoint import Checkpoints
from corella.config import Config, RoutingConfig
from corella.data.dataset import Dataset, make_dataset
from corella.evaluation.curves import SHARES, RoutedSet, policies, routed_logits, routing_curves
from corella.evaluation.evaluate import Evaluated, evaluate
from corella.evaluation.metrics import user_auc
from corella.evaluation.results import CurvePoint, RankingMetrics
from corella.intervals import paired_bootstrap
from corella.ranking.fit import fit_ranking
from corella.ranking.model import FittedRanking
from corella.routing.policies import RouterInputs, fit_learned_router
from corella.routing.router import Router

Curves = list[CurvePoint]


def at(rows: Curves, policy: str, combine: str, share: float) -> CurvePoint:
    """The one row of a curve at a share."""
    (row,) = (r for r in rows if (r.policy, r.combine, r.share) == (policy, combine, share))
    return row


@pytest.fixture(scope="module")
def data() -> RoutedSet:
    rng = np.random.default_rng(0)
    crm, other = rng.normal(size=(2, 600))
    label = (rng.random(600) < expit(crm + other)).astype(int)
    inputs = RouterInputs(crm, rng.random((600, 2)).astype(np.float32), np.full(600, np.nan), np.arange(600))
    user, length, popularity = rng.integers(0, 50, (3, 600))
    return RoutedSet(label, user, crm, other, crm + other, inputs, length, popularity)


@pytest.fixture(scope="module")
def router(data: RoutedSet) -> Router:
    learned, _ = fit_learned_router(data.inputs, data.blended, np.arange(len(data.blended)), 1)
    same = Calibrator()
    return Router(RoutingConfig(), 1, same, same, Blend(1, 1, 0), learned, np.zeros(0))


@pytest.fixture(scope="module")
def curves(data: RoutedSet, router: Router) -> Curves:
    return routing_curves(router, data)


def test_ends(data: RoutedSet, router: Router, curves: Curves) -> None:
    ends = {"blend": data.blended, "replace": data.llm}
    for policy in policies(router, data):
        for combine, everywhere in ends.items():
            for share, z in ((0.0, data.crm), (1.0, everywhere)):
                row = at(curves, policy, combine, share)
                assert row.auc == pytest.approx(roc_auc_score(data.label, z))
                assert row.logloss == pytest.approx(log_loss(data.label, expit(z)))
                assert row.user_auc == pytest.approx(user_auc(data.label, z, data.user))
        assert at(curves, policy, "blend", 0.0).captured == pytest.approx(0)
        assert at(curves, policy, "blend", 1.0).captured == pytest.approx(1)


def test_every_policy_at_every_share(curves: Curves) -> None:
    names = ["learned", "entropy", "random", "longest history", "least popular", "oracle"]
    assert [(r.policy, r.combine, r.share) for r in curves] == [
        (name, combine, share) for name in names for combine in ("blend", "replace") for share in SHARES
    ]
    assert [0.2 in SHARES, SHARES[0], SHARES[-1]] == [True, 0, 1]


def test_oracle_beats_random(curves: Curves) -> None:
    oracle, chance = (float(at(curves, name, "blend", 0.3).captured) for name in ("oracle", "random"))
    assert oracle > chance + 0.1
    assert chance == pytest.approx(0.3, abs=0.12)


def test_one_share_by_hand(data: RoutedSet, curves: Curves) -> None:
    order = np.argsort(-data.history_length, kind="stable")[:150]
    mixed = data.crm.copy()
    mixed[order] = data.blended[order]
    auc = roc_auc_score(data.label, mixed)
    row = at(curves, "longest history", "blend", 0.25)
    assert row.auc == pytest.approx(auc)
    base, full = (roc_auc_score(data.label, z) for z in (data.crm, data.blended))
    assert row.captured == pytest.approx((auc - base) / (full - base))


def test_no_gain_to_capture(data: RoutedSet, router: Router) -> None:
    same = replace(data, llm=data.crm, blended=data.crm)
    assert {row.captured for row in routing_curves(router, same)} == {0.0}


def test_one_sample_a_user_has_no_order(data: RoutedSet, router: Router) -> None:
    assert all(row.user_auc is None for row in routing_curves(router, replace(data, user=np.arange(600))))


def test_the_difference_from_chance_is_that_of_the_curve(data: RoutedSet, router: Router, curves: Curves) -> None:
    """Lots are drawn as often as in the curve, so that the table and the sentence about it agree."""
    learned, chance = routed_logits(router, data, ("learned", "random"), 0.2).values()
    assert (learned.shape, chance.shape) == ((1, 600), (10, 600))
    found = paired_bootstrap(data.label, chance, learned, 50, 1)
    drawn = float(at(curves, "learned", "blend", 0.2).auc) - float(at(curves, "random", "blend", 0.2).auc)
    assert found.mean == pytest.approx(drawn)
    assert found.low < found.mean < found.high


# The whole evaluation, on the tiny system.

_MAIN = "lightgbm & dcnv2+counts"


def _kept(found: Evaluated, run: Path) -> RankingMetrics:
    """The figures; predictions lie in the folder, as a run keeps them."""
    found.predictions.write_parquet(run / "predictions.parquet")
    return found.metrics


def _probabilities(run: Path) -> pl.DataFrame:
    table = pl.read_parquet(run / "predictions.parquet")
    return table.drop("label")


@pytest.fixture(scope="module")
def evaluated(tiny_system: FittedRanking, tmp_path_factory: pytest.TempPathFactory) -> tuple[RankingMetrics, Path]:
    run = tmp_path_factory.mktemp("run")
    return _kept(evaluate(tiny_system, Checkpoints(run)), run), run


def test_evaluation_is_json(evaluated: tuple[RankingMetrics, Path], tiny_dataset: Dataset) -> None:
    metrics, run = evaluated
    told = metrics.model_dump(mode="json")
    assert RankingMetrics.model_validate(json.loads(json.dumps(told, allow_nan=False))) == metrics
    systems = {row.system: row for row in metrics.systems}
    assert {"lightgbm", "dcnv2", "dcnv2+counts", "llm", _MAIN, f"{_MAIN} & llm"} <= systems.keys()
    table, test = pl.read_parquet(run / "predictions.parquet"), tiny_dataset.samples("test")
    assert table["item_id"].to_list() == tiny_dataset.log[test.row]["item_id"].to_list()
    for name, row in systems.items():
        assert row.auc == pytest.approx(roc_auc_score(test.label, table[name]), abs=1e-3)
    curves = metrics.curves[_MAIN]
    assert at(curves, "learned", "blend", 0.0).auc == pytest.approx(systems[_MAIN].auc)
    within = {name: row.user_auc for name, row in [*systems.items(), ("final", metrics.final)]}
    found = {(d.a, d.b): d for d in metrics.user_auc_differences}
    assert found.keys() == {(d.a, d.b) for d in metrics.differences}
    for crm, curve in metrics.curves.items():
        within |= {f"{crm}, {p} 20 %": at(curve, p, "blend", 0.2).user_auc for p in ("learned", "entropy", "random")}
    for (a, b), d in found.items():
        assert d.mean == pytest.approx(within[b] - within[a])
        assert d.low <= d.mean <= d.high


def test_flipped_test_answers_change_no_probability(
    evaluated: tuple[RankingMetrics, Path], tiny_system: FittedRanking, tiny_system_config: Callable[..., Config],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Histories stay as they are (a later test row may know an earlier answer); what is measured is flipped. If any
    calibrator, blend, router or early stopping saw a test label, a probability would change.
    """
    dataset = tiny_system.dataset
    twin = Dataset(dataset.log, dataset.users, dataset.items, dataset.config, dataset.counts, dataset.popularity)
    assert twin.events is not None  # made from the true labels, and kept
    flipped = dataset.label.copy()
    flipped[dataset.rows("test")] = 1 - flipped[dataset.rows("test")]
    twin.__dict__["label"] = flipped
    metrics = _kept(evaluate(replace(tiny_system, dataset=twin)), tmp_path)
    assert _probabilities(tmp_path).equals(_probabilities(evaluated[1]))
    for row, other in zip(metrics.systems, evaluated[0].systems, strict=True):
        assert row.auc == pytest.approx(1 - other.auc)


def test_a_killed_evaluation_goes_on(
    evaluated: tuple[RankingMetrics, Path], tiny_system: FittedRanking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The language model's answers are kept: it is not asked again."""
    metrics, run = evaluated
    before = _probabilities(run)

    def refuses(*_: object) -> None:
        raise AssertionError("the language model was asked")

    monkeypatch.setattr(FittedRanking, "llm_logits", refuses)
    assert _kept(evaluate(tiny_system, Checkpoints(run)), run).systems == metrics.systems
    assert _probabilities(run).equals(before)
    with pytest.raises(AssertionError, match="was asked"):
        evaluate(tiny_system)


def test_an_outside_model_is_routed_and_blended(
    evaluated: tuple[RankingMetrics, Path], tiny_system: FittedRanking, tmp_path: Path
) -> None:
    """Given the probabilities of the run's own CRM as a table, the outside model is that CRM."""
    samples = [tiny_system.dataset.samples(part) for part in ("valid", "test")]
    z = np.concatenate([tiny_system.conventional(part)[0] for part in samples])
    rows = tiny_system.dataset.log[np.concatenate([part.row for part in samples])]
    rows.select("user_id", "item_id", "timestamp", probability=pl.Series(expit(z.astype(float)))).write_parquet(
        tmp_path / "mine.parquet"
    )
    metrics = evaluate(tiny_system, outside=tmp_path / "mine.parquet").metrics
    systems = {row.system: row.auc for row in metrics.systems}
    assert systems["outside CRM"] == pytest.approx(systems[_MAIN], abs=1e-6)
    assert systems["outside CRM & llm"] == pytest.approx(systems[f"{_MAIN} & llm"], abs=1e-6)
    assert {"dcnv2", "outside CRM", _MAIN} == metrics.curves.keys()


def test_without_trees_the_neural_model_is_the_main_one(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, evaluated: tuple[RankingMetrics, Path]
) -> None:
    """Then LightGBM is only a rival, and the paper's DCNv2 may be the system's own."""
    metrics = evaluate(fit_ranking(tiny_system_config(crm={"trees": False, "counts": False}), tiny_dataset)).metrics
    assert metrics.main_crm == metrics.neural_crm == "dcnv2"
    assert metrics.conventional == ["lightgbm", "dcnv2", "lightgbm & dcnv2"]
    assert metrics.curves.keys() == {"dcnv2"}
    with_trees = evaluated[0]
    assert (with_trees.main_crm, with_trees.neural_crm) == (_MAIN, "dcnv2+counts")
    assert with_trees.conventional == ["lightgbm", "dcnv2", "dcnv2+counts", _MAIN]
    lightgbm = [m.systems[0] for m in (metrics, with_trees)]
    assert lightgbm[0] == lightgbm[1]


def test_leave_last_out_is_evaluated(
    tiny_system_config: Callable[..., Config], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """One test row a user: figures within a user are not defined, and written as null."""
    from_end = pl.len().over("user_id") - 1 - pl.int_range(pl.len()).over("user_id")
    part = (
        pl.when(from_end < 1).then(pl.lit("test")).when(from_end < 3).then(pl.lit("valid")).otherwise(pl.lit("train"))
    )
    log = tiny_dataset.log.drop("user", "item").with_columns(split=part)
    dataset = make_dataset(log, tiny_dataset.users, tiny_dataset.items, tiny_dataset.config)
    metrics = evaluate(fit_ranking(tiny_system_config(), dataset)).metrics
    assert metrics.final.user_auc is None
    told = metrics.model_dump(mode="json")
    assert RankingMetrics.model_validate(json.loads(json.dumps(told, allow_nan=False))) == metrics

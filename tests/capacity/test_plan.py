"""Plans of small loads, worked out by hand."""

import importlib.util
import sys
from math import ceil
from pathlib import Path
from typing import Any

import pytest

import corella.cli
from corella.capacity.demand import GIB, MIB, Demand
from corella.capacity.plan import Plan, make_plan
from corella.capacity.settings import MEASURED, PlanSettings, read_plan_settings
from corella.capacity.wording import claims, compared, first, limits, parts
from corella.errors import UserError
from corella.files import read_json

DOCS = Path(__file__).parents[2] / "docs"

ROUND = {
    "request_ms": 2.0, "candidate_us": 80.0, "request_variation": 0.2, "retrieval_ms": 4.0, "retrieval_item_ns": 10.0,
    "event_apply_us": 100.0, "event_store_us": 25.0, "event_stored_bytes": 200.0, "event_bytes": 500.0,
    "replica_mib": 1024.0, "user_bytes": 1000.0, "item_bytes": 2000.0, "row_bytes": 100.0,
    "retrieval_item_bytes": 6000.0, "embedding_bytes": 64.0, "llm_history_tokens": 400.0, "llm_candidate_tokens": 12.0,
    "llm_variation": 0.0, "llm_core_tokens_per_second": 500.0, "gpu_tokens_per_second": 140_000.0,
    "gpu_requests_a_pass": 16.0, "gpu_training_tokens_per_second": 500_000.0, "prepare_row_us": 20.0,
    "prepare_row_bytes": 600.0, "train_row_us": 40.0, "trees_row_us": 0.0,
}  # fmt: skip
"""Costs that are easy to reckon with."""


def settings(users: float = 1e6, items: float = 1e5, requests: float = 500, **sections: Any) -> PlanSettings:
    load = {"users": users, "items": items, "requests": requests, **sections.get("load", {})}
    costs = {**ROUND, **sections.get("costs", {})}
    return PlanSettings.model_validate({"load": load, "machines": sections.get("machines", {}), "costs": costs})


def plan(*load: float, **sections: Any) -> Plan:
    return make_plan(settings(*load, **sections))


def test_what_is_asked_of_each_part() -> None:
    demand = Demand(settings())
    assert demand.ranking_seconds == pytest.approx(0.002 + 100 * 80e-6)
    assert demand.retrieval_seconds == pytest.approx(0.004 + 1e5 * 10e-9)
    assert demand.events == pytest.approx(100)
    assert demand.applying() == pytest.approx(0.01)
    assert demand.tokens == pytest.approx(0.5 * 400 + 100 * 12)
    told = 100 * 0.5 * 24 * 3600
    assert demand.user_state == pytest.approx(1e6 * (1000 + 64 + 50 * 100) + told * 500)
    assert demand.item_state == pytest.approx(1024 * MIB + 1e5 * (2000 + 64 + 6000))
    assert demand.replica_bytes(4) == pytest.approx(demand.item_state + demand.user_state / 4)
    assert demand.training_core_hours == pytest.approx(5e7 * (20 + 3 * 40) / 3.6e9)
    assert demand.training_gpu_hours == pytest.approx(1e6 * 12 / 500_000 / 3600)
    assert demand.stored_bytes == pytest.approx(100 * 0.5 * 86_400 * 90 * 200)


def test_a_small_load_needs_no_shards() -> None:
    found = plan()
    replicas, model = found.replicas, found.language_model
    # 500 requests of 10 ms, slower by the hundredth that events take, at most 80 % busy: 7 replicas, and a spare one.
    assert (replicas.shards, replicas.each, replicas.fits, replicas.holds) == (1, 8, True, True)
    assert replicas.gib == pytest.approx(Demand(found.asked).replica_bytes() / GIB)
    assert replicas.machines == ceil(8 / replicas.machine)
    assert replicas.p99_ms < 100
    # 25 requests of 1,400 tokens: a quarter of a GPU, and a spare one; 35,000 tokens a second on cores of 500.
    assert (model.gpus, model.cores) == (2, ceil(35_000 / 500 / 0.8))
    assert model.p99_ms >= 16 * 10  # who shares the pass is waited for
    assert found.money.language_model == pytest.approx(2 * 730 * 4.0)
    assert found.money.total == pytest.approx(found.money.replicas + found.money.store + found.money.training + 5840)
    assert found == plan()  # seeded


def test_a_tight_claim_takes_more_replicas() -> None:
    easy, tight = plan(load={"p99_ms": 100.0}), plan(load={"p99_ms": 23.5})
    assert tight.replicas.holds
    assert tight.replicas.each > easy.replicas.each
    assert tight.replicas.p99_ms <= 23.5 < easy.replicas.p99_ms


def test_users_are_split_where_a_machine_does_not_hold_them() -> None:
    found = plan(1e8, 1e5, 5_000)
    asked = Demand(found.asked)
    assert asked.replica_bytes() > 128 * GIB
    assert found.replicas.fits
    assert found.replicas.shards >= asked.user_state / (0.8 * 128 * GIB)
    assert found.replicas.gib * found.replicas.machine <= 0.8 * 128
    assert "this version every replica knows everybody" in str(limits(found))


def test_a_split_that_would_be_cheaper_is_told() -> None:
    found = plan(1.2e7, 1e5, 5_000)  # 90 GiB a replica: a machine holds one
    replicas = found.replicas
    assert (replicas.shards, replicas.machine) == (1, 1)
    assert replicas.split[0] > 1
    assert replicas.split[1] < replicas.machines
    assert "shards would take" in claims(found)[-1]
    assert "shards would take" not in str(claims(plan()))


def test_users_are_split_where_events_keep_a_replica_busy() -> None:
    found = plan(1e5, 1e4, 40_000)
    assert Demand(found.asked).applying() == pytest.approx(0.8)
    assert found.replicas.shards > 1
    assert Demand(found.asked).applying(found.replicas.shards) <= 0.5


def test_a_claim_that_no_plan_keeps_is_told() -> None:
    found = plan(1e6, 1e7, 500)  # a scan of ten million items takes longer than that
    assert not found.replicas.holds
    assert found.replicas.p99_ms > 100
    assert "does not hold" in claims(found)[0]
    assert "does not hold" in str(compared([found]))
    assert next(wall for wall in found.walls if "scanning" in wall.what).times > 1
    slow = plan(load={"deadline_ms": 100.0})
    assert not slow.language_model.holds
    assert "does not hold" in claims(slow)[1]


def test_items_that_no_machine_holds_are_told() -> None:
    found = plan(1e6, 1e8, 10)
    assert not found.replicas.fits
    assert "machines.gib" in claims(found)[-1]


def test_nobody_is_asked_without_a_share() -> None:
    found = plan(load={"share": 0.0})
    assert (found.language_model.gpus, found.money.language_model) == (0, 0)
    assert len(claims(found)) == 1


def test_what_breaks_first() -> None:
    assert "Nothing breaks" in first(plan())
    events = plan(1e5, 1e4, 40_000, load={"events_per_request": 5.0})
    times = [wall.times for wall in events.walls]
    assert times == sorted(times, reverse=True)
    wall = {wall.what: wall for wall in events.walls}
    assert wall["events, one replica"].limit == pytest.approx(5_000)
    assert wall["events, one store"].limit == pytest.approx(32_000)
    assert wall["tokens, one GPU"].times == pytest.approx(2_000 * 1_400 / 0.8 / 140_000)
    assert events.store.machines == ceil(200_000 * 25e-6 / 0.8) + 1
    worst = next(wall for wall in events.walls if not wall.more)
    assert worst.what in first(events)
    assert worst.remedy in first(events)


def test_rows_fit_their_heads() -> None:
    found = plan(1e8, 1e6, 5e4)
    assert [row[0] for row in parts(found)] == ["replicas", "language model", "store", "training", "all"]
    assert all(len(row) == 4 for row in parts(found))
    assert all(len(row) == 5 for row in limits(found))
    assert {len(row) for row in compared([found, plan()])} == {3}


def test_costs_of_the_package_and_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("costs: {candidate_us: 30}\nload: {users: 5, items: 6, requests: 7}\nmachines: {hour: 2}\n")
    found = read_plan_settings(path, ["machines.hour=3"], users=8)
    assert (found.costs.candidate_us, found.machines.hour, found.load.users, found.load.items) == (30, 3, 8, 6)
    assert found.costs.request_ms == read_plan_settings(users=1, items=1, requests=1).costs.request_ms
    for overrides, words in (
        (["costs.candidate_ms=1"], "did you mean 'candidate_us'"),
        (["costs.candidate_us=.inf"], "costs.candidate_us"),
        (["load.share=2"], "load.share"),
        (["costs=1"], "costs"),
    ):
        with pytest.raises(UserError, match="plan: ") as error:
            read_plan_settings(path, overrides)
        assert words in str(error.value)
    with pytest.raises(UserError, match=r"load\.requests: Field required"):
        read_plan_settings(users=1, items=1)


def test_the_packaged_costs_are_those_of_the_benchmark() -> None:
    assert read_json(MEASURED) == read_json(DOCS / "benchmarks" / "capacity.json")["figures"]


def test_the_page_says_what_the_calculator_says() -> None:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    page = (DOCS / "capacity.md").read_text(encoding="utf-8")
    assert generate.capacity(page) == page
    assert page.count("| $ a month: all |") == 1


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys,
        "argv",
        ["corella", "plan", "--users", "1e6", "--items", "1e5", "--requests", "50", "--set", "machines.hour=0"],
    )
    corella.cli.main()
    said = capsys.readouterr().out
    assert "p99 without the language model" in said
    assert "replicas" in said
    monkeypatch.setattr(sys, "argv", ["corella", "plan", "--explain", "--set", "machines.hour=7"])
    corella.cli.main()
    assert "machines.hour = 7: Price of a machine an hour, dollars." in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["corella", "plan", "--users", "1e6"])
    with pytest.raises(SystemExit) as stop:
        corella.cli.main()
    assert stop.value.code == 2

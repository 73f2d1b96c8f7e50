"""The benchmarks' own arithmetic: paired differences of runs, runs that start from another one's checkpoints."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from corella.config import Config
from corella.config.loading import to_yaml
from corella.errors import UserError
from corella.evaluation.evaluate import evaluate
from corella.evaluation.metrics import user_auc
from corella.files import read_json, write_json, write_text
from corella.ranking.io import save_ranking
from corella.ranking.model import FittedRanking

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import llm_residual_page
import retrieval
from common import DOCS, auc, sentences
from conventional import Measured
from definitions import BENCHMARKS, MAIN, REFERENCE
from page import ranking_page
from parts import Part, kept_parts, without_stale
from pictures import PICTURES, pictures
from runs import Runs, start_from
from summary import (
    METRICS,
    differences,
    inner_difference,
    list_rows,
    mean_difference,
    variant_differences,
    variant_rows,
)
from third import third_control


def _run(folder: Path, frame: pl.DataFrame) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", {"neural_crm": "dcnv2", "main_crm": "lightgbm & dcnv2"})
    frame.write_parquet(folder / "predictions.parquet")
    return folder


def _predictions(seed: int, noise: float) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    label = np.random.default_rng(0).integers(0, 2, 400)
    return pl.DataFrame(
        {
            "user_id": [f"u{i % 50}" for i in range(400)],
            "item_id": [f"i{i}" for i in range(400)],
            "label": label,
            "llm": label + noise * rng.normal(size=400),
            "lightgbm & dcnv2 & llm": label + rng.normal(size=400),
        }
    )


def test_a_difference_is_taken_on_the_rows_that_both_have_read(tmp_path: Path) -> None:
    worse, better = _predictions(1, 3.0), _predictions(2, 0.5)
    shuffled = better.sample(fraction=1.0, shuffle=True, seed=3)
    pairs = [(_run(tmp_path / "a", worse.head(300)), _run(tmp_path / "b", shuffled))]
    (found,) = variant_differences("small", MAIN, ["llm"], pairs)
    label = worse["label"].head(300)
    expected = roc_auc_score(label, worse["llm"].head(300)) - roc_auc_score(label, better["llm"].head(300))
    assert found["mean"] == pytest.approx(expected)
    assert found["high"] < 0
    assert (found["rows"], found["users"], found["seeds"]) == (300, 50, 1)
    (sentence,) = sentences({"differences": [found]})
    assert sentence.startswith("`small: language model` is below `the main run: language model`: AUC −.")
    assert sentence.endswith("(300 rows of 50 users).")


def test_two_systems_of_one_run(tmp_path: Path) -> None:
    run = _run(tmp_path / "a", _predictions(1, 0.5))
    found = inner_difference("paper", "blend", "llm", [run, run])
    label, llm, blend = (_predictions(1, 0.5)[name].to_numpy() for name in ("label", "llm", "lightgbm & dcnv2 & llm"))
    assert (found["a"], found["b"], found["seeds"]) == ("paper: blend", "paper: language model", 2)
    assert found["mean"] == pytest.approx(roc_auc_score(label, llm) - roc_auc_score(label, blend))
    user = np.arange(400) % 50
    assert found["user_auc_mean"] == pytest.approx(user_auc(label, llm, user) - user_auc(label, blend, user))
    assert found["user_auc_low"] < found["user_auc_mean"] < found["user_auc_high"]


def test_rows_that_cannot_be_paired(tmp_path: Path) -> None:
    one = _predictions(1, 1.0)
    apart = [(_run(tmp_path / "a", one.head(200)), _run(tmp_path / "b", one.tail(200)))]
    with pytest.raises(UserError, match="no test row in common"):
        variant_differences("a", "b", ["llm"], apart)
    twice = [(_run(tmp_path / "c", one), _run(tmp_path / "d", pl.concat([one, one])))]
    with pytest.raises(pl.exceptions.ComputeError, match="1:1"):
        variant_differences("a", "b", ["llm"], twice)


def test_a_run_starts_from_another_ones_checkpoints(tmp_path: Path) -> None:
    source, target, other = (tmp_path / name for name in ("main", "distilled", "other"))
    for run, settings in (
        (source, {}),
        (target, {"joint": {"distil": 0.5}, "evaluation": {"slates": 0}}),
        (other, {"joint": {"distil": 0.5, "stage3_targets": 7}}),
    ):
        write_text(run / "config.yaml", to_yaml(Config.model_validate(settings)))
    for name in ("joint.safetensors", "fingerprint.json"):
        write_text(source / "checkpoints" / name, name)
    start_from(source, target)
    assert [p.name for p in (target / "checkpoints").iterdir()] == ["joint.safetensors"]
    write_text(source / "checkpoints" / "joint.safetensors", "newer")
    start_from(source, target)  # it has its own by now
    assert (target / "checkpoints" / "joint.safetensors").read_text() == "joint.safetensors"
    with pytest.raises(UserError, match="more than its distillation"):
        start_from(source, other)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_a_variant_is_compared_with_has_its_size(name: str) -> None:
    """The same number of targets and rows, or the comparison would be of sizes."""
    bench = BENCHMARKS[name]
    for form in ("quick", "full"):
        runs = Runs(bench, form, Path("raw"), Path("runs"), [], False)
        for title, variant in bench.variants.items():
            if variant.against is None:
                continue
            ours, theirs = runs.config(title, 1), runs.config(variant.against, 1)
            learned = [(c.joint.stage2_targets, c.joint.stage3_targets) for c in (ours, theirs)]
            read = [c.evaluation.model_copy(update={"slates": 0}) for c in (ours, theirs)]
            assert (learned[0], read[0]) == (learned[1], read[1]), title
        places = {runs.place(title, 1) for title in (MAIN, *bench.variants)}
        same = int(form == "full")  # nothing left out: there the reference is the main run
        assert len(places) == 1 + len(bench.variants) - same
        assert (runs.place(REFERENCE, 1) == runs.place(MAIN, 1)) is (form == "full")


def test_a_part_measured_anew_leaves_the_others_as_they_are() -> None:
    result = {
        "form": "quick", "seeds": [1], "machine": {}, "cost": {}, "groups": [], "figures": {"llm_auc": 0.7},
        "commits": {MAIN: "aaa", "conventional": "bbb"},
        "rows": [{"part": MAIN, "system": "llm", "auc": 0.7}, {"part": "conventional", "system": "lr", "auc": 0.6}],
        "differences": [{"part": MAIN, "a": "llm", "b": "final"}],
    }  # fmt: skip
    kept = kept_parts(result, {"form": "quick"}, MAIN)
    facts = {"seeds": [1], "machine": {}, "cost": {}, "groups": [], "figures": {"llm_auc": 0.7}}
    assert kept[MAIN] == Part("aaa", [{"system": "llm", "auc": 0.7}], [{"a": "llm", "b": "final"}], facts)
    assert kept["conventional"] == Part("bbb", [{"system": "lr", "auc": 0.6}], [])
    assert kept_parts(result, {"form": "full"}, MAIN) == {}
    assert kept_parts({}, {"form": "quick"}, MAIN) == {}


def test_comparisons_with_a_part_measured_anew_are_dropped() -> None:
    own = {"a": "small: x", "b": "small: y"}
    rows = [{"a": f"{REFERENCE}: x", "b": "small: x"}, own]
    kept = {name: Part("aaa", [{"auc": 0.7}], rows) for name in (REFERENCE, "small", "other")}
    found = without_stale(kept, {REFERENCE}, {"small": REFERENCE, "other": MAIN})
    assert found["small"] == Part("aaa", [{"auc": 0.7}], [own])
    assert found["other"] == kept["other"] and found[REFERENCE] == kept[REFERENCE]
    assert without_stale(kept, {REFERENCE, "small"}, {"small": REFERENCE})["small"] == kept["small"]


def test_the_control_of_runs_measured_anew_is_dropped() -> None:
    """It is blended into their conventional half."""
    control = {"auc": 0.8, "of_main": True}
    kept = {"conventional": Part("aaa", [{"auc": 0.7}, control], [{"a": "half", "b": "conventional: half & din"}])}
    assert without_stale(kept, {MAIN}, {"conventional": MAIN}) == {"conventional": Part("aaa", [{"auc": 0.7}], [])}
    assert without_stale(kept, {REFERENCE}, {"conventional": MAIN}) == kept


@pytest.mark.parametrize("script", sorted(path.stem for path in (DOCS.parent.parent / "benchmarks").glob("*.py")))
def test_every_script_finds_what_it_imports(script: str) -> None:
    try:
        importlib.import_module(script)
    except ModuleNotFoundError as error:  # a peer's package, in an environment of its own
        assert error.name in {"fuxictr", "llama_cpp", "optuna", "pandas"}


def test_what_retrieval_says_is_what_its_data_say() -> None:
    """An ablation of the language model alone is not held against the whole model, where that one reads none."""
    found = read_json(DOCS / "retrieval.json")
    assert (DOCS / "retrieval.md").read_text(encoding="utf-8") == retrieval.page(retrieval.TITLE, retrieval.TEXT, found)
    row = {"system": "fixed item order", "behind_full_ndcg100": 0.2, "behind_full_ndcg100_low": 0.1}
    assert retrieval._sentence(row, "corella") == ""
    row |= {"above_alone_ndcg100": -0.08, "above_alone_ndcg100_low": -0.09, "above_alone_ndcg100_high": -0.07}
    assert retrieval._sentence(row, "corella") == (
        "fixed item order is below the language model alone: NDCG@100 −.0800 [−.0900, −.0700] (one seed)."
    )


def test_a_sentence_tells_of_the_order_within_users() -> None:
    difference = {"a": "x", "b": "y", "mean": 0.02, "low": 0.01, "high": 0.03, "seeds": 1}
    difference |= {f"user_auc_{end}": value for end, value in (("mean", -0.02), ("low", -0.03), ("high", -0.01))}
    (sentence,) = sentences({"differences": [difference], "seeds": [1, 2, 3]})
    assert sentence == (
        "`y` is above `x`: AUC +.0200 [+.0100, +.0300]; "
        "within users below: per-user AUC −.0200 [−.0300, −.0100] (one seed)."
    )


def _page(routed: list[dict[str, object]], more: list[dict[str, object]], final: float) -> list[str]:
    """The lines of a small page: LightGBM, the half, and what is given."""
    ends = {"auc_low": 0.78, "auc_high": 0.82, "seeds": 1}
    rows = [
        {"table": "systems", "system": "lightgbm", "routed": 0.0, "auc": 0.79, **ends},
        {"table": "systems", "system": "dcnv2", "routed": 0.0, "auc": 0.8, "user_auc": 0.7, **ends},
        {"table": "systems", "system": "final", "routed": 0.19, "auc": final, **ends},
        *[{"table": "routing", "crm": "dcnv2", "policy": "learned", "captured": None, **ends, **row} for row in routed],
        *more,
    ]
    return ranking_page("T", "text", {
        "benchmark": "b", "commit": "aaa", "form": "quick", "seeds": [1], "machine": {}, "groups": [],
        "differences": [], "rows": rows,
        "cost": {
            "llm_targets": 1.0, "llm_tokens": 1.0, "llm_seconds": 1.0, "milliseconds_per_sample": 300.0,
            "crm_milliseconds_per_sample": 0.05,
        },
        "figures": {"final_auc": final, "blend_user_auc": None, "gain_captured_20_learned": None},
        "settings": {"crm": {"id_dropout": 0.8}}, "comparable": "lightgbm",
    }).split("\n")  # fmt: skip


def test_our_rows_have_all_shares_and_their_cost() -> None:
    routed = [
        {"combine": combine, "system": "dcnv2", "routed": share, "auc": 0.8 + share / 100, "user_auc": 0.7}
        for combine in ("blend", "replace") for share in (1.0, 0.5, 0.1)
    ]  # fmt: skip
    lines = _page(routed, [], 0.81)
    assert [line for line in lines[lines.index("## Ours") :] if line.startswith(("| dcnv2 |", "| final |"))][:5] == [
        "| dcnv2 | 0% | .8000 [.7800, .8200] | .7000 |  |  | 0 |",
        "| dcnv2 | 10% | .8010 [.7800, .8200] | .7000 |  |  | 30 |",
        "| dcnv2 | 50% | .8050 [.7800, .8200] | .7000 |  |  | 150 |",
        "| dcnv2 | 100% | .8100 [.7800, .8200] | .7000 |  |  | 300 |",
        "| final | 19% | .8100 [.7800, .8200] |  |  |  | 57 |",
    ]
    assert "the ensemble takes 0.05." in lines
    (within, captured) = (line for line in lines if "not defined" in line)
    assert within.startswith("| `blend_user_auc` | not defined: no user has both answers | per-user AUC of")
    assert captured.startswith("| `gain_captured_20_learned` | not defined: the blend gains less than .001 | share")


@pytest.mark.parametrize(("theirs", "where"), [(0.77, "above"), (0.8, "around"), (0.83, "below")])
def test_a_page_names_the_strongest_rivals(theirs: float, where: str) -> None:
    rival = {"table": "conventional", "system": "conventional: din", "auc": 0.85, "routed": 0.0}
    published = {"table": "published", "system": "theirs", "auc": theirs}
    lines = _page([], [rival, published, {**published, "system": "worse", "auc": 0.5}], 0.81)
    assert (
        "- Of all models without a language model `conventional: din` has the best test AUC, .8500; `final` has .8100, "
        "with 19% of the samples sent to the language model at 300 ms each. Their difference has no interval yet: they "
        "were not measured together."
    ) in lines
    assert (
        f"- The best published row is theirs, {auc(theirs)}; the interval of `lightgbm`, .7900 [.7800, .8200], lies "
        f"{where} it."
    ) in lines
    (said,) = (line for line in lines if "No settings were searched here" in line)
    assert said.endswith("they are the defaults (with crm.id_dropout 0.8), and without count features ids are")


@pytest.mark.parametrize(
    ("weight", "said"), [(0.0, "give the third model no weight"), (0.217, "third model's weight is 0.22,")]
)
def test_a_page_tells_the_weight_of_the_third_model(weight: float, said: str) -> None:
    row = {"table": "conventional", "system": "conventional: a & b & c", "auc": 0.8, "routed": 0.0}
    assert said in " ".join(_page([], [row | {"third_weight": weight}], 0.81))
    assert said not in " ".join(_page([], [row], 0.81))


def test_lists_of_all_seeds() -> None:
    def result(seed: int, user_auc: float) -> dict[str, Any]:
        systems = [{"system": name, "user_auc": user_auc, "ndcg10": 0.8} for name in ("half", "llm", "final")]
        apart = [{"a": "half", "b": "llm", "mean": 0.1 * seed, "low": -0.1, "high": 0.3}]
        facts = {"users": 40, "share_routed": 0.1 * seed, "systems": systems, "differences": apart}
        return {"main_crm": "half", "slates": facts}

    half, llm, final = list_rows([result(1, 0.7), result(2, 0.6)])
    assert "difference_mean" not in half
    assert (llm["user_auc"], llm["difference_mean"], llm["seeds"]) == pytest.approx((0.65, 0.15, 2))
    assert list_rows([result(1, 0.7), {"main_crm": "half"}]) == []
    lines = _page([], [half, llm], 0.81)
    assert final["routed"] == pytest.approx(0.15)
    assert "| one list a user: half | 0% | .6500 | .8000 |  | 2 |" in lines
    assert "| one list a user: llm | 100% | .6500 | .8000 | +.1500 [−.1000, +.3000] | 2 |" in lines
    assert "## One list a user" not in _page([], [], 0.81)


def test_a_difference_that_one_seed_lacks_is_of_no_seed() -> None:
    """As where too few users of one seed have both answers."""
    one = {"mean": 0.1, "low": 0.0, "high": 0.2, "rows": 5, "users": 2}
    found = mean_difference([{**one, "user_auc_mean": 0.3}, one])
    assert found == {"seeds": 2, **one}
    runs = [{"differences": [{"a": "x", "b": "y", "resampled": "rows", **one}]} for _ in range(2)]
    within = {"a": "x", "b": "y", "mean": 0.3, "low": 0.2, "high": 0.4, "users": 7}
    (found,) = differences([{**runs[0], "user_auc_differences": [within]}, runs[1]])
    assert "user_auc_mean" not in found
    (found,) = differences([{**run, "user_auc_differences": [within]} for run in runs])
    assert (found["user_auc_mean"], found["user_auc_users"]) == (0.3, 7)


def test_a_third_model_that_is_the_language_model_gives_its_blend(tiny_system: FittedRanking, tmp_path: Path) -> None:
    run, model = tmp_path / "run", tiny_system
    save_ranking(model, run / "model")
    found = evaluate(model)
    metrics = found.metrics.model_dump(mode="json")
    write_json(run / "metrics.json", metrics)
    found.predictions.write_parquet(run / "predictions.parquet")
    test = model.dataset.samples("test")
    rows = model.dataset.log[np.r_[model.validation.rows, test.row]].select("user_id", "item_id", "label", "timestamp")
    logits = np.r_[model.validation.logits, model.llm_logits(test)]
    rows.with_columns(score=pl.Series(logits)).write_parquet(tmp_path / "din-1.parquet")
    half, third = str(metrics["main_crm"]), "conventional: din"
    other = ("lightgbm", "dcnv2+counts", "lightgbm, item counts frozen after training")  # in the half, or its twin
    better = [{"system": f"conventional: {title}", "auc": 0.9} for title in other]
    worse = {"system": "conventional: din+counts", "auc": 0.5}
    ranked = [*better, {"system": third, "auc": 0.6, "trials": 10}, worse]
    found = Measured(ranked, "aaa", {third: [tmp_path / "din-1.parquet"]})
    row, compared = third_control(found, {0: run})
    blend = next(s for s in metrics["systems"] if s["system"] == f"{half} & llm")
    assert (row["of_main"], row["third_weight"]) == (True, pytest.approx(model.router.blend.weight_b, abs=1e-6))
    assert (row["system"], row["trials"], row["seeds"]) == (f"conventional: {half} & din", 10, 1)
    assert (row["auc"], row["logloss"]) == pytest.approx((blend["auc"], blend["logloss"]), abs=1e-6)
    assert [(d["a"], d["b"]) for d in compared] == [
        (half, row["system"]), (row["system"], f"{half} & llm"), (row["system"], "final"),
    ]  # fmt: skip
    base = next(s for s in metrics["systems"] if s["system"] == half)
    assert compared[0]["mean"] == pytest.approx(blend["auc"] - base["auc"], abs=1e-6)
    assert compared[1]["mean"] == pytest.approx(0, abs=1e-6)
    assert compared[2]["mean"] == pytest.approx(metrics["final"]["auc"] - blend["auc"], abs=1e-6)


def test_who_reads_with_the_language_model() -> None:
    systems = [
        {"system": name, **dict.fromkeys(METRICS, 0.5)} for name in ("x", "llm", "x & llm", "lightgbm & x & llm")
    ]
    run = {
        "main_crm": "lightgbm & x", "neural_crm": "x", "systems": systems, "samples": {"test": 9},
        "final": {"share_routed": 0.19, **dict.fromkeys(METRICS, 0.5)},
        "cost": dict.fromkeys(
            ("llm_targets", "llm_tokens", "llm_seconds", "milliseconds_per_sample", "test_seconds",
             "crm_milliseconds_per_sample"), 1.0,
        ),
    }  # fmt: skip
    found = variant_rows("v", ("neural", "llm", "neural blend", "blend", "final"), [run])
    assert {row["system"]: row["routed"] for row in found} == {
        "v: neural model": 0.0, "v: language model": 1.0, "v: neural model & language model": 1.0, "v: blend": 1.0,
        "v: final": 0.19,
    }  # fmt: skip


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_page_and_its_pictures_are_those_of_its_result(name: str) -> None:
    """The page says what the data say; the systems' figures stand in the picture, and it shows every picture."""
    result, page = read_json(DOCS / f"{name}.json"), (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert page == ranking_page(BENCHMARKS[name].title, BENCHMARKS[name].text, result)
    drawn = pictures(result)
    assert list(drawn) == list(PICTURES)
    for picture in PICTURES:
        assert f"]({name}-{picture}.svg)" in page
        assert (DOCS / f"{name}-{picture}.svg").is_file()
    for row in result["rows"]:
        if row["table"] == "systems":
            assert f">{auc(row['auc'])}</text>" in drawn["systems"]


def _training(target: str, seed: int, epochs: float, valid: float, test: float) -> dict[str, Any]:
    setting = {"part": "polis", "draw": "uniform", "tuned": "lora", "window": 256, "rate": 0.002, "step": 32}
    gains = {
        f"{name}_{part}": gain for part, gain in (("valid", valid), ("test", test)) for name in ("gain", "low", "high")
    }
    return {
        **setting,
        "target": target,
        "seed": seed,
        "epochs": epochs,
        **gains,
        "tokens": 1e5,
        "cold_test": [test, 0, 1, 9],
    }


def test_residual_figures_follow_validation_rows() -> None:
    """The setting with the better mean on validation rows, among those of most seeds; pairs share seeds and tokens."""
    rows = [
        _training("residual", 1, 1.0, 0.3, 0.1), _training("residual", 2, 1.0, 0.1, 0.3),
        _training("residual", 1, 2.0, 0.1, 0.5), _training("residual", 2, 2.0, 0.1, 0.5),
        _training("residual", 1, 4.0, 0.9, 0.9), _training("label", 1, 1.0, 0.4, 0.4),
    ]  # fmt: skip
    found = llm_residual_page.figures(rows)
    assert found["llm_residual_gain_polis"] == pytest.approx(0.2)
    assert found["llm_residual_cold_gain_polis"] == pytest.approx(0.2)
    assert found["llm_label_gain_polis"] == pytest.approx(0.4)
    assert not any("ml_1m" in name for name in found)
    (pair,) = llm_residual_page.pairs(rows)
    assert pair[-6:] == ["1", "0.1M", "+.3000", "+.4000", "+.1000", "+.4000"]

"""The report: one offline page, everything escaped, and a verdict that follows from the intervals."""

import copy
import re
from dataclasses import asdict, replace
from html import unescape
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("vl_convert")

from corella.config import Config
from corella.evaluation.results import Metrics
from corella.evaluation.rungs import ALL, COLD_ITEMS, COLD_USERS, WARM, Measured, Price, Prices, Rung
from corella.evaluation.systems import FINAL, LIGHTGBM, LLM, System
from corella.intervals import Difference, paired_bootstrap
from corella.report.charts import POLICIES
from corella.report.markup import captured
from corella.report.numbers import percent, signed
from corella.report.page import render_report
from corella.report.verdict import clustered, render_verdict
from corella.report.wording import recommendation

_SYSTEMS = {
    "lightgbm": 0.76, "dcnv2": 0.74, "dcnv2+counts": 0.75, "llm": 0.72, "lightgbm & dcnv2+counts": 0.762,
    "lightgbm & llm": 0.77, "dcnv2 & llm": 0.76, "dcnv2+counts & llm": 0.77, "lightgbm & dcnv2+counts & llm": 0.775,
}  # fmt: skip
_THIRDS = ["least confident", "middle", "most confident"]
_URI = "postgresql://reader:${DB_PASSWORD}@db.example/shop"


def synthetic_metrics(low: float = 0.004, high: float = 0.012) -> dict[str, Any]:
    """Metrics as `evaluate` writes them; `low`, `high`: the interval of what routing gains."""
    quality = {"user_auc": 0.7, "logloss": 0.58, "accuracy": 0.7, "ece": 0.02, "ndcg10": 0.8}
    pairs = {
        ("dcnv2+counts", "final"): ((low + high) / 2, low, high),
        ("dcnv2+counts", "dcnv2+counts & llm"): (0.02, 0.015, 0.025),
        ("dcnv2", "dcnv2 & llm"): (0.02, 0.01, 0.03),
    }
    return {
        "main_crm": "dcnv2+counts",
        "samples": {"valid": 900, "test": 600, "test_users": 40},
        "systems": [{"system": s, "auc": a, **_ends(a), **quality} for s, a in _SYSTEMS.items()],
        "best_conventional": "lightgbm & dcnv2+counts",
        "curves": {"dcnv2": _curve(0.74, 0.76), "dcnv2+counts": _curve(0.75, 0.77)},
        "groups": {
            "confidence of dcnv2": _group(_THIRDS, ["dcnv2", "llm", "dcnv2 & llm"]),
            "confidence of dcnv2+counts": _group(_THIRDS, ["dcnv2+counts", "llm", "dcnv2+counts & llm"]),
            "item popularity": _group(
                ["0-4 interactions", "5-19 interactions"], ["lightgbm", "dcnv2+counts", "llm", "dcnv2+counts & llm"]
            ),
            "history length": _group(["0-4 interactions"], ["lightgbm", "dcnv2+counts", "llm", "dcnv2+counts & llm"]),
        },
        "cost": {
            "test_seconds": 3.0, "test_samples": 600.0, "crm_rows_per_second": 9000.0, "llm_targets": 2500,
            "llm_tokens": 90_000, "llm_seconds": 40.0, "milliseconds_per_sample": 12.5, "samples_per_request": 15.0,
            "seconds": {"stage 1": 7.0, "stages 2 and 3": 41.0},
        },
        "final": {
            "policy": "learned", "combine": "blend", "share_wanted": 0.2, "share_routed": 0.19, "auc": 0.758,
            **_ends(0.758), **quality,
        },
        "differences": [
            {"a": a, "b": b, "resampled": unit, "mean": m, "low": lo, "high": hi, "p_value": 0.1}
            for (a, b), (m, lo, hi) in pairs.items() for unit in ("rows", "users")
        ],
        "rungs": asdict(synthetic_prices()),
        "machine": {"processor": "abacus", "threads": 2, "gpu": False},
        "seed": 1,
        "dataset": {
            "facts": {"users": 40},
            "splits": [{"split": "test", "rows": 600, "users": 40, "items": 30, "positive": 0.5}],
            "dropped": [{"reason": "no label", "rows": 3, "first": "log, row 7"}],
            "warnings": ["mind the gap"],
        },
    }  # fmt: skip


def typed(flat: dict[str, Any]) -> Metrics:
    """The same as `evaluate_run` returns them; what a test left out is nothing."""
    flat = copy.deepcopy(flat)
    own = {
        name: flat.pop(name) for name in ("machine", "seed", "dataset", "retrieval", "recommendations") if name in flat
    }
    for row in flat["systems"]:
        models = tuple(part for part in row["system"].split(" & ") if part != "llm")
        row["made_of"] = asdict(System(models, llm="llm" in row["system"]))
    nothing = {
        "version": "0", "date": "2026-01-01", "neural_crm": "dcnv2+counts", "conventional": [], "slates": None,
        "user_auc_differences": [],
    }  # fmt: skip
    flat = {**nothing, **flat}
    flat["cost"].setdefault("crm_milliseconds_per_sample", 0.1)
    apart = [
        *flat["differences"],
        *flat["user_auc_differences"],
        *(flat["slates"] or {"differences": []})["differences"],
    ]
    for d in apart:
        d.setdefault("p_value", 0.1)
    for d in flat["user_auc_differences"]:
        d.setdefault("users", 40)
    machine = {"processor": "", "threads": 1, "gpu": False, "python": "3", "torch": "2", **own["machine"]}
    return Metrics.model_validate({**own, "machine": machine, "ranking": flat})


def verdict_of(flat: dict[str, Any], predictions: pl.DataFrame) -> str:
    """The verdict of these metrics."""
    ranking = typed(flat).ranking
    assert ranking is not None
    return render_verdict(ranking, predictions)


def synthetic_prices() -> Prices:
    """Text pays, most on cold-start items; asking does not; one group is too small."""
    gains = {
        1: {ALL: (0.011, 0.007, 0.016), COLD_ITEMS: (0.021, 0.01, 0.033), WARM: (0.006, 0.002, 0.01)},
        2: {ALL: (0.0005, -0.001, 0.002), COLD_ITEMS: (0.001, -0.003, 0.006), WARM: (0.0, -0.001, 0.001)},
    }
    rungs = []
    for number, auc in enumerate((0.75, 0.761, 0.7615)):
        groups = {name: Measured(30, None, None, None, None) for name in (ALL, COLD_ITEMS, COLD_USERS, WARM)}
        groups[ALL] = Measured(600, auc, auc - 0.01, auc + 0.01, None)
        for name, ends in gains.get(number, {}).items():
            groups[name] = Measured(600 if name == ALL else 200, auc, auc - 0.01, auc + 0.01, Difference(*ends, 0.1))
        price = (
            Price(7.0, 269_000_000, 41.0, 0.2, 35.0) if number == 2 else Price(0.2, 6_700_000 * number, 7.0 + number)
        )
        rungs.append(Rung(number, number - 1 if number else None, groups, price))
    return Prices("test", tuple(rungs), 1, "auto")


def _ends(auc: float) -> dict[str, float]:
    return {"auc_low": auc - 0.02, "auc_high": auc + 0.02}


def _curve(base: float, full: float) -> list[dict[str, Any]]:
    return [
        {
            "policy": p, "combine": how, "share": i / 20, "auc": base + (full - base) * i / 20, "logloss": 0.6,
            "captured": i / 20, "auc_low": base - 0.02, "auc_high": full + 0.02, "accuracy": 0.7,
        }
        for p in POLICIES for how in ("blend", "replace") for i in range(21)
    ]  # fmt: skip


def _group(groups: list[str], systems: list[str]) -> list[dict[str, Any]]:
    return [
        {"group": g, "samples": 200, "system": s, "auc": 0.6 + i / 50, **_ends(0.6 + i / 50)}
        for g in groups for i, s in enumerate(systems)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def config() -> Config:
    tables = {"source": "tables", "interactions": {"uri": _URI, "query": "select 1"}}
    return Config.model_validate({"data": tables})


@pytest.fixture(scope="module")
def predictions() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 600)
    scores = {s: np.clip(0.3 + 0.3 * label + rng.normal(0, 0.25, 600), 0.01, 0.99) for s in [*_SYSTEMS, "final"]}
    known = {"answers_before": rng.integers(0, 30, 600), "item_answers": rng.integers(0, 30, 600)}
    users = [f"u{i % 40}" for i in range(600)]
    return pl.DataFrame({"user_id": users, "label": label, "routed": rng.random(600) < 0.2, **known, **scores})


@pytest.fixture(scope="module")
def page(config: Config, predictions: pl.DataFrame) -> str:
    return render_report(typed(synthetic_metrics()), config, predictions)


def _verdict(page: str) -> str:
    found = re.search(r'<div class="verdict.*?</div>', page, re.DOTALL)
    assert found
    return unescape(found[0])


def test_one_offline_page(page: str) -> None:
    assert 'class="verdict better"' in page
    assert page.startswith("<!DOCTYPE html>")
    assert len(page) < 1_500_000
    assert "<script" not in page
    assert "<link" not in page
    loads = re.findall(r'(?:src|href)\s*=\s*["\']?([^"\'>\s]*)', page) + re.findall(r"url\(([^)]*)\)", page)
    assert loads
    assert all(target.startswith("#") for target in loads)
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http://" not in outside
    assert "https://" not in outside
    assert "@import" not in page
    anchors = {target.removeprefix("#") for target in loads}
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))


def test_a_correction_is_not_called_a_language_model_alone(
    config: Config, predictions: pl.DataFrame, page: str
) -> None:
    residual = config.model_copy(update={"joint": config.joint.model_copy(update={"target": "residual"})})
    corrected = render_report(typed(synthetic_metrics()), residual, predictions)
    assert "Language model alone, AUC" in page
    assert "Language model alone, AUC" not in corrected
    assert "CRM as the language model corrects it, AUC" in corrected


def test_charts_and_tables_are_labelled(page: str) -> None:
    charts = re.findall(r"<svg [^>]*>", page)
    assert len(charts) == 10
    assert all('role="img"' in c and "aria-label=" in c and "viewBox=" in c for c in charts)
    assert page.count("<table>") == page.count("<caption>")


def test_all_systems_appear(page: str) -> None:
    page = unescape(page)
    rows = re.findall(r'<th scope="row">([^<]*)</th>', page)
    assert set(_SYSTEMS) <= set(rows)
    assert "final (19\xa0% routed)" in rows
    assert "mind the gap" in page
    assert "no label" in page


def test_the_first_section_says_what_text_is_worth(page: str) -> None:
    page = unescape(page)
    main = page.split("<main>")[1]
    assert main.startswith('<div class="lead"')
    assert re.sub("<[^>]+>", " ", main.split("</div>")[0]).split() == recommendation(synthetic_prices()).split()
    assert main.index('<section id="prices"') < main.index('<section id="asking"') < main.index('class="verdict')
    section = main.split('<section id="prices"')[1].split("</section>")[0]
    assert "AUC is the chance that an item the user liked" in section
    rows = section.split("<tbody>")[1].split("</tr>")
    assert [row.split("</th>")[0].split(">")[-1] for row in rows[:3]] == [
        "No language model", "Text once an item", "Asked per request",
    ]  # fmt: skip
    assert "+.0110<small>+.0070 to +.0160</small>" in rows[1] and "class='this'" in rows[1]
    assert "+.0005 n.s." in rows[2] and "35 ms where asked" in rows[2] and "+269 MB" in rows[2]
    assert [row.count("too few") for row in rows[:3]] == [0, 1, 1]


def test_a_page_without_any_gain(config: Config, predictions: pl.DataFrame) -> None:
    """One rung only, and too few samples to judge it."""
    prices = synthetic_prices()
    lowest = replace(prices.rungs[0], groups={n: Measured(3, None, None, None, None) for n in prices.rungs[0].groups})
    metrics = {**synthetic_metrics(), "rungs": asdict(replace(prices, rungs=(lowest,), served=0))}
    page = render_report(typed(metrics), config, predictions)
    assert "too few users or samples to measure a gain" in page
    assert page.split('id="prices"')[1].split("</section>")[0].count("<svg") == 0


def test_every_text_is_escaped(config: Config, predictions: pl.DataFrame) -> None:
    evil = "<script>alert(1)</script>"
    metrics = synthetic_metrics()
    metrics["systems"].append({**metrics["systems"][0], "system": evil})
    metrics["dataset"]["dropped"].append({"reason": evil, "rows": 1, "first": evil})
    metrics["dataset"]["warnings"].append(evil)
    metrics["dataset"]["facts"][evil] = 1
    metrics["machine"]["processor"] = evil
    metrics["cost"]["seconds"][evil] = 1.0
    for curve in metrics["curves"].values():
        curve.extend([{**r, "policy": evil} for r in curve if r["policy"] == "random"])
    metrics["groups"]["item popularity"] += _group([evil], ["dcnv2+counts", "dcnv2+counts & llm"])
    page = render_report(typed(metrics), config, predictions)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_recommendations_are_shown_and_escaped(config: Config, predictions: pl.DataFrame) -> None:
    evil = "<script>alert(1)</script>"
    opinions = {"probability": 0.912, "crm_probability": 0.5, "llm_probability": None}
    item = {"item_id": "i1", "text": evil, "retrieved_at": 7, **opinions}
    user = {"user_id": "u1", "user": evil, "trained": False, "liked": ["Heat"], "disliked": [], "items": [item]}
    page = render_report(typed({**synthetic_metrics(), "recommendations": [user]}), config, predictions)
    assert "<script" not in page
    section = unescape(page.split('<section id="recommendations"')[1].split("</section>")[0])
    assert "new since training" in section
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", section.split("<tbody>")[1])
    assert cells == ["7", ".91", ".50", "not asked"]
    assert "<li>Heat</li>" in section
    assert "Disliked" not in section
    assert 'id="recommendations"' not in render_report(typed(synthetic_metrics()), config, predictions)


def test_how_well_the_retrieval_finds_is_shown(config: Config, predictions: pl.DataFrame) -> None:
    each = {m: {"mean": 0.25, "low": 0.2, "high": 0.3} for m in ("recall20", "recall40", "ndcg100")}
    found = {
        "users": 1234,
        "systems": {"retrieval": each, "the most liked items": each, "difference, user by user": each},
    }
    opinions = {"probability": 0.9, "crm_probability": 0.5, "llm_probability": None}
    item = {"item_id": "i1", "text": "Heat", "retrieved_at": 7, **opinions}
    user = {"user_id": "u1", "user": "Ann", "trained": True, "liked": ["Heat"], "disliked": [], "items": [item]}
    page = unescape(
        render_report(
            typed({**synthetic_metrics(), "recommendations": [user], "retrieval": found}), config, predictions
        )
    )
    section = page.split('<section id="recommendations"')[1].split("</section>")[0]
    assert "Of 1,234 users with a like in test rows and one in the others" in section
    assert "Recall@20" in section and section.count("0.2500 [0.2000, 0.3000]") == 9
    assert "difference, user by user" in section


@pytest.mark.parametrize(
    ("low", "high", "state", "words"),
    [
        (0.004, 0.012, "better", "a significant gain. That is 40\xa0% of the +.0200"),
        (-0.004, 0.012, "even", "not significant"),
        (-0.012, -0.004, "worse", "significantly worse"),
    ],
)
def test_verdict_follows_the_interval(
    predictions: pl.DataFrame, low: float, high: float, state: str, words: str
) -> None:
    verdict = unescape(verdict_of(synthetic_metrics(low, high), predictions))
    assert f'class="verdict {state}"' in verdict
    assert words in re.sub(r"</p><p>", " ", verdict)
    assert ("not significant" in verdict) == (low < 0 < high)


def test_verdict_says_where_the_full_gain_is_noise(config: Config, predictions: pl.DataFrame) -> None:
    metrics = synthetic_metrics()
    for d in metrics["differences"]:
        if d["b"] == "dcnv2+counts & llm":
            d |= {"mean": 0.0004, "low": -0.001, "high": 0.002}
    page = render_report(typed(metrics), config, predictions)
    assert "not significant, so there is nothing to capture" in _verdict(page)
    assert "too little to read anything into the captured shares" in page


def test_verdict_names_a_stronger_lightgbm(predictions: pl.DataFrame) -> None:
    metrics = synthetic_metrics()
    metrics["differences"].append(
        {"a": "lightgbm", "b": "final", "resampled": "users", "mean": -0.002, "low": -0.003, "high": -0.001}
    )
    verdict = unescape(verdict_of(metrics, predictions))
    assert "LightGBM on count features alone has .7600: without any language model it beats the routed" in verdict


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-0.03, -0.01, "significantly worse"), (-0.01, 0.02, "not significant"), (0.01, 0.03, "a significant gain")],
)
def test_verdict_tells_of_the_order_within_a_user(
    low: float, high: float, words: str, config: Config, predictions: pl.DataFrame
) -> None:
    """Of the system that the verdict is about, and of the blend everywhere."""
    metrics = synthetic_metrics()
    assert "Per-user AUC changes" not in verdict_of(metrics, predictions)
    full = {"a": "dcnv2+counts", "b": "dcnv2+counts & llm", "mean": 0.001, "low": -0.04, "high": 0.05}
    routed = {"a": "dcnv2+counts", "b": "final", "mean": (low + high) / 2, "low": low, "high": high}
    metrics["user_auc_differences"] = [full, routed]
    page = render_report(typed(metrics), config, predictions)
    said = unescape(_verdict(page))
    assert re.search(f"Per-user AUC changes by {re.escape(signed(routed['mean']))}[^;]*{words};", said)
    assert re.search(r"every sample, by \+\.0010 [^;]*not significant\.", said)
    row = unescape(page[page.index("final<small>minus dcnv2+counts") :].split("</tr>")[0])
    assert signed(low) in row and signed(high) in row


def test_verdict_and_section_tell_of_lists(config: Config, predictions: pl.DataFrame) -> None:
    """What is measured at one moment is said; what is measured across moments only where it is significant."""
    metrics = synthetic_metrics()
    main = metrics["main_crm"]
    across = {"a": main, "b": "final", "mean": -0.02, "low": -0.03, "high": -0.01}
    metrics["user_auc_differences"] = [across, across | {"b": f"{main} & llm"}]
    routed = {"a": main, "b": "final", "mean": 0.002, "low": 0.001, "high": 0.003}
    full = {"a": main, "b": f"{main} & llm", "mean": 0.004, "low": -0.005, "high": 0.012}
    systems = [{"system": name, "user_auc": 0.71, "ndcg10": 0.83} for name in (main, "final", f"{main} & llm")]
    metrics["slates"] = {
        "users": 44, "samples": 1234, "longest": 20, "share_routed": 0.17, "systems": systems,
        "differences": [routed, full],
    }  # fmt: skip
    page = unescape(render_report(typed(metrics), config, predictions)).replace("\xa0", " ")
    said = _verdict(page)
    assert "within a slate (44 slates) changes by +.0020 (95 % interval +.0010 to +.0030), a significant gain;" in said
    assert "Per-user AUC changes by \N{MINUS SIGN}.0200" in said
    section = page[page.index('id="slates"') :].split("</section>")[0]
    assert "up to 20 test items of one user" in section and "1,234 items of 44 users" in section
    assert "asks the language model about 17 % of them" in section
    assert section.count("<tr>") == 4
    row = next(part for part in section.split("</tr>") if "& llm" in part)
    assert all(text in row for text in (".7100", ".8300", "+.0040", "\N{MINUS SIGN}.0050", ">no<"))
    metrics["user_auc_differences"] = [d | {"high": 0.01} for d in metrics["user_auc_differences"]]
    assert "Per-user AUC" not in _verdict(unescape(render_report(typed(metrics), config, predictions)))
    metrics["slates"] = None
    assert 'id="slates"' not in render_report(typed(metrics), config, predictions)


def test_database_uris_are_hidden(page: str) -> None:
    assert "db.example" not in page
    assert "uri: (hidden)" in page
    assert "query: select 1" in page


def test_one_crm_only_and_bare_predictions(predictions: pl.DataFrame) -> None:
    """The main CRM may be the plain one; few columns and no dataset facts still give a page."""
    metrics = copy.deepcopy(synthetic_metrics())
    metrics["main_crm"] = metrics["best_conventional"] = "dcnv2"
    del metrics["curves"]["dcnv2+counts"], metrics["groups"]["confidence of dcnv2+counts"]
    metrics["groups"]["item popularity"] = metrics["groups"]["history length"] = []
    metrics["dataset"], metrics["machine"] = {}, {}
    bare = predictions.select("label", "routed", "dcnv2", "llm", "final")
    page = render_report(typed(metrics), Config(), bare)
    assert "Too few users to judge the routing" in _verdict(page)
    assert "No rows were dropped." in page


def test_a_rival_inside_the_base_ranker(predictions: pl.DataFrame) -> None:
    """What the trees themselves bring over LightGBM is not the router's merit, and the verdict says so."""
    metrics = synthetic_metrics()
    half = "lightgbm & dcnv2+counts"
    metrics["main_crm"] = metrics["best_conventional"] = half
    metrics["differences"] += [
        {"a": a, "b": b, "resampled": "users", "mean": m, "low": m - 0.001, "high": m + 0.001, "p_value": 0.01}
        for a, b, m in ((half, "final", 0.002), ("lightgbm", "final", 0.006), ("lightgbm", half, 0.004))
    ]
    text = unescape(re.sub("<[^>]+>", " ", verdict_of(metrics, predictions)))
    assert f"of which the base ranker, {half}, has +.0040" in text
    assert "The best conventional system" not in text


def test_numbers() -> None:
    assert [signed(v) for v in (0.0123, -0.0123, 0.00001)] == ["+.0123", "−.0123", "±.0000"]
    assert [percent(v) for v in (0.19, 0.004, 0, -0.0001)] == ["19\xa0%", "0.4\xa0%", "0\xa0%", "0\xa0%"]
    assert [captured(v) for v in (0.5, -30.0, 9.0)] == ["50\xa0%", "< −100\xa0%", "> 200\xa0%"]
    systems = (LIGHTGBM, LLM, System(("a", "b"), llm=True, how="mean"), System(("a",)).asked, FINAL)
    assert [(system.kind, system.name) for system in systems] == [
        ("conventional", "lightgbm"), ("language model", "llm"), ("combined", "mean of (a & b) and llm"),
        ("combined", "a & llm"), ("combined", "final"),
    ]  # fmt: skip
    fifth = System(("a", "b"), llm=True, how="routed", policy="random", share=0.2)
    assert fifth.name == "a & b, random 20 %"


def test_clustered_interval_agrees_with_resampling_users() -> None:
    rng = np.random.default_rng(1)
    user = rng.integers(0, 150, 3000)
    label = rng.integers(0, 2, 3000)
    common = label + rng.normal(0, 1, 3000) + rng.normal(0, 1, 150)[user]
    a, b = common + rng.normal(0, 0.7, 3000), common + rng.normal(0, 0.6, 3000) + 0.3 * rng.normal(0, 1, 150)[user]
    frame = pl.DataFrame({"user_id": user, "label": label, "a": a, "b": b})
    found, expected = clustered(frame, "a", "b"), paired_bootstrap(label, a, b, 1000, 0, user)
    assert found is not None
    assert found.mean == pytest.approx(expected.mean, abs=1e-12)
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.1 * width)
    assert found.high == pytest.approx(expected.high, abs=0.1 * width)

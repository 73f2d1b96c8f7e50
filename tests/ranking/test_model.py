"""The trained system on the tiny model: variants run, a saved model comes back, and the budget is kept."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import corella.routing.features as router_inputs
from corella.checkpoint import Checkpoints
from corella.config import Config, CRMConfig
from corella.crm.models import build_crm
from corella.crm.spec import CRMSpec
from corella.crm.training import crm_logits
from corella.data.dataset import Dataset, make_dataset
from corella.data.samples import sample_users
from corella.errors import UserError
from corella.ranking import language
from corella.ranking.fit import fit_ranking
from corella.ranking.io import FORMAT, load_ranking, save_ranking
from corella.ranking.model import FittedRanking
from corella.ranking.results import Predictions
from corella.ranking.trainable import check_trainable
from corella.runs.score import predictions_frame

Configure = Callable[..., Config]


def _same(one: Predictions, other: Predictions) -> None:
    for name in ("logit", "crm", "llm", "priority", "routed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.fixture(scope="module")
def learned(tiny_system_config: Configure, tiny_dataset: Dataset) -> FittedRanking:
    """A system with the learned router and the distilled head."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(router_inputs, "MINIMUM_READ", 100)
        return fit_ranking(tiny_system_config(routing={"policy": "learned"}), tiny_dataset)


def test_saved_and_loaded(learned: FittedRanking, tiny_dataset: Dataset, tmp_path: Path) -> None:
    assert learned.features.head is not None
    save_ranking(learned, tmp_path / "model")
    again = load_ranking(tmp_path / "model", tiny_dataset)
    test = tiny_dataset.samples("test")
    for share in (None, 0.0, 0.3, 1.0):
        _same(learned.predict(test, share), again.predict(test, share))
    np.testing.assert_array_equal(again.predict_proba(test), learned.predict(test).probability)
    assert again.facts == learned.facts
    assert again.config == learned.config
    np.testing.assert_array_equal(again.validation.rows, learned.validation.rows)
    np.testing.assert_array_equal(again.validation.logits, learned.validation.logits)
    save_ranking(learned, tmp_path / "model")  # over an existing one
    assert {p.name for p in tmp_path.iterdir()} == {"model"}


def test_a_changed_byte_is_found(tiny_system: FittedRanking, tiny_dataset: Dataset, tmp_path: Path) -> None:
    save_ranking(tiny_system, tmp_path / "model")
    for file in sorted(p for p in (tmp_path / "model").rglob("*") if p.is_file() and p.parent.name != "dataset"):
        content = file.read_bytes()
        if file.name == "manifest.json":
            file.write_bytes(content.replace(f'"format": {FORMAT}'.encode(), b'"format": 99'))
            with pytest.raises(UserError, match=f"has format 99; this version reads {FORMAT}"):
                load_ranking(tmp_path / "model", tiny_dataset)
        else:
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            with pytest.raises(UserError, match=f"{file.name} differs from its SHA-256"):
                load_ranking(tmp_path / "model", tiny_dataset)
        file.write_bytes(content)
    load_ranking(tmp_path / "model", tiny_dataset)
    with pytest.raises(UserError, match="does not exist"):
        load_ranking(tmp_path / "nothing", tiny_dataset)


def test_nobody_routed_asks_nobody(
    tiny_system: FittedRanking, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise AssertionError("the language model was asked")

    monkeypatch.setattr(language, "score_samples", refuses)
    test = tiny_dataset.samples("test")
    predictions = tiny_system.predict(test, 0.0)
    np.testing.assert_array_equal(predictions.logit, predictions.crm)
    assert np.isnan(predictions.llm).all()
    assert not predictions.routed.any()
    with pytest.raises(AssertionError, match="was asked"):
        tiny_system.predict(test, 1.0)


def test_everybody_routed(tiny_system: FittedRanking, tiny_dataset: Dataset) -> None:
    samples = tiny_dataset.samples(np.r_[tiny_dataset.rows("train"), tiny_dataset.rows("test")])
    predictions = tiny_system.predict(samples, 1.0)
    assert predictions.routed.all()
    assert np.isfinite(predictions.llm).all()
    np.testing.assert_array_equal(predictions.logit, tiny_system.router.blend(predictions.crm, predictions.llm))


def test_only_the_routed_are_asked(
    tiny_system: FittedRanking, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    score = language.score_samples

    def counts(*words: Any) -> Any:
        asked.append(len(words[2]))
        return score(*words)

    monkeypatch.setattr(language, "score_samples", counts)
    test = tiny_dataset.samples("test")
    predictions = tiny_system.predict(test, 0.4)
    assert asked == [predictions.routed.sum()]
    assert 0.15 < predictions.routed.mean() < 0.75
    assert (np.isnan(predictions.llm) == ~predictions.routed).all()
    kept = ~predictions.routed
    np.testing.assert_array_equal(predictions.logit[kept], predictions.crm[kept])
    # The threshold is validation's: that share of its rows is routed.
    valid = tiny_dataset.samples("valid")
    assert tiny_system.predict(valid, 0.4).routed.mean() == pytest.approx(0.4, abs=0.02)


def test_logits_that_are_there_already(tiny_system: FittedRanking, tiny_dataset: Dataset) -> None:
    test = tiny_dataset.samples("test")
    z_crm = tiny_system.conventional(test)[0]
    z_llm = tiny_system.llm_logits(test)
    _same(tiny_system.predict_from(z_crm, z_llm, test, 1.0), tiny_system.predict(test, 1.0))
    half = tiny_system.predict(test, 0.5)
    given = tiny_system.predict_from(z_crm, z_llm, test, 0.5)
    np.testing.assert_array_equal(given.routed, half.routed)
    np.testing.assert_array_equal(np.isnan(given.llm), ~half.routed)


def test_replace_and_blend(tiny_system_config: Configure, tiny_dataset: Dataset, tiny_system: FittedRanking) -> None:
    replaced = fit_ranking(tiny_system_config(routing={"combine": "replace"}), tiny_dataset)
    test = tiny_dataset.samples("test")
    one, other = replaced.predict(test, 0.5), tiny_system.predict(test, 0.5)
    np.testing.assert_array_equal(one.routed, other.routed)
    np.testing.assert_array_equal(one.logit, np.where(one.routed, one.llm, one.crm))
    expected = tiny_system.router.blend(other.crm, np.nan_to_num(other.llm))
    np.testing.assert_array_equal(other.logit, np.where(other.routed, expected, other.crm))


def test_whole_users_are_routed(tiny_system_config: Configure, tiny_dataset: Dataset) -> None:
    routing = {"budget_unit": "requests", "budget": 0.4}
    model = fit_ranking(tiny_system_config(routing=routing), tiny_dataset)
    for part in ("valid", "test"):
        samples = tiny_dataset.samples(part)
        predictions = model.predict(samples)
        of_user = [predictions.routed[samples.user == u] for u in np.unique(samples.user)]
        assert all(r.all() or not r.any() for r in of_user)
        share = float(np.mean([r.all() for r in of_user]))
        assert share == pytest.approx(0.4, abs=0.02) or part == "test"  # a budget is a share of validation rows
        assert model.predict(samples, 1.0).routed.all()


def test_milliseconds_buy_a_share(tiny_system_config: Configure, tiny_dataset: Dataset) -> None:
    routing = {"budget_unit": "milliseconds", "budget": 0.0}
    model = fit_ranking(tiny_system_config(routing=routing), tiny_dataset)
    assert model.share == 0
    assert not model.predict(tiny_dataset.samples("test")).routed.any()
    assert model.facts.milliseconds_per_sample > 0
    assert model.facts.samples_per_request == pytest.approx(
        len(tiny_dataset.rows("valid")) / len(np.unique(tiny_dataset.samples("valid").user))
    )


@pytest.mark.parametrize(
    "sections",
    [
        {"joint": {"stages": [3]}, "llm": {"prompt": "pointwise"}},  # TALLRec
        {"joint": {"stages": [1, 3]}},
        {"joint": {"stages": [1, 2, 3], "gamma": 0.0}, "crm": {"model": "din"}},
        {"joint": {"stages": [1]}, "routing": {"policy": "random", "calibration": "isotonic"}},
        {"joint": {"stages": [1, 2]}, "llm": {"counts_in_words": False, "lora_first_layer": 2, "layers": 3}},
    ],
)
def test_variants_run(sections: dict[str, Any], tiny_system_config: Configure, tiny_dataset: Dataset) -> None:
    small = {"stage2_targets": 60, "stage3_targets": 60}
    config = tiny_system_config(**{**sections, "joint": {**small, **sections["joint"]}})
    model = fit_ranking(config, tiny_dataset)
    test = tiny_dataset.samples("test")
    predictions = model.predict(test, 0.5)
    assert np.isfinite(predictions.logit).all()
    assert ((predictions.probability >= 0) & (predictions.probability <= 1)).all()
    assert predictions.routed.any()
    stages = sections["joint"]["stages"]
    assert (model.facts.llm_targets > 0) == (stages != [1])
    assert ("stage 1" in model.facts.crm_valid_auc) == (1 in stages)
    assert ("stage 2" in model.facts.crm_valid_auc) == (2 in stages)


def test_the_better_crm_is_kept(tiny_system_config: Configure, tiny_dataset: Dataset) -> None:
    """A stage 2 that ruins the CRM leaves the one of stage 1."""
    model = fit_ranking(tiny_system_config(joint={"crm_learning_rate": 5.0}), tiny_dataset)
    auc = model.facts.crm_valid_auc
    assert auc["stage 2"] < auc["stage 1"]
    valid = tiny_dataset.samples("valid")
    logits = crm_logits(model.neural, model.encoder, valid)
    assert roc_auc_score(valid.label, logits) == pytest.approx(auc["stage 1"])


def test_a_conventional_model_of_ones_own(tiny_system_config: Configure, tiny_dataset: Dataset, tmp_path: Path) -> None:
    """It is saved, and loaded by the same `build`."""

    def build(spec: CRMSpec, config: CRMConfig) -> nn.Module:
        return build_crm(spec, config.model_copy(update={"model": "lr"}))

    model = fit_ranking(tiny_system_config(), tiny_dataset, build=build)
    save_ranking(model, tmp_path / "model")
    test = tiny_dataset.samples("test")
    _same(load_ranking(tmp_path / "model", build=build).predict(test, 0.5), model.predict(test, 0.5))
    with pytest.raises(UserError, match="the `build` that the model was made with"):
        load_ranking(tmp_path / "model")


def test_same_seed_same_system(
    tiny_system_config: Configure, tiny_dataset: Dataset, tiny_system: FittedRanking
) -> None:
    test = tiny_dataset.samples("test")
    torch.manual_seed(99)  # what happened before does not matter
    _same(fit_ranking(tiny_system_config(), tiny_dataset).predict(test, 0.5), tiny_system.predict(test, 0.5))
    other = fit_ranking(tiny_system_config(seed=2), tiny_dataset).predict(test, 0.5)
    assert not np.array_equal(other.logit, tiny_system.predict(test, 0.5).logit)


def test_test_labels_are_never_read(
    tiny_system_config: Configure, tiny_dataset: Dataset, tiny_system: FittedRanking, tmp_path: Path
) -> None:
    """Fitted on a log whose test answers are flipped, the system is the same, and says the same of validation rows."""
    log = tiny_dataset.log.with_columns(
        pl.when(pl.col("split") == "test").then(1 - pl.col("label")).otherwise("label").alias("label")
    )
    flipped = make_dataset(log.drop("user", "item"), tiny_dataset.users, tiny_dataset.items, tiny_dataset.config)
    assert not np.array_equal(flipped.label, tiny_dataset.label)
    other = fit_ranking(tiny_system_config(), flipped)
    assert other.router.state() == tiny_system.router.state()
    for part in ("train", "valid"):
        _same(other.predict(flipped.samples(part), 0.5), tiny_system.predict(tiny_dataset.samples(part), 0.5))
    first = tiny_dataset.rows("test")[:1]  # the first test row sees no test answer
    _same(other.predict(flipped.samples(first), 1.0), tiny_system.predict(tiny_dataset.samples(first), 1.0))


def test_new_rows(learned: FittedRanking, tiny_dataset: Dataset) -> None:
    frame = pl.DataFrame({"user_id": ["u03", "nobody", "u04"], "item_id": ["i01", "i02", "nothing"]})
    predictions = learned.predict(tiny_dataset.query(frame), 1.0)
    assert np.isfinite(predictions.logit).all()
    table = predictions_frame(frame, predictions)
    assert table.columns == [
        "user_id", "item_id", "probability", "crm_probability", "entropy", "routed", "llm_probability"
    ]  # fmt: skip
    np.testing.assert_allclose(table["probability"], predictions.probability)
    unrouted = predictions_frame(frame, learned.predict(tiny_dataset.query(frame), 0.0))
    assert unrouted["llm_probability"].to_list() == [None] * 3
    assert unrouted["routed"].to_list() == [False] * 3
    p = unrouted["crm_probability"].to_numpy()
    np.testing.assert_allclose(unrouted["entropy"], -p * np.log(p) - (1 - p) * np.log(1 - p))
    nothing = learned.predict(tiny_dataset.query(frame.head(0)))
    assert len(nothing.logit) == 0


def test_sample_users(tiny_dataset: Dataset) -> None:
    valid = tiny_dataset.samples("valid")
    assert sample_users(valid, None, 1).tolist() == list(range(len(valid)))
    chosen = sample_users(valid, 40, 1)
    assert 40 <= len(chosen) < 60
    users = valid.user[chosen]
    assert sum(np.isin(valid.user, users)) == len(chosen)  # whole users
    assert chosen.tolist() == sample_users(valid, 40, 1).tolist() != sample_users(valid, 40, 2).tolist()


def test_what_could_only_deceive_is_refused_before_training(
    tiny_system_config: Configure, tiny_dataset: Dataset
) -> None:
    split = tiny_dataset.config.split.model_copy(update={"by": "each-user"})
    for given, message in (({"split": split}, "each-user"), ({"only_likes": True}, "nothing to rank")):
        dataset = replace(tiny_dataset, config=tiny_dataset.config.model_copy(update=given))
        with pytest.raises(UserError, match=message):
            fit_ranking(tiny_system_config(), dataset)
    with pytest.raises(UserError, match=r"needs joint\.distil above 0"):
        fit_ranking(tiny_system_config(joint={"distil_pairs": 5}), tiny_dataset)
    few = tiny_dataset.log["split"].to_list()
    later = [row for row, split in enumerate(few) if split == "valid"][4:]
    small = pl.Series(["history" if row in later else split for row, split in enumerate(few)])
    with pytest.raises(UserError, match="4 validation rows: too few to fit a router"):
        fit_ranking(tiny_system_config(), replace(tiny_dataset, log=tiny_dataset.log.with_columns(split=small)))
    columns = np.random.default_rng(1).choice(["train", "valid", "test"], tiny_dataset.log.height)
    mixed = replace(tiny_dataset, log=tiny_dataset.log.with_columns(split=pl.Series(columns)))
    with pytest.raises(UserError, match=r"\d+ training rows stand behind a validation or test row of the same user"):
        fit_ranking(tiny_system_config(), mixed)


def test_answers_of_one_second_may_be_split_where_none_sees_another(
    tiny_system_config: Configure, tiny_dataset: Dataset
) -> None:
    """A training row behind a test row of its user and second: refused, unless time is strict."""
    log, last = tiny_dataset.log, tiny_dataset.log.height - 1
    user = log["user_id"][last]
    at = int(log.with_row_index().filter(pl.col("user_id") == user)["index"][-2])
    assert log["split"][at] == log["split"][last] == "test"
    log = log.with_columns(timestamp=pl.when(pl.int_range(pl.len()) >= at).then(5000).otherwise("timestamp"))
    others = (pl.col("user_id") == user) & (pl.int_range(pl.len()) != at)
    log = log.with_columns(split=pl.when(others).then(pl.lit("train")).otherwise("split"))
    for strict in (False, True):
        config = tiny_dataset.config.model_copy(update={"strict_time": strict})
        given = replace(tiny_dataset, log=log, config=config)
        with nullcontext() if strict else pytest.raises(UserError, match="1 training rows stand behind"):
            check_trainable(given, tiny_system_config())


def test_checkpoints_of_other_texts_are_refused(
    tiny_system_config: Configure, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    """A title was put right after a kill: what the language model learned and said was of the old one."""
    config = tiny_system_config(joint={"stages": [1]})
    fit_ranking(config, tiny_dataset, Checkpoints(tmp_path))
    corrected = replace(tiny_dataset, items=tiny_dataset.items.with_columns(text=pl.col("text") + "!"))
    with pytest.raises(UserError, match="belongs to other settings or other data"):
        fit_ranking(config, corrected, Checkpoints(tmp_path))

"""Everybody scored and recommended to by partitions: the same as on one machine, whoever works."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corella.calibration import probability
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.progress import Reporter
from corella.ranking.io import save_ranking
from corella.ranking.model import FittedRanking
from corella.recommender import Recommender
from corella.retrieval.system import Retrieval
from corella.runs.score import score_file
from corella.scale import everybody, scoring
from corella.tasks.once import Output
from corella.tasks.running import Workers

QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def run(tiny_system: FittedRanking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_ranking(tiny_system, folder / "model")
    return folder


@pytest.fixture(scope="module")
def rows(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every user's rows lie in several partitions; somebody and something unknown among them."""
    folder = tmp_path_factory.mktemp("rows")
    table = tiny_dataset.log.select("user_id", "item_id", "timestamp").sample(300, seed=1, shuffle=True)
    strange = pl.DataFrame({"user_id": ["nobody", "u01"], "item_id": ["i01", "nothing"], "timestamp": [999, 999]})
    table = pl.concat([table, strange.cast(dict(table.schema))]).with_columns(note=pl.int_range(302))
    for name, start, end in (("a.parquet", 0, 100), ("day=1/b.parquet", 100, 180), ("day=1/c.parquet", 180, 302)):
        (folder / name).parent.mkdir(exist_ok=True)
        table[start:end].write_parquet(folder / name)
    pl.DataFrame(schema=table.schema).write_parquet(folder / "empty.parquet")
    return folder


def read(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted(folder.rglob("*.parquet"))).sort("note")


@pytest.mark.parametrize("unit", ["samples", "requests"])
def test_score(
    unit: str, run: Path, rows: Path, tiny_system: FittedRanking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget is global, and what comes out is what the fitted ranking says at that threshold."""
    monkeypatch.setattr(scoring, "_GROUP_ROWS", 30)
    monkeypatch.setattr(Output, "finish", lambda output: None)  # the stages stay
    routing = tiny_system.config.routing.model_copy(update={"budget_unit": unit})
    model = replace(tiny_system, config=tiny_system.config.model_copy(update={"routing": routing}))
    monkeypatch.setattr(scoring, "model_of", lambda _: model)
    done = everybody.score_everybody(run, rows, tmp_path / "out", 0.3, reporter=QUIET)
    found = read(tmp_path / "out")
    assert (done.rows, done.unknown) == (302, {"user_id": 1, "item_id": 1})
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.parquet")} == {
        "a.parquet", "day=1/b.parquet", "day=1/c.parquet", "empty.parquet",
    }  # fmt: skip
    parts = [pl.read_parquet(rows / name) for name in ("a.parquet", "day=1/b.parquet", "day=1/c.parquet")]
    samples = [model.dataset.query(part) for part in parts]
    said = [model.priorities(part) for part in samples]
    compared = np.concatenate(
        [model.compared(priority, part.user) for (_, priority), part in zip(said, samples, strict=True)]
    )
    assert found["routed"].to_list() == (compared >= compared[found["routed"].to_numpy()].min()).tolist()
    assert 0 < done.routed == found["routed"].sum() <= 0.3 * 302
    if unit == "samples":
        assert done.routed == 90
    crm, priority = (np.concatenate(arrays) for arrays in zip(*said, strict=True))
    whole = model.dataset.query(pl.concat(parts))
    routed = found["routed"].to_numpy()
    z_llm = np.full(302, np.nan, dtype=np.float32)
    z_llm[routed] = model.llm_logits(whole.take(routed))
    expected = model.combine(crm, z_llm, priority, routed)
    np.testing.assert_allclose(found["probability"], expected.probability, atol=1e-5)
    np.testing.assert_allclose(found["crm_probability"], probability(crm), atol=1e-6)

    stages = tmp_path / "out.manifest" / "stages"
    asked = [pl.read_parquet(file) for file in sorted((stages / "asked").rglob("*.parquet"))]
    assert len(asked) == 3 and sum(group.height for group in asked) == done.routed
    route = pl.read_parquet(sorted((stages / "routed").rglob("*.parquet")))
    assert route.group_by("user_id").agg(pl.col("group").n_unique())["group"].max() == 1
    assert route["group"].n_unique() == 3


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_as_one_file(share: float, run: Path, rows: Path, tmp_path: Path) -> None:
    """Nothing routed, everything routed: what `corella score` writes for each file."""
    everybody.score_everybody(run, rows / "day=1" / "*.parquet", tmp_path / "out", share, reporter=QUIET)
    for name in ("b.parquet", "c.parquet"):
        score_file(run, rows / "day=1" / name, tmp_path / name, share, QUIET)
        one, part = pl.read_parquet(tmp_path / name), pl.read_parquet(tmp_path / "out" / name)
        assert one.schema == part.schema
        for column in one.columns:
            if one[column].dtype.is_float():
                np.testing.assert_allclose(part[column], one[column], atol=1e-5)
            else:
                assert part[column].to_list() == one[column].to_list()


def test_processes_and_ray(run: Path, rows: Path, tmp_path: Path, ray_cluster: None) -> None:
    found = []
    for name, workers in (("pool", Workers(processes=1)), ("ray", Workers(processes=1, ray="local"))):
        everybody.score_everybody(run, rows, tmp_path / name, 0.2, workers, reporter=QUIET)
        files = sorted((tmp_path / name).rglob("*.parquet"))
        found.append({str(file.relative_to(tmp_path / name)): file.read_bytes() for file in files})
    assert found[0] == found[1]
    assert read(tmp_path / "ray")["routed"].sum() == 60


def test_resumed(run: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while the language model is asked: what the conventional models said is kept, and the end is the same."""
    everybody.score_everybody(run, rows, tmp_path / "whole", 0.3, reporter=QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(FittedRanking, "llm_logits", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            everybody.score_everybody(run, rows, tmp_path / "out", 0.3, reporter=QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(FittedRanking, "priorities", lambda *_: pytest.fail("asked twice"))
        everybody.score_everybody(run, rows, tmp_path / "out", 0.3, reporter=QUIET)
    for file in (tmp_path / "whole").rglob("*.parquet"):
        assert file.read_bytes() == (tmp_path / "out" / file.relative_to(tmp_path / "whole")).read_bytes()
    assert not (tmp_path / "out.manifest" / "stages").exists()
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "load_run", lambda _: pytest.fail("read again"))
        scoring.model_of.cache_clear()
        again = everybody.score_everybody(run, rows, tmp_path / "out", 0.3, reporter=QUIET)
    assert (again.rows, again.routed) == (302, 90)


def test_mistakes(run: Path, rows: Path, tmp_path: Path) -> None:
    def refused(source: Path, out: Path, match: str) -> None:
        with pytest.raises(UserError, match=match):
            everybody.score_everybody(run, source, out, 0.3, reporter=QUIET)

    refused(rows, rows / "scored", "lies among the input")
    refused(rows, tmp_path.parent, "lies among the input|did not make it")
    refused(tmp_path / "none", tmp_path / "out", "does not exist")
    (tmp_path / "t.csv").write_text("user_id,item_id\nu01,i01\n")
    refused(tmp_path / "t.csv", tmp_path / "out", "partitions are .parquet files")
    (tmp_path / "bad").mkdir()
    pl.DataFrame({"user": ["u01"], "item_id": ["i01"]}).write_parquet(tmp_path / "bad" / "x.parquet")
    refused(tmp_path / "bad", tmp_path / "out", "x.parquet: no column 'user_id'")
    pl.DataFrame({"user_id": ["u01"], "item_id": ["i01"], "routed": [1]}).write_parquet(tmp_path / "bad" / "x.parquet")
    refused(tmp_path / "bad", tmp_path / "out2", "the scores would take the place of: routed")


@pytest.mark.parametrize("halves", ["both", "ranking", "retrieval"])
def test_recommend(
    halves: str,
    tiny_system: FittedRanking,
    tiny_retrieval: Retrieval,
    tiny_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every user's list is the one that they get alone."""
    monkeypatch.setattr(everybody, "_USERS", 4)
    if halves != "retrieval":
        save_ranking(tiny_system, tmp_path / "run" / "model")
    if halves != "ranking":
        tiny_retrieval.save(tmp_path / "run" / "retrieval")
    known = tiny_dataset.users["user_id"].to_list()[:9]
    (tmp_path / "users").mkdir()
    pl.DataFrame({"user_id": [*known[:6], known[0]]}).write_parquet(tmp_path / "users" / "a.parquet")
    pl.DataFrame({"user_id": [*known[6:], "nobody"]}).write_parquet(tmp_path / "users" / "b.parquet")
    alone = Recommender(None if halves == "ranking" else tiny_retrieval, None if halves == "retrieval" else tiny_system)
    for share in (0.0, 1.0):
        out = tmp_path / f"out-{share}"
        done = everybody.recommend_everybody(tmp_path / "run", tmp_path / "users", out, 3, 6, share, reporter=QUIET)
        assert (done.users, done.lists) == (10, 9)
        files = sorted(out.rglob("*.parquet"))
        assert [file.name for file in files] == [
            f"{name}-{n:09d}.parquet" for name, n in (("a", 0), ("a", 4), ("b", 0))
        ]
        found = pl.read_parquet(files)
        assert found["user_id"].unique(maintain_order=True).to_list() == known
        for user in known:
            rows, expected = found.filter(user_id=user), alone.recommend(user, 3, 6, share)
            assert rows["item_id"].to_list() == [row.item_id for row in expected]
            assert rows["rank"].to_list() == [1, 2, 3]
            if halves != "retrieval":
                assert rows["retrieved_at"].to_list() == [row.retrieved_at for row in expected]
                np.testing.assert_allclose(rows["probability"], [row.probability for row in expected], atol=1e-5)
                assert rows["llm_probability"].is_null().all() == (share == 0)

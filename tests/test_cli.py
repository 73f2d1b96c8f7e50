"""The command line: what it prints, what it writes, and its exit codes."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

import corella.cli
import corella.runs.evaluate
import corella.runs.score
import corella.runs.train
from corella.config.loading import load_config
from corella.data.dataset import Dataset
from corella.evaluation.evaluate import Evaluated
from corella.evaluation.results import read_metrics
from corella.files import alone, read_json
from corella.report.wording import recommendation

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """A function: run a command in this process; its exit code, output and messages."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["corella", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            corella.cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def project(tiny_dataset: Dataset, tiny_backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CSV tables of the tiny dataset, settings for it, and a run trained by the command."""
    folder = tmp_path_factory.mktemp("project")
    log = tiny_dataset.log.select("user_id", "item_id", "timestamp", "label")
    broken = pl.DataFrame(
        {"user_id": ["u00", "u01"], "item_id": ["i00", None], "timestamp": ["soon", "5"], "label": [1, 1]}
    )
    log = pl.concat([log.cast({"timestamp": pl.String, "label": pl.Int64}), broken])
    log.rename({"user_id": "who"}).write_csv(folder / "log.csv")
    tiny_dataset.users.select("user_id", "gender").write_csv(folder / "users.csv")
    genres = pl.col("genres").list.join("|")
    tiny_dataset.items.select("item_id", "title", genres).write_csv(folder / "items.csv")
    settings = {
        "threads": 1,
        "data": {
            "source": "tables", "interactions": {"path": str(folder / "log.csv"), "columns": {"user_id": "who"}},
            "users": {"path": str(folder / "users.csv")},
            "items": {"path": str(folder / "items.csv"), "lists": {"genres": "|"}},
            "label": "label", "user_fields": ["gender"], "list_fields": ["genres"], "history_length": 8,
        },
        "crm": {"embedding_size": 4, "hidden": [16, 8], "batch_size": 64, "learning_rate": 0.01, "epochs": 3},
        "llm": {"backbone": str(tiny_backbone_folder), "dtype": "float32", "window_tokens": 128},
        "joint": {"stage2_targets": 100, "stage3_targets": 100, "targets_per_step": 32},
        "routing": {"policy": "entropy", "rung": 2},
        "evaluation": {"bootstrap": 20},
        "retrieval": {"pretraining_epochs": 1, "fine_tuning_epochs": 1, "users_per_step": 8, "items_per_step": 20},
    }  # fmt: skip
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORELLA_CACHE", str(folder / "cache"))
        words = ["corella", "train", "--run", str(folder / "run"), "--config", str(folder / "settings.yaml")]
        patch.setattr(sys, "argv", words)
        corella.cli.main()
    return folder


@pytest.fixture(autouse=True)
def _cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORELLA_CACHE", str(project / "cache"))


def test_explain_config(call: Call) -> None:
    code, out, _ = call("explain-config")
    assert code == 0
    assert "routing.budget = 0.2" in out and "joint.gamma" not in out
    assert "more that hardly anybody needs: corella explain-config --all" in out
    code, out, _ = call("explain-config", "--all")
    assert "joint.gamma = 0.1" in out
    assert "Weight of the alignment loss in stage 2. [paper]" in out
    assert "deadline_ms = 400.0" in call("explain-config", "--serving")[1]
    assert "port = 8100" in call("explain-config", "--serving-llm")[1]
    code, out, _ = call("explain-config", "--resolved", "--set", "seed=5")
    assert yaml.safe_load(out)["seed"] == 5


def test_prepare_says_what_was_dropped(call: Call, project: Path, tmp_path: Path) -> None:
    code, out, _ = call("prepare", "--config", project / "settings.yaml", "--out", tmp_path / "prepared")
    assert code == 0
    assert "users: 30" in out
    dropped = [line for line in out.splitlines() if line.startswith("dropped")]
    assert len(dropped) == 2
    assert all(line.startswith("dropped 1 rows: ") for line in dropped)
    assert "nothing was dropped" not in out
    assert (tmp_path / "prepared" / "log" / "00000.parquet").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain-config", "--set", "crm.modle=din"], "crm.modle: no such setting; did you mean 'model'?"),
        (["prepare", "--config", "nothing.yaml"], "nothing.yaml does not exist"),
        (["evaluate", "--run", "no-run"], "no-run holds no trained model; run `corella train --run no-run` first"),
        (["report", "--run", "no-run"], "no-run"),
        (["score", "no-run", "no-rows.csv", "--out", "o.parquet"], "no-rows.csv does not exist"),
        (["train"], "say which data; `corella init FILES`"),
        (["no-such-command"], "no-such-command"),
        (["train", "--no-such-option"], "--no-such-option"),
    ],
)
def test_mistakes(words: list[str], message: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*words)
    assert code == 2
    assert message in err
    assert err.startswith("corella: ")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_score_needs_a_trained_run(call: Call, project: Path, tmp_path: Path) -> None:
    code, _, err = call("score", tmp_path, project / "log.csv", "--out", tmp_path / "o.parquet")
    assert code == 2
    assert "holds no trained model" in err
    assert list(tmp_path.iterdir()) == []


def test_as_a_process(project: Path) -> None:
    """The exit code and the message, with nothing between the command and the shell."""
    command = [sys.executable, "-c", "from corella.cli import main; main()", "explain-config", "--set", "sed=1"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["corella: configuration: sed: no such setting; did you mean 'seed'?"]


def test_our_mistakes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(corella.runs.train, "train_run", fails)
    monkeypatch.delenv("CORELLA_TRACEBACK", raising=False)
    code, _, err = call("train", "--run", "x", "--set", "data.source=ml-100k")
    assert code == 1
    assert "internal error: ZeroDivisionError: oops" in err
    assert "Traceback" not in err
    monkeypatch.setenv("CORELLA_TRACEBACK", "1")
    assert "Traceback" in call("train", "--run", "x", "--set", "data.source=ml-100k")[2]


def test_interrupted(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(corella.runs.train, "train_run", stops)
    code, _, err = call("train", "--run", "x", "--set", "data.source=ml-100k")
    assert code == 130
    assert "interrupted; the same command resumes" in err


@pytest.mark.parametrize("command", ["train", "train-retrieval"])
def test_nobody_trains_on_data_that_were_not_named(call: Call, command: str, tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.yaml", tmp_path / "other.yaml"
    empty.write_text("# nothing yet\n")
    other.write_text("crm: {epochs: 1}\n")
    for words in ([], ["-c", empty], ["-c", other]):
        code, _, err = call(command, "--run", tmp_path / "run", *words)
        assert code == 2 and "say which data; `corella init FILES` writes the settings for your own" in err
    assert call("prepare", "-c", empty)[0] == 2
    assert not (tmp_path / "run").exists()


def test_what_the_system_refuses_is_no_internal_error(call: Call, project: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    settings = project / "settings.yaml"
    for words in (
        ["train", "--run", file / "run", "-c", settings],
        ["prepare", "--out", file / "out", "-c", settings],
        ["score", project / "run", project / "log.csv", "--out", file / "out.csv"],
        ["export", project / "run", file / "out"],
    ):
        code, _, err = call(*words)
        assert code == 2 and "internal error" not in err and str(file) in err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2, "corella: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), 2, "corella: /data: Permission denied"),
        (TimeoutError(), 1, "corella: internal error: TimeoutError"),
        (ConnectionError("no way"), 1, "corella: internal error: ConnectionError: no way"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
)
def test_which_refusals_are_the_users(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: OSError, code: int, said: str
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(corella.runs.train, "train_run", fails)
    found, _, err = call("train", "--run", "x", "--set", "data.source=ml-100k")
    assert found == code and err.startswith(said) and "Traceback" not in err


def test_settings_from_a_pipe_are_read_once(call: Call, project: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = (project / "settings.yaml").read_text()
    writer = threading.Thread(target=lambda: pipe.write_text(text))
    writer.start()
    code, _, err = call("train", "--run", project / "run", "-c", pipe)
    writer.join()
    assert code == 0, err


def test_a_list_in_a_csv_is_refused_before_the_work(call: Call, project: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    NEW.with_columns(tags=pl.lit(["a"])).write_parquet(rows)
    code, _, err = call("score", project / "run", rows, "--out", tmp_path / "out.csv")
    assert code == 2 and "'tags' is one; write to .parquet" in err and "scored" not in err


def test_two_trainings_in_one_folder(call: Call, project: Path) -> None:
    with alone(project / "run", "model"):
        code, _, err = call("train", "--run", project / "run")
    assert code == 2 and "another process is at work here" in err
    with alone(project / "run", "retrieval"):  # the other half
        assert call("train", "--run", project / "run")[0] == 0
    assert call("train", "--run", project / "run")[0] == 0


def test_prepare_shows_what_the_language_model_reads(call: Call, project: Path) -> None:
    out = call("prepare", "--config", project / "settings.yaml")[1]
    assert "the language model reads items as: Film 0 | Film 1 | Film 2" in out
    assert "the language model reads users as: A user. Likes it?" in out


def test_help(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    assert "explain-config" in out


def test_train_again_and_with_other_settings(call: Call, project: Path) -> None:
    run, settings = project / "run", project / "settings.yaml"
    before = (run / "model" / "manifest.json").read_bytes()
    for words in ([], ["--config", settings]):
        code, _, err = call("train", "--run", run, *words)
        assert code == 0
        assert "trained already" in err
        last = " ".join(err.split("trained already")[1].split())
        assert "On your data (validation rows), text read once an item is worth" in last
        assert "Served: a language model asked per request" in last and "or train with routing.rung=" in last
    assert (run / "model" / "manifest.json").read_bytes() == before
    code, _, err = call("train", "--run", run, "--config", settings, "--set", "crm.epochs=4")
    assert code == 2
    assert "was started with another configuration (" in err


def test_what_only_an_evaluation_reads_may_change(
    call: Call, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, settings = tmp_path / "run", ("evaluation.slates=0", "evaluation.max_test=100", "evaluation.bootstrap=20")
    shutil.copytree(project / "run", run)
    before = (run / "model" / "manifest.json").read_bytes()
    read, nothing = [], Evaluated(None, pl.DataFrame({"user_id": ["1"]}))
    monkeypatch.setattr(
        corella.runs.evaluate, "evaluate", lambda model, *_: read.append(model.config.evaluation) or nothing
    )
    monkeypatch.setattr(corella.runs.evaluate, "write_report", lambda _: None)
    monkeypatch.setattr("corella.report.terminal.print_metrics", lambda *_: None)
    assert call("evaluate", "--run", run, *(part for word in settings for part in ("--set", word)))[0] == 0
    assert call("train", "--run", run)[0] == 0  # the settings stay, and so does the model
    assert call("evaluate", "--run", run)[0] == 0
    assert [(e.slates, e.max_test, e.bootstrap) for e in read] == [(0, 100, 20)] * 2
    assert (run / "model" / "manifest.json").read_bytes() == before
    checkpoints = run / "checkpoints" / "fingerprint.json"  # a killed training goes on with other ones, too
    claimed = checkpoints.read_bytes()
    shutil.rmtree(run / "model")
    assert call("train", "--run", run, "--set", "evaluation.slates=3")[0] == 0
    assert checkpoints.read_bytes() == claimed and load_config(run / "config.yaml").evaluation.slates == 3
    for word in ("evaluation.max_valid=100", "seed=2", "retrieval.llm_weight=0.5"):
        code, _, err = call("evaluate", "--run", run, "--set", word)
        assert code == 2 and f"was trained with another {word.split('=')[0]}" in err


def test_each_half_has_settings_of_its_own(call: Call, project: Path, tmp_path: Path) -> None:
    """Those of a half that is not begun may change, and what is trained already stays what it is."""
    run, settings = tmp_path / "run", project / "settings.yaml"
    run.mkdir()
    shutil.copytree(project / "run" / "model", run / "model")
    shutil.copytree(project / "run" / "checkpoints", run / "checkpoints", ignore=shutil.ignore_patterns("retrieval"))
    shutil.copy(project / "run" / "config.yaml", run)
    code, _, err = call("train-retrieval", "--run", run, "--set", "retrieval.llm_weight=0.25")
    assert code == 0, err
    for words in ([], ["-c", settings]):  # the command that trained the ranking still resumes
        assert call("train", "--run", run, *words)[0] == 0
        assert load_config(run / "config.yaml").retrieval.llm_weight == 0.25
    for command, word in (
        ("train-retrieval", "retrieval.llm_weight=0.5"), ("train-retrieval", "seed=2"), ("train", "crm.epochs=4"),
    ):  # fmt: skip
        code, _, err = call(command, "--run", run, "--set", word)
        assert code == 2 and f"another configuration ({word.split('=')[0]})" in err
    assert call("train-retrieval", "--run", run, "--set", "crm.epochs=4")[0] == 0  # which it does not read
    assert load_config(run / "config.yaml").crm.epochs == 3
    # A folder where nothing was begun: a mistake in the settings locks nothing.
    new, missing = tmp_path / "new", ("-s", "retrieval.cllm4rec=true", "-s", "llm.backbone=/nowhere")
    assert call("train-retrieval", "--run", new, "-c", settings, *missing)[0] == 2
    assert call("train-retrieval", "--run", new, "-c", settings, "-s", "seed=3")[0] == 0


def test_a_retrieval_alone_is_evaluated(call: Call, project: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train-retrieval", "--run", run, "-c", project / "settings.yaml")[0] == 0
    code, out, err = call("evaluate", "--run", run)
    assert code == 0, err
    assert "Recall@20" in out and "the most liked" in out and "AUC" not in out
    code, _, err = call("evaluate", "--run", run, "--set", "evaluation.slates=0")
    assert code == 2 and "no ranking, whose evaluation evaluation.slates=0 could change" in " ".join(err.split())
    metrics = read_json(run / "metrics.json")
    assert (
        metrics["retrieval"]["users"] > 0 and metrics["ranking"] is None and metrics["dataset"]["facts"]["users"] == 30
    )
    code, _, err = call("report", "--run", run)
    assert code == 2 and "holds figures of a retrieval alone" in err
    code, _, err = call("evaluate", "--run", run, "--outside", project / "log.csv")
    assert code == 2 and "no ranking, which" in err
    code, _, err = call("score", run, project / "log.csv", "--out", tmp_path / "out.csv")
    assert code == 2 and "holds a retrieval but no ranking" in err


def test_evaluate_in_another_process_than_train(call: Call, project: Path) -> None:
    code, out, err = call("evaluate", "--run", project / "run")
    assert code == 0, err
    assert "lightgbm" in out
    metrics = read_metrics(project / "run" / "metrics.json")
    assert metrics.ranking is not None
    said = recommendation(metrics.ranking.rungs)
    assert said in out and "(test rows)" in said
    assert metrics.dataset.dropped
    assert {"metrics.json", "predictions.parquet", "report.html", "config.yaml", "log.jsonl"} <= {
        p.name for p in (project / "run").iterdir()
    }
    assert "<html" in (project / "run" / "report.html").read_text()
    (project / "run" / "report.html").unlink()
    assert call("report", "--run", project / "run")[0] == 0
    assert (project / "run" / "report.html").is_file()


NEW = pl.DataFrame(
    {
        "user_id": ["u05", "nobody", "u05", "u01", "u07"], "item_id": ["i03", "i03", "nothing", "i02", "i02"],
        "note": ["a", "b", "c", "d", "e"], "timestamp": [2000, 2000, 2000, 1, 2000],
    }
)  # fmt: skip
COLUMNS = ["probability", "crm_probability", "entropy", "routed", "llm_probability"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_score(call: Call, project: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / f"rows.{suffix}", tmp_path / "deep" / "out.parquet"
    NEW.write_csv(source) if suffix == "csv" else NEW.write_parquet(source)
    code, said, err = call("score", project / "run", source, "--out", out, "--share", 1)
    assert code == 0, err
    assert "5 rows written" in " ".join(said.split())
    for name in ("user_id", "item_id"):
        assert f"1 of 5 rows have no {name}, or one that the run does not know" in " ".join(err.split())
    table = pl.read_parquet(out)
    assert table.columns == [*NEW.columns, *COLUMNS]
    kept = NEW if suffix == "parquet" else NEW.cast(pl.String)  # what was text stays the text it was
    assert table.select(NEW.columns).equals(kept)  # the same rows in the same order
    written = tmp_path / "deep" / "out.csv"
    assert call("score", project / "run", source, "--out", written, "--share", 1)[0] == 0
    assert pl.read_csv(written).columns == table.columns
    np.testing.assert_allclose(pl.read_csv(written)["probability"], table["probability"], atol=1e-6)
    code, _, err = call("score", project / "run", source, "--out", tmp_path / "out.xlsx")
    assert code == 2 and "scored rows are written to .parquet, .csv or .tsv, not '.xlsx'" in err
    assert table["routed"].all()
    assert table.select(pl.all_horizontal(pl.col("probability", "llm_probability").is_between(0, 1)).all()).item()
    none = tmp_path / "none.parquet"
    assert call("score", project / "run", source, "--out", none, "--share", 0)[0] == 0
    assert pl.read_parquet(none)["llm_probability"].null_count() == 5
    monkeypatch.setattr(corella.runs.score, "_CHUNK", 2)  # in chunks: the same
    chunked = tmp_path / "chunked.parquet"
    assert call("score", project / "run", source, "--out", chunked, "--share", 1)[0] == 0
    np.testing.assert_allclose(pl.read_parquet(chunked)["probability"], table["probability"], atol=1e-6)
    assert {p.name for p in tmp_path.iterdir()} == {source.name, "deep", "none.parquet", "chunked.parquet"}


def test_score_rows_with_the_names_of_the_training_table(call: Call, project: Path, tmp_path: Path) -> None:
    for name, rows in {"ours": NEW, "theirs": NEW.rename({"user_id": "who"})}.items():
        rows.write_csv(tmp_path / f"{name}.csv")
        assert call("score", project / "run", tmp_path / f"{name}.csv", "--out", tmp_path / f"{name}.parquet")[0] == 0
    ours, theirs = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("ours", "theirs"))
    assert theirs.columns[0] == "who"
    assert theirs.rename({"who": "user_id"}).equals(ours)


def test_score_nothing(call: Call, project: Path, tmp_path: Path) -> None:
    NEW.head(0).write_parquet(tmp_path / "rows.parquet")
    assert call("score", project / "run", tmp_path / "rows.parquet", "--out", tmp_path / "o.parquet")[0] == 0
    assert pl.read_parquet(tmp_path / "o.parquet").shape == (0, 9)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (NEW.rename({"item_id": "item"}), "rows.csv: no column 'item_id'; did you mean 'item'?"),
        (NEW.with_columns(timestamp=pl.lit("yesterday")), "rows.csv"),
    ],
)
def test_score_rows_that_do_not_fit(
    call: Call, project: Path, tmp_path: Path, frame: pl.DataFrame, message: str
) -> None:
    frame.write_csv(tmp_path / "rows.csv")
    code, _, err = call("score", project / "run", tmp_path / "rows.csv", "--out", tmp_path / "o.parquet")
    assert code == 2
    assert message in " ".join(err.split())
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]


def test_a_changed_model_is_refused(call: Call, project: Path, tmp_path: Path) -> None:
    weights = project / "run" / "model" / "crm.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        code, _, err = call("score", project / "run", project / "log.csv", "--out", tmp_path / "o.parquet")
    finally:
        weights.write_bytes(content)
    assert code == 2
    assert "crm.safetensors differs from its SHA-256" in " ".join(err.split())


def test_ids_are_text(call: Call, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a CSV file 007 stays 007."""
    seen: list[list[str]] = []
    query = Dataset.query

    def looks(self: Dataset, frame: pl.DataFrame) -> object:
        seen.append(frame["user_id"].to_list())
        return query(self, frame)

    monkeypatch.setattr(Dataset, "query", looks)
    (tmp_path / "rows.csv").write_text("who,item_id\n007,1e5\n")
    assert call("score", project / "run", tmp_path / "rows.csv", "--out", tmp_path / "o.parquet")[0] == 0
    assert seen == [["007"]]
    assert pl.read_parquet(tmp_path / "o.parquet")["item_id"].to_list() == ["1e5"]


def test_recommend(call: Call, project: Path, tmp_path: Path) -> None:
    """The ranking alone, then with retrieval trained into the same run folder."""
    code, alone, _ = call("recommend", project / "run", "--user", "u03", "-k", 3)
    assert code == 0
    assert call("train-retrieval", "--run", project / "run")[0] == 0
    code, both, _ = call("recommend", project / "run", "--user", "u03", "-k", 3, "--candidates", 5)
    assert code == 0
    assert alone.count("Film") == both.count("Film") == 3
    answered = pl.read_csv(project / "log.csv", infer_schema=False).filter(who="u03")["item_id"].to_list()
    assert not any(f" {item} " in both for item in answered)
    (tmp_path / "users.csv").write_text("user_id\nu03\nu04\nnobody\n")
    many = ["--users", tmp_path / "users.csv", "--out", tmp_path / "lists"]
    code, out, _ = call("recommend", project / "run", *many, "-k", 3, "--candidates", 5)
    assert code == 0 and "2 lists for 3 users" in out
    lists = pl.read_parquet(tmp_path / "lists")
    assert lists["user_id"].to_list() == ["u03"] * 3 + ["u04"] * 3
    for words in (many[:2], many[2:], [], ["--user", "u03", *many]):
        code, _, err = call("recommend", project / "run", *words)
        assert code == 2 and "--user ID for one user, or --users FILE and --out FOLDER" in err
    code, _, err = call("recommend", project / "run", "--user", "nobody")
    assert code == 2
    assert "no user_id 'nobody'" in err
    code, _, err = call("recommend", project / "nothing", "--user", "u03")
    assert code == 2
    assert "holds no trained model" in err


def test_score_a_folder(call: Call, project: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "rows" / name).mkdir(parents=True)
        NEW.write_parquet(tmp_path / "rows" / name / "part.parquet")
    code, said, _ = call("score", project / "run", tmp_path / "rows", "--out", tmp_path / "out", "--share", 0.5)
    assert code == 0 and f"{2 * NEW.height:,} rows written to" in said
    assert pl.read_parquet(tmp_path / "out" / "b" / "part.parquet").height == NEW.height
    code, _, err = call("score", project / "run", tmp_path / "rows", "--out", tmp_path / "out", "--share", 0.6)
    assert code == 2 and "was begun with other inputs or settings (share)" in err


def test_score_a_table_whose_first_rows_mislead(call: Call, project: Path, tmp_path: Path) -> None:
    """Numbers in the first hundred rows of a column that is none of ours, and text behind."""
    rows = pl.concat([NEW.head(1)] * 150).with_columns(note=pl.Series([*map(str, range(149)), "V5K 0A1"]))
    rows.write_csv(tmp_path / "rows.csv")
    assert call("score", project / "run", tmp_path / "rows.csv", "--out", tmp_path / "o.parquet")[0] == 0
    assert pl.read_parquet(tmp_path / "o.parquet")["note"][-1] == "V5K 0A1"

"""What goes into the commands comes out as it was, or the command says what it does not take."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml

from corella.config.loading import load_config
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.files import atomic_path, new_folder, refusal
from corella.progress import Reporter
from corella.ranking.io import save_ranking
from corella.ranking.model import FittedRanking
from corella.runs.folder import RunFolder
from corella.runs.score import SCORES, score_file
from corella.runs.train import train_run


class Said(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def run(tiny_system: FittedRanking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    save_ranking(tiny_system, folder.model)
    return folder.path


def _rows(dataset: Dataset, columns: str = "user_id,item_id,ean,price,flag") -> str:
    users, items = dataset.users["user_id"], dataset.items["item_id"]
    return "".join([columns + "\n", *(f"{users[n]},{items[n]},00{n},1.10,TRUE\n" for n in range(4))])


def test_columns_come_back_byte_for_byte(run: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    text = _rows(tiny_dataset)
    (tmp_path / "rows.csv").write_text(text)
    assert score_file(run, tmp_path / "rows.csv", tmp_path / "out.csv", reporter=Said()) == 4
    lines = (tmp_path / "out.csv").read_text().splitlines()
    for written, line in zip(text.splitlines(), lines, strict=True):
        assert line.startswith(written + ",")
    assert lines[0].split(",")[5:] == list(SCORES)


def test_columns_called_like_the_scores_are_not_overwritten_in_silence(
    run: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text(_rows(tiny_dataset, "user_id,item_id,probability,routed,x"))
    with pytest.raises(UserError, match="take the place of: probability, routed; rename them, or say --overwrite"):
        score_file(run, source, out, reporter=Said())
    assert not out.exists()
    score_file(run, source, out, reporter=Said(), overwrite=True)
    assert pl.read_csv(out, infer_schema=False).columns == ["user_id", "item_id", "x", *SCORES]


def test_times_of_rows_to_score(run: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    user, item = tiny_dataset.users["user_id"][0], tiny_dataset.items["item_id"][0]
    source = tmp_path / "rows.csv"
    first = tiny_dataset.time_range[0]
    source.write_text(f"user_id,item_id,timestamp\n{user},{item},{first - 5}\n{user},{item},\n")
    said = Said()
    score_file(run, source, tmp_path / "out.parquet", reporter=said)
    assert any("1 rows lie before the log begins" in line for line in said.lines)
    source.write_text(f"user_id,item_id,timestamp\n{user},{item},5\n{user},{item},soon\n")
    with pytest.raises(UserError, match=r"rows\.csv: row 3, column timestamp: 'soon' is not a time"):
        score_file(run, source, tmp_path / "out.parquet", reporter=said)


@pytest.mark.parametrize("header", [True, False])
def test_rows_are_written_as_the_training_data_were(tiny_system: FittedRanking, tmp_path: Path, header: bool) -> None:
    """Separator, header and encoding: a file without a header, `::` between its columns, in Latin-1."""
    dataset, config = tiny_system.dataset, tiny_system.config
    names = ["user_id", "item_id", "note"]
    table = {"path": "log.dat", "separator": "::", "encoding": "latin-1", "header": header or names}
    data = {**config.data.model_dump(mode="json"), "interactions": table}
    changed = load_config(settings={**config.model_dump(mode="json"), "data": data})
    folder = RunFolder(tmp_path / "run")
    save_ranking(replace(tiny_system, config=changed), folder.model)
    rows = [f"{dataset.users['user_id'][n]}::{dataset.items['item_id'][n]}::caf\u00e9 {n}" for n in range(3)]
    text = "\n".join(["::".join(names)] * header + rows) + "\n"
    (tmp_path / "rows.dat").write_bytes(text.encode("latin-1"))
    score_file(folder.path, tmp_path / "rows.dat", tmp_path / "out.dat", reporter=Said())
    lines = (tmp_path / "out.dat").read_bytes().decode("latin-1").splitlines()
    assert all(line.startswith(written + "::") for written, line in zip(text.splitlines(), lines, strict=True))
    assert all(len(line.split("::")) == 3 + len(SCORES) for line in lines)


def test_data_that_have_changed_since_the_training_are_noticed(
    tiny_dataset: Dataset, tiny_backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORELLA_CACHE", str(tmp_path / "cache"))
    log = tiny_dataset.log.select("user_id", "item_id", "timestamp", "label")
    log.write_csv(tmp_path / "log.csv")
    tiny_dataset.items.select("item_id", "title").write_csv(tmp_path / "items.csv")
    settings = {
        "data": {
            "source": "tables", "interactions": {"path": str(tmp_path / "log.csv")},
            "items": {"path": str(tmp_path / "items.csv")}, "label": "label", "text": {"encoder": "none"},
        },
        "crm": {"embedding_size": 4, "hidden": [8], "epochs": 1}, "llm": {"backbone": str(tiny_backbone_folder)},
        "joint": {"stage2_targets": 20, "stage3_targets": 20},
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    config = load_config(tmp_path / "c.yaml")
    train_run(tmp_path / "run", config, Said())
    (tmp_path / "log.csv").touch()  # the same content
    said = Said()
    train_run(tmp_path / "run", config, said)
    assert any("trained already" in line for line in said.lines)
    with (tmp_path / "log.csv").open("a") as file:
        file.write(f"{log['user_id'][0]},{log['item_id'][5]},99999,1\n")
    with pytest.raises(
        UserError, match=r"trained already, on data that have changed since \(.*log\.csv\); choose another"
    ):
        train_run(tmp_path / "run", config, said)


def test_a_full_disk_is_told_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the writer makes of it."""
    for error in (
        OSError(28, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ):
        with pytest.raises(UserError, match=r"a\.txt: No space left on device"), atomic_path(tmp_path / "a.txt"):
            raise error
        with pytest.raises(UserError, match=r"model: No space left on device"), new_folder(tmp_path / "model"):
            raise shutil.Error([("from", "to", str(error))])
    assert list(tmp_path.iterdir()) == []
    assert refusal(RuntimeError("parquet: File out of specification"), tmp_path / "a") is None
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    assert refusal(RuntimeError("parquet: File out of specification"), tmp_path / "a") == (
        f"{tmp_path / 'a'}: No space left on device"
    )


def test_a_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("data:\n  source: tables\nseed: 1\ndata:\n  source: ml-100k\n")
    with pytest.raises(UserError, match=r"c\.yaml: line 4: 'data' comes twice \(first in line 1\)"):
        load_config(path)
    path.write_text("data:\n  label: label\n  source: ml-100k\n  label: rating >= 4\n")
    with pytest.raises(UserError, match=r"line 4: 'label' comes twice \(first in line 2\)"):
        load_config(path)


def test_quotes_of_a_dump_swallow_no_rows_to_score(run: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    """A .tsv that knows no quotes is read without them; of a .csv whose quotes go over line ends it is told."""
    users, items = tiny_dataset.users["user_id"], tiny_dataset.items["item_id"]
    notes = ['"a', "b", 'c"']
    for suffix, mark, rows in ((".tsv", "\t", 3), (".csv", ",", 1)):
        source = tmp_path / f"rows{suffix}"
        lines = [mark.join((users[n], items[n], note)) for n, note in enumerate(notes)]
        source.write_text("\n".join([mark.join(("user_id", "item_id", "note")), *lines]) + "\n")
        said = Said()
        assert score_file(run, source, tmp_path / f"out{suffix}", reporter=said) == rows
        assert any("lines hold" in line for line in said.lines) == (suffix == ".csv")

"""Tables in an object store: a real server that speaks S3, on this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_parts import assert_same, cut_into, random_rows, written
from typer.testing import CliRunner

from corella.cli import app
from corella.config import TableConfig
from corella.data.prepare import prepare, prepare_in_parts
from corella.data.store import load_prepared
from corella.data.tables.read import read_table
from corella.data.tables.remote import fetched, sent
from corella.errors import UserError


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("logs")
        yield "s3://logs"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def put(path: Path, url: str) -> None:
    import s3fs

    s3fs.S3FileSystem().put_file(str(path), url)


def test_what_changed_is_copied_again(bucket: str, tmp_path: Path) -> None:
    for name, text in (("1.csv", "user_id,item_id\n1,a\n"), ("2.csv", "user_id,item_id\n2,b\n")):
        (tmp_path / name).write_text(text)
        put(tmp_path / name, f"{bucket}/some/{name}")
    copies = tmp_path / "copies"
    first, second = fetched(f"{bucket}/some/*.csv", copies)
    assert (first.name, second.read_text()) == ("1.csv", "user_id,item_id\n2,b\n")
    stamps = [file.stat().st_mtime_ns for file in (first, second)]
    (tmp_path / "2.csv").write_text("user_id,item_id\n2,c\n3,c\n")
    put(tmp_path / "2.csv", f"{bucket}/some/2.csv")
    assert fetched(f"{bucket}/some/*.csv", copies)[0].stat().st_mtime_ns == stamps[0]
    assert second.read_text() == "user_id,item_id\n2,c\n3,c\n"
    import s3fs

    s3fs.S3FileSystem().rm_file(f"{bucket}/some/1.csv")
    assert fetched(f"{bucket}/some/*.csv", copies) == [second] and not first.exists()
    with pytest.raises(UserError, match=r"s3://logs/none: no file there"):
        fetched(f"{bucket}/none")
    with pytest.raises(UserError, match=r"s3://no-such-bucket"):
        fetched("s3://no-such-bucket/log/*.parquet")


def test_a_log_in_a_store_is_prepared_into_a_store(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORELLA_CACHE", str(tmp_path / "cache"))
    config = written(tmp_path, random_rows(np.random.default_rng(5), 200), 2)
    for file in [*(tmp_path / "in").iterdir(), tmp_path / "items.parquet", tmp_path / "users.parquet"]:
        put(file, f"{bucket}/{'log/' if file.parent.name == 'in' else ''}{file.name}")
    away = {"interactions": f"{bucket}/log", "items": f"{bucket}/items.parquet", "users": f"{bucket}/users.parquet"}
    tables = {name: TableConfig(url=url) for name, url in away.items()}
    prepare(config, 1, tmp_path / "here")
    with cut_into(60, 3, 2, 2, 3):
        prepare_in_parts(config.model_copy(update={**tables, "memory": 1.0}), 1, tmp_path / "there")
    assert_same(load_prepared(tmp_path / "there"), load_prepared(tmp_path / "here"))
    files = sum(file.is_file() for file in (tmp_path / "there").rglob("*"))
    assert (
        sent(tmp_path / "there", f"{bucket}/prepared") == files - 1
        and sent(tmp_path / "there", f"{bucket}/prepared") == 0
    )
    import s3fs

    s3fs.S3FileSystem().get(f"{bucket}/prepared", str(tmp_path / "back"), recursive=True)
    assert_same(load_prepared(tmp_path / "back"), load_prepared(tmp_path / "here"))


def test_one_command(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORELLA_CACHE", str(tmp_path / "cache"))
    random_rows(np.random.default_rng(5), 200).write_parquet(tmp_path / "one.parquet")
    put(tmp_path / "one.parquet", f"{bucket}/one.parquet")
    settings = ["data.source=tables", f"data.interactions.url={bucket}/one.parquet", "data.label=label",
                "data.text.encoder=none", "data.memory=1"]  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(app, ["prepare", "--out", f"{bucket}/made", *words])
    assert result.exit_code == 0, result.output
    assert "files written to s3://logs/made" in result.output


def test_any_other_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORELLA_CACHE", str(tmp_path / "cache"))
    pl.DataFrame({"user_id": [1], "item_id": ["a"]}).write_parquet(tmp_path / "one.parquet")
    read = read_table(TableConfig(url=f"file://{tmp_path}/one.parquet")).frame
    assert read["item_id"].to_list() == ["a"]
    assert os.environ["CORELLA_CACHE"] in str(fetched(f"file://{tmp_path}/one.parquet")[0])
    for wrong in ("bucket/log", "s3://key:secret@bucket/log"):
        with pytest.raises(ValueError, match="keys of the store come from the environment"):
            TableConfig(url=wrong)

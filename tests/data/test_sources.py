"""Every file format yields the same table, and a wrong column is named with the nearest right one."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from corella.columns import FILE_ROW
from corella.config import TableConfig
from corella.data.sources import read_table, split_list
from corella.errors import UserError

TABLE = pl.DataFrame({"user_id": ["u1", "u2"], "movie": ["7", "8"], "genres": ["Drama| War", ""]})


def _atomic(path: Path) -> None:
    rows = ["\t".join(row) for row in TABLE.rows()]
    path.write_text("\n".join(["user_id:token\tmovie:token\tgenres:token_seq", *rows]) + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "log.parquet": TABLE.write_parquet,
    "log.csv": TABLE.write_csv,
    "log.tsv": lambda path: TABLE.write_csv(path, separator="\t"),
    "log.inter": _atomic,
}


@pytest.mark.parametrize("name", WRITERS)
def test_formats(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    config = TableConfig(path=path, columns={"item_id": "movie"}, lists={"genres": "|"})
    frame = read_table(config)
    assert frame[FILE_ROW].to_list() == [2, 3]
    assert frame.drop(FILE_ROW).rows() == [("u1", "7", ["Drama", "War"]), ("u2", "8", [])]
    assert set(frame.columns) == {FILE_ROW, "user_id", "item_id", "genres"}


def test_other_separators_and_encodings(tmp_path: Path) -> None:
    """Both can be set, and whoever has not is told which."""
    path = tmp_path / "films.csv"
    path.write_bytes("movie;title\n7;Am\u00e9lie, in Paris\n".encode("latin-1"))
    frame = read_table(TableConfig(path=path, separator=";", encoding="ISO-8859-1", columns={"item_id": "movie"}))
    assert frame.drop(FILE_ROW).rows() == [("7", "Am\u00e9lie, in Paris")]
    with pytest.raises(UserError, match=r"name its encoding, e\.g\. `encoding: latin-1`"):
        read_table(TableConfig(path=path, separator=";"))
    with pytest.raises(UserError, match=r"begins with 'movie;title'; if ';' .* write `separator: \";\"`"):
        read_table(TableConfig(path=path, encoding="latin-1"))
    tabs = tmp_path / "films.txt"
    tabs.write_text("movie\ttitle\n7\tHeat\n")
    with pytest.raises(UserError, match=r"write `separator: \"\\t\"`"):
        read_table(TableConfig(path=tabs))
    one = tmp_path / "one.csv"
    one.write_text("item_id\n7\n")
    assert read_table(TableConfig(path=one))["item_id"].to_list() == ["7"]
    atomic = tmp_path / "films.item"
    atomic.write_bytes("item_id:token\ttitle:token_seq\n7\tAm\u00e9lie\n".encode("latin-1"))
    assert read_table(TableConfig(path=atomic, encoding="latin-1"))["title"].to_list() == ["Am\u00e9lie"]
    with pytest.raises(UserError, match="name its encoding"):
        read_table(TableConfig(path=atomic))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"encoding": "utf-ate"}, "no encoding of texts"),
        ({"encoding": "base64"}, "no encoding of texts"),
        ({"separator": "\u00a7"}, "String should match pattern"),
        ({"separator": "::"}, "String should match pattern"),
        ({"path": Path("x.parquet"), "separator": ";"}, "`separator` belongs to"),
        ({"path": Path("x.inter"), "separator": ";"}, "`separator` belongs to"),
        ({"path": Path("x.parquet"), "encoding": "latin-1"}, "`encoding` belongs to"),
    ],
)
def test_settings_of_text_files(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TableConfig(**{"path": Path("x.csv"), **given})


def test_database(tmp_path: Path) -> None:
    pytest.importorskip("connectorx")
    pytest.importorskip("pyarrow")
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table answers (person text, item_id integer, label integer)")
        connection.executemany("insert into answers values (?, ?, ?)", [("a", 1, 1), ("b", 2, 0)])
    uri = f"sqlite://{path}"
    frame = read_table(TableConfig(uri=uri, query="select * from answers", columns={"user_id": "person"}))
    assert frame.select("user_id", "item_id", "label").rows() == [("a", 1, 1), ("b", 2, 0)]
    with pytest.raises(UserError, match="the database query failed") as caught:
        read_table(TableConfig(uri=uri, query="select * from nothing"))
    assert str(path) not in str(caught.value)  # a URI may hold a password


def test_wrong_column_is_suggested(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    TABLE.write_csv(path)
    with pytest.raises(UserError, match=r"log\.csv: no column 'movei' \(for item_id\); did you mean 'movie'\?"):
        read_table(TableConfig(path=path, columns={"item_id": "movei"}))
    with pytest.raises(UserError, match=r"no column 'genre' to split into a list; did you mean 'genres'\?"):
        read_table(TableConfig(path=path, lists={"genre": "|"}))


def test_renaming_over_an_existing_column_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    TABLE.write_csv(path)
    frame = read_table(TableConfig(path=path, columns={"user_id": "movie"}))
    assert frame["user_id"].to_list() == ["7", "8"]


def test_two_columns_may_change_places(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    TABLE.write_csv(path)
    frame = read_table(TableConfig(path=path, columns={"user_id": "movie", "movie": "user_id"}))
    assert frame.select("user_id", "movie").rows() == [("7", "u1"), ("8", "u2")]


def test_a_column_that_is_a_list_already_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": [1], "genres": [["Drama", "War"]]}).write_parquet(path)
    frame = read_table(TableConfig(path=path, lists={"genres": "|"}))
    assert frame["genres"].to_list() == [["Drama", "War"]]


def test_missing_unknown_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv does not exist"):
        read_table(TableConfig(path=tmp_path / "none.csv"))
    for name in ("log.json", "broken.parquet", "empty.csv", "empty.inter"):
        (tmp_path / name).write_text("" if "empty" in name else "not a table", encoding="utf-8")
        with pytest.raises(UserError, match=name):
            read_table(TableConfig(path=tmp_path / name))


def test_split_list_trims_and_drops_empty_parts() -> None:
    column = pl.Series("v", ["a | b||", None, " "])
    assert pl.select(split_list(pl.lit(column), "|")).to_series().to_list() == [["a", "b"], [], []]

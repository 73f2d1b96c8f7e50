"""Whatever a table is written in, what is read is what was written; or an error names the line and what mends it."""

import gzip
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from corella.columns import FILE_ROW
from corella.config import TableConfig
from corella.data.tables.lists import split_list
from corella.data.tables.read import read_table as read
from corella.errors import UserError


def read_table(config: TableConfig) -> pl.DataFrame:
    """What is read where nothing is to be warned of."""
    table = read(config)
    assert table.warnings == []
    return table.frame


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
    assert frame[FILE_ROW].to_list() == ([1, 2] if name == "log.parquet" else [2, 3])  # the lines of a text file
    assert frame.drop(FILE_ROW).rows() == [("u1", "7", ["Drama", "War"]), ("u2", "8", [])]
    assert set(frame.columns) == {FILE_ROW, "user_id", "item_id", "genres"}


def test_other_separators_and_encodings(tmp_path: Path) -> None:
    """Both can be set, and whoever has not is told which."""
    path = tmp_path / "films.csv"
    path.write_bytes("movie;title\n7;Am\u00e9lie, in Paris\n".encode("latin-1"))
    frame = read_table(TableConfig(path=path, separator=";", encoding="ISO-8859-1", columns={"item_id": "movie"}))
    assert frame.drop(FILE_ROW).rows() == [("7", "Am\u00e9lie, in Paris")]
    with pytest.raises(UserError, match=r"name its encoding beside its path: `encoding: cp1252`"):
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
        ({"separator": ""}, "at least 1 character"),
        ({"quote": "ab"}, "String should match pattern"),
        ({"path": Path("x.jsonl"), "header": False}, "`header` belongs to"),
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


# Text files as people have them: (file name, content, settings, what is read).

_PLAIN = [("1", "Heat"), ("2", "Alien")]
_FILES: list[tuple[str, bytes, dict[str, Any], list[tuple[str | None, ...]]]] = [
    ("a.CSV", b"item_id,title\n1,Heat\n2,Alien\n", {}, _PLAIN),
    ("a.csv", b"\xef\xbb\xbfitem_id,title\r\n1,Heat\r\n2,Alien\r\n", {}, _PLAIN),
    ("a.csv", "item_id,title\n1,Heat\n2,Alien\n".encode("utf-16"), {}, _PLAIN),
    ("a.csv.gz", gzip.compress(b"item_id,title\n1,Heat\n2,Alien\n", mtime=0), {}, _PLAIN),
    ("a.dat", b"item_id::title\n1::Heat\n2::Alien\n", {}, _PLAIN),
    ("a.dat", b"1::Heat\n2::Alien\n", {"header": ["item_id", "title"]}, _PLAIN),
    ("a.txt", b"1::Heat\n2::Alien\n", {"header": ["item_id", "title"], "separator": "::"}, _PLAIN),
    ("a.csv", b"1,Heat\n2,Alien\n", {"header": False, "columns": {"item_id": "column_1", "title": "column_2"}}, _PLAIN),
    ("a.txt", b"item_id\ttitle\n1\tHeat\n2\tAlien\n", {"separator": "\\t"}, _PLAIN),
    ("a.csv", b"item_id,title\n1,Heat\n\n2,Alien\n\n", {}, _PLAIN),
    ("a.csv", b'item_id,title\n1,"Heat, the film"\n2,"a ""b"" c"\n', {}, [("1", "Heat, the film"), ("2", 'a "b" c')]),
    ("a.csv", b"item_id,title\n1,'Heat, a'\n", {"quote": "'"}, [("1", "Heat, a")]),
    ("a.csv", b'item_id,title\n1,"Heat" x\n', {"quote": "none"}, [("1", '"Heat" x')]),
    ("a.tsv", b'item_id\ttitle\n1\t"Heat" x\n2\tAlien\n', {}, [("1", '"Heat" x'), ("2", "Alien")]),
    ("a.tsv", b'item_id\ttitle\n1\t"Heat\n2\tAlien\n3\tUp"\n', {}, [("1", '"Heat'), ("2", "Alien"), ("3", 'Up"')]),
    ("a.tsv", b'item_id\ttitle\n1\t"Heat"\n', {}, [("1", "Heat")]),
    ("a.jsonl", b'{"item_id": "1", "title": "Heat"}\n{"item_id": "2", "title": "Alien"}\n', {}, _PLAIN),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "given", "rows"), _FILES)
def test_files_as_people_have_them(
    tmp_path: Path, name: str, content: bytes, given: dict[str, Any], rows: list[tuple[str | None, ...]]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_table(TableConfig(path=tmp_path / name, **given)).select("item_id", "title").rows() == rows


@pytest.mark.parametrize(
    ("name", "content", "given", "said"),
    [
        (
            "a.csv",
            b"item_id,title\n1,Heat\n2,Alien, the first\n",
            {},
            r"a\.csv, line 3: 3 fields, the header has 2: '2,Al",
        ),
        ("a.csv", b'item_id,title\n1,"Heat" x\n', {}, r"a\.csv, line 2: a quote within a field.*`quote: none`"),
        ("a.csv", b"1,Heat\n2,Alien\n3,7\n", {"columns": {"item_id": "movie"}}, "no column 'movie'"),
        ("a.csv", b"1,5,1600000000\n2,4,1600000000\n", {}, r"first line looks like data.*`header: \[user_id, item_id"),
        (
            "a.csv",
            b"item_id,title,title\n1,Heat,Up\n",
            {},
            r"line 1: column 'title' comes more than once \(columns 2 and 3",
        ),
        ("a.csv", b"item_id,title\n1,Am\xe9lie\n", {}, r"line 2 is not UTF-8: .*`encoding: cp1252`"),
        ("a.csv", b"1,Heat\n", {"header": ["item_id"]}, "`header` names 1 columns, the first line has 2"),
        ("a.csv", b"\n1,Heat\n", {}, "its first line is empty"),
        ("a.xlsx", b"", {}, r"unknown format '\.xlsx'; use \.parquet, \.csv"),
    ],
)
def test_mistakes_are_named_with_their_line(
    tmp_path: Path, name: str, content: bytes, given: dict[str, Any], said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        read(TableConfig(path=tmp_path / name, **given))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'item_id,title\n1,"Heat\n2,Alien\n3,Up"\n4,It\n', "5 lines hold 3 rows.*the first in line 2.*`quote: none`"),
        (b"item_id,title\n1,Heat\n2\n", "1 lines have fewer fields than the header's 2, the first in line 3: '2'"),
        (b"item_id,title\n1,Heat\n2,nan\n3,<NA>\n", r"column title: 2 values like 'nan' \(row 3\) are read as missing"),
    ],
)
def test_what_may_be_wrong_is_warned_of(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    (warning,) = read(TableConfig(path=tmp_path / "a.csv")).warnings
    assert re.search(said, warning)


def test_spellings_of_nothing_are_names_where_the_settings_say_so(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["1", "2"], "title": ["None", "null "]}).write_parquet(tmp_path / "a.parquet")
    assert read(TableConfig(path=tmp_path / "a.parquet")).frame["title"].to_list() == [None, None]
    kept = read_table(TableConfig(path=tmp_path / "a.parquet", missing=[]))
    assert kept["title"].to_list() == ["None", "null "]


def test_several_files_are_one_table(tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / f"log-{n}.csv").write_text(f"user_id,item_id\nu{n},i\n")
    wanted = [("u1", "i"), ("u2", "i")]
    folder = tmp_path / "parts"
    folder.mkdir()
    for n in (1, 2):
        pl.DataFrame({"user_id": [f"u{n}"], "item_id": ["i"]}).write_parquet(folder / f"{n}.parquet")
    for path in (tmp_path / "log-*.csv", [tmp_path / "log-1.csv", tmp_path / "log-2.csv"], folder):
        table = read_table(TableConfig(path=path))  # type: ignore[arg-type]
        assert table.select("user_id", "item_id").rows() == wanted
    (tmp_path / "log-2.csv").write_text("user,item_id\nu2,i\n")
    with pytest.raises(UserError, match=r"log-2\.csv: its columns are not those of .*log-1\.csv: 'user'"):
        read_table(TableConfig(path=tmp_path / "log-*.csv"))
    with pytest.raises(UserError, match="no file matches"):
        read_table(TableConfig(path=tmp_path / "nothing-*.csv"))


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.csv").write_text("item_id\n1\n")
    assert read_table(TableConfig(path=Path("~/a.csv")))["item_id"].to_list() == ["1"]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["a|b", "c"], [["a", "b"], ["c"]]),
        (["['a', 'b']", "[]"], [["a", "b"], []]),
        (['["a", "b|c"]', None], [["a", "b|c"], []]),
        (["[a| b]", "['x"], [["a", "b"], ["['x"]]),
    ],
)
def test_lists_in_any_form(tmp_path: Path, values: list[str | None], wanted: list[list[str]]) -> None:
    pl.DataFrame({"item_id": range(len(values)), "genres": values}).write_csv(tmp_path / "a.csv")
    frame = read_table(TableConfig(path=tmp_path / "a.csv", lists={"genres": "|"}))
    assert frame["genres"].to_list() == wanted
    fixed = pl.DataFrame({"item_id": [1], "genres": pl.Series([["a", "b"]], dtype=pl.Array(pl.String, 2))})
    fixed.write_parquet(tmp_path / "a.parquet")
    assert read_table(TableConfig(path=tmp_path / "a.parquet"))["genres"].to_list() == [["a", "b"]]


_TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12).filter(
    lambda text: text.strip() == text and text not in TableConfig(path=Path("x.csv")).missing
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(_TEXT, _TEXT, st.integers(-(2**40), 2**40)), min_size=1, max_size=8),
    written=st.sampled_from([",", ";", "|", "::", "parquet", "jsonl", "gz", "latin"]),
)
def test_what_is_read_is_what_was_written(tmp_path: Path, rows: list[tuple[str, str, int]], written: str) -> None:
    table = pl.DataFrame(rows, schema=["user_id", "title", "n"], orient="row")
    given: dict[str, Any] = {}
    if written == "parquet":
        table.write_parquet(path := tmp_path / "t.parquet")
    elif written == "jsonl":
        table.write_ndjson(path := tmp_path / "t.jsonl")
    elif written == "::":
        assume(not any("::" in text or text.endswith(":") for row in rows for text in row[:2]))
        assume(not any(text.startswith(":") for row in rows for text in row[:2]))
        lines = ["user_id::title::n", *(f"{u}::{t}::{n}" for u, t, n in rows)]
        (path := tmp_path / "t.dat").write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif written == "gz":
        (path := tmp_path / "t.csv.gz").write_bytes(gzip.compress(table.write_csv().encode()))
    elif written == "latin":
        text = table.write_csv()
        assume(all(ord(letter) < 256 for letter in text))
        (path := tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
        given = {"encoding": "latin-1"}
    else:
        table.write_csv(path := tmp_path / "t.csv", separator=written)
        given = {"separator": written}
    found = read(TableConfig(path=path, **given)).frame
    assert found.select("user_id", "title").rows() == table.select("user_id", "title").rows()
    assert found["n"].cast(pl.Int64).to_list() == table["n"].to_list()
